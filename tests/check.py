"""Run the tests of what differs from a branch, the nearest and cheapest first, within a budget.

    python tests/check.py [--against main] [--seconds 100] [--list]

``vm3ac_modules/a/b.py`` has its own test ``tests/a/test_b.py``, its doctests, and the neighbours of
that test; a changed test is run itself, and a changed file of ``tests/contracts`` brings the tests
that import it. The seconds are CPU seconds of one core, as docs/results/suite/cpu_seconds.csv has
them. What does not fit is named, not run.
"""

from __future__ import annotations

import argparse
import csv
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TESTS = ROOT / "tests"
COSTS = ROOT / "docs" / "results" / "suite" / "cpu_seconds.csv"
# Cheap ones that any change of code, options or docs can break.
ALWAYS = ("test_layers.py", "test_docs.py")
UNKNOWN = 5.0


def changed(against: str) -> list[Path]:
    """Files that differ from the branch, or that git does not know yet."""

    def git(*arguments: str) -> list[str]:
        done = subprocess.run(
            ["git", "-C", ROOT, *arguments], check=True, capture_output=True, text=True
        )
        return done.stdout.split("\n")

    [base, *_] = git("merge-base", against, "HEAD")
    names = git("diff", "--name-only", base) + git("ls-files", "--others", "--exclude-standard")
    found = sorted({ROOT / name for name in names if name})
    return [file for file in found if file.is_file()]


def importers(module: str) -> list[Path]:
    """Tests that import a file of ``tests/contracts``, or another of its files that does."""
    word = re.compile(rf"contracts(\.{module}\b| import .*\b{module}\b)")
    found = []
    for file in sorted(TESTS.rglob("*.py")):
        if word.search(file.read_text()):
            shared = file.parent == TESTS / "contracts" and file.stem != module
            found += importers(file.stem) if shared else [file]
    return [file for file in found if file.name.startswith("test_")]


def wanted(files: list[Path]) -> tuple[list[Path], list[Path]]:
    """What must run (tests of the changed files, their doctests), and what may (the neighbours)."""
    must, may = [TESTS / name for name in ALWAYS], []
    for file in files:
        place = file.relative_to(ROOT)
        if place.suffix != ".py":
            continue
        if place.parts[0] == "tests":
            if place.name.startswith("test_"):
                must.append(file)
            elif place.parts[1] == "contracts":
                may += importers(file.stem)
            elif place.name == "conftest.py" and len(place.parts) > 2:
                may += sorted(file.parent.rglob("test_*.py"))
            continue
        if place.parts[0] == "vm3ac_modules":
            must.append(file)
            folder = TESTS.joinpath(*place.parts[1:-1])
        else:
            folder = TESTS / place.parts[0]
        while not folder.is_dir():
            folder = folder.parent
        own = folder / f"test_{file.stem.removeprefix('_')}.py"
        must += [own] if own.is_file() else []
        may += sorted(folder.glob("test_*.py")) if folder != TESTS else []
    unique = dict.fromkeys(must)
    return list(unique), [file for file in dict.fromkeys(may) if file not in unique]


def costs() -> dict[str, float]:
    """CPU seconds of the test files that were measured."""
    with COSTS.open(newline="") as file:
        return {row["file"]: float(row["cpu_seconds"]) for row in csv.DictReader(file)}


def chosen(files: list[Path], seconds: float) -> tuple[list[str], list[str]]:
    """Test files to run, and those that the budget leaves out."""
    known = costs()

    def cost(file: Path) -> float:
        name = str(file.relative_to(ROOT))
        return known.get(name, 0.0 if name.startswith("vm3ac_modules") else UNKNOWN)

    must, may = wanted(files)
    run, left = list(must), []
    spent = sum(cost(file) for file in must)
    for file in sorted(may, key=cost):
        spent += cost(file)
        (run if spent <= seconds else left).append(file)
    names = [[str(file.relative_to(ROOT)) for file in group] for group in (run, left)]
    return names[0], names[1]


def main(arguments: list[str] | None = None) -> int:
    """Say what is run, run it, and say what was left out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", default="main", help="branch or commit")
    parser.add_argument("--seconds", type=float, default=100.0, help="budget for the neighbours")
    parser.add_argument("--list", action="store_true", help="run nothing")
    options = parser.parse_args(arguments)
    run, left = chosen(changed(options.against), options.seconds)
    print("\n".join(run))
    code = 0
    if not options.list:
        command = ["-m", "pytest", "-q", "-n", "2", "--dist", "worksteal", "-m", "not slow"]
        code = subprocess.call([sys.executable, *command, "--doctest-modules", *run], cwd=ROOT)
    if left:
        print(f"left to `make test`: {' '.join(left)}")
    return code


if __name__ == "__main__":
    sys.exit(main())
