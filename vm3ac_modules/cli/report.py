"""Make one page of HTML of one run or many; it needs no other file and no network.

    vm3ac report runs/x
    vm3ac report runs/a runs/b zoo/predator_prey_2 out=report.html
    vm3ac report runs/a runs/b marl_eval=results.json

It has learning curves with 95% intervals over seeds, information and correlation of the agents'
actions where vm3ac evaluate measured them, the settings that differ, versions and commits, and a
film of an episode. Runs that differ in their seed alone are one line. A directory with several
seeds stands for all of them. Without out it is written into the run's directory; the report of
several runs, or of an agent of the zoo, to report.html in the current directory.

marl_eval=FILE also writes the evaluations as marl-eval reads them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vm3ac_modules.cli.arguments import run
from vm3ac_modules.files import write_json, write_text
from vm3ac_modules.options import Options, OptionsError, option
from vm3ac_modules.runs import marl_eval_results, report_page
from vm3ac_modules.runs.packed import ZOO, located

__all__ = ["Report", "main"]


@dataclass(frozen=True, kw_only=True)
class Report(Options):
    """Options of ``vm3ac report``."""

    run_dir: str | None = option(None, "directory of a run, or zoo/<name>; more than one may stand")
    out: str | None = option(
        None, "the page; null: report.html in the run's directory, of several or the zoo's here"
    )
    marl_eval: str | None = option(None, "also write the evaluations in marl-eval's form: a file")


def _report(options: Report) -> None:
    sources = str(options.run_dir).split("\n")
    if options.out is not None and not options.out.endswith(".html"):
        raise OptionsError(f"out must end in .html, got {options.out!r}.")
    place = located(sources[0])
    if len(sources) > 1 or place.parent == ZOO:
        place = Path()
    out = place / "report.html" if options.out is None else Path(options.out)
    page = report_page(sources)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, page)
    sys.stdout.write(f"-> {out} ({len(page.encode()) / 1e6:.1f} MB)\n")
    if options.marl_eval is not None:
        write_json(options.marl_eval, marl_eval_results(sources))
        sys.stdout.write(f"-> {options.marl_eval}\n")


def main(arguments: Sequence[str] | None = None, *, program: str = "vm3ac report") -> None:
    """Read a command line, and do what it says.

    Args:
        arguments: the command line; that of the process by default.
        program: its name, for help.
    """
    given = sys.argv[1:] if arguments is None else arguments
    run(_report, program, __doc__, Report, given, of_run=True, many=True)


if __name__ == "__main__":
    main()
