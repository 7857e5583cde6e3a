"""``vm3ac reproduce``: redo a figure or a table of the paper, training what is missing."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from vm3ac_modules.cli.arguments import fail, say
from vm3ac_modules.options import meant

__all__ = ["ARTEFACTS", "main"]

ARTEFACTS = {
    "figure3": "VM3-AC against its baselines on continuous tasks, learning curves",
    "figure4": "VM3-AC on FOP against its baselines on battles, win rates",
    "battle_settings": "what each setting of a CPU preset for battles is worth",
    "figure5": "where predators are five steps after they started at the center",
    "figure6": "what the latent and the temperature do, on multi-walker",
    "table3": "VM3-AC executed with z ~ N(0, I) and with z = E[z]",
    "value_of_correlation": "games whose value no independent policies can reach",
    "known_answers": "small games whose best return is known: who finds it",
    "beta_sweep": "the guard games' values over the temperature",
    "coordination": "mutual information over training, and what a common z is worth",
}
"""What can be made, and what it shows."""


def main(arguments: Sequence[str], program: str = "vm3ac reproduce") -> None:
    """Make a figure or a table.

    Args:
        arguments: its name, then its command line.
        program: how this was called, for help and messages; the name follows.
    """
    name = arguments[0] if arguments else "--help"
    if name in ("-h", "--help"):
        lines = "\n".join(f"  {name:<20} {about}" for name, about in ARTEFACTS.items())
        say(f"{__doc__}\n\n{program} NAME [key=value ...]; NAME --help says more.\n\n{lines}")
        return
    if name not in ARTEFACTS:
        hint = meant(name, ARTEFACTS)
        fail(f"unknown figure or table {name!r}{hint}; valid: {', '.join(ARTEFACTS)}.")
    module = importlib.import_module(f"vm3ac_modules.cli.reproduce.{name}")
    module.main(arguments[1:], f"{program} {name}")
