"""Break lines of the package one by one, and see that the tests notice.

    python tests/mutations.py docs/results/suite/mutations.csv [--tests before] [--from COMMIT]

A row of the list names a file, the text that is replaced (found once in that file), its
replacement, and the test that must go red. The checkout is copied to a temporary directory; the
torch packages are imported once, and each row runs in a fork of this process. The exit status is
the number of rows whose test stayed green.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("vm3ac_modules", "hydra_plugins", "recipes", "tests", "docs", "conftest.py")
COPIED += ("pyproject.toml", "README.md", "CHANGELOG.md", "Makefile")
# What pytest returns when tests ran and some failed; the rest are errors of usage or collection.
FAILED = 1


def copy_checkout(target: Path, commit: str | None) -> None:
    """The working tree, or what a commit holds, without anything that git does not know."""
    if commit is None:
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(source, target / name, ignore=ignored)
            else:
                shutil.copy(source, target / name)
        return
    archive = subprocess.Popen(["git", "-C", ROOT, "archive", commit], stdout=subprocess.PIPE)
    subprocess.run(["tar", "-x", "-C", target], stdin=archive.stdout, check=True)
    if archive.wait():
        raise SystemExit(f"git knows no commit {commit}")


def mutate(text: str, old: str, new: str, place: str) -> str:
    """The text with one replacement."""
    if text.count(old) != 1 or old == new:
        raise SystemExit(f"{place}: {old!r} stands there {text.count(old)} times; it must be once")
    return text.replace(old, new)


def run_tests(checkout: Path, nodes: list[str], log: Path) -> int:
    """Exit status of pytest in a fork that has the torch packages, and none of ours, loaded."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 70
    try:
        os.chdir(checkout)
        # A line that comes and goes within a second must not be hidden by what was compiled.
        sys.dont_write_bytecode = True
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        sys.path[:0] = [str(checkout), str(checkout / "tests")]
        os.environ["PYTHONPATH"] = f"{checkout}{os.pathsep}{checkout / 'tests'}"
        with log.open("w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            import pytest

            options = ["-q", "-x", "-p", "no:cacheprovider", "--doctest-modules"]
            if not any("xdist" in name for name in sys.modules):
                options += ["-n", "0"]
            status = int(pytest.main([*options, *nodes]))
            sys.stdout.flush()
    finally:
        os._exit(status)


def main(arguments: list[str] | None = None) -> int:
    """Try the list, or some of its rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("list", type=Path)
    parser.add_argument("rows", nargs="*", help="names of rows; all by default")
    parser.add_argument("--tests", choices=("before", "after"), default="after", help="column")
    parser.add_argument("--from", dest="commit", help="take the checkout of a commit")
    chosen = parser.parse_args(arguments)
    with chosen.list.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if not chosen.rows or row["row"] in chosen.rows]
    import tensordict
    import torchrl.collectors
    import torchrl.envs
    import torchrl.objectives  # noqa: F401

    del tensordict
    survived = 0
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        checkout = Path(folder) / "checkout"
        checkout.mkdir()
        copy_checkout(checkout, chosen.commit)
        for row in rows:
            file, log = checkout / row["file"], Path(folder) / "log"
            whole = file.read_text()
            nodes = row[chosen.tests].split()
            file.write_text(mutate(whole, row["old"], row["new"], f"row {row['row']}, {file.name}"))
            status = run_tests(checkout, nodes, log)
            file.write_text(whole)
            survived += status != FAILED
            word = "killed" if status == FAILED else f"SURVIVED ({status})"
            change = f"{row['old']!r} -> {row['new']!r}"
            print(f"{row['row']:>3} {word:12} {row['file']}  {change}", flush=True)
            if status not in (0, FAILED):
                print(log.read_text()[-2000:])
    return survived


if __name__ == "__main__":
    sys.exit(main())
