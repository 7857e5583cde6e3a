"""vm3ac: train teams that share a random latent, look at them, measure them.

vm3ac play zoo/guard                                   draw a team that is already trained
vm3ac train algorithm=vm3ac_tight task=guard frames=12800 run_dir=runs/guard
vm3ac evaluate run_dir=runs/guard                      returns, and what the actions share
vm3ac COMMAND --help                                   every option of a command
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from vm3ac_modules.cli.arguments import fail
from vm3ac_modules.options import meant

__all__ = ["COMMANDS", "main"]

COMMANDS = {
    "train": ("vm3ac_modules.cli.training:train_main", "train on a task, continuous actions"),
    "battle": (
        "vm3ac_modules.cli.training:battle_main",
        "train on battles and small games of discrete actions",
    ),
    "evaluate": ("vm3ac_modules.cli.evaluate:main", "play a trained run, measure coordination"),
    "play": ("vm3ac_modules.cli.play:main", "draw how a trained agent plays, latent included"),
    "report": ("vm3ac_modules.cli.report:main", "one page on one run or many"),
    "export": ("vm3ac_modules.cli.export:main", "write one file per agent"),
    "decentralize": ("vm3ac_modules.cli.decentralize:main", "a process per agent, and faults"),
    "pack": ("vm3ac_modules.cli.pack:main", "make a run two small files that others can load"),
    "reproduce": ("vm3ac_modules.cli.reproduce:main", "redo a figure or table of the paper"),
    "doctor": ("vm3ac_modules.doctor:main", "what is installed, what is missing, what to do"),
    "completion": ("vm3ac_modules.cli.completion:main", "completion for bash or zsh"),
}
"""Where each command is, and what it does."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command.

    Args:
        arguments: the command line; that of the process by default.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    name = given[0] if given else "--help"
    if name in ("-h", "--help"):
        lines = "\n".join(f"  {name:<13} {about}" for name, (_, about) in COMMANDS.items())
        sys.stdout.write(f"{__doc__}\ncommands:\n{lines}\n")
        return
    if name == "--version":
        import vm3ac_modules

        sys.stdout.write(f"vm3ac {vm3ac_modules.__version__}\n")
        return
    if name not in COMMANDS:
        fail(f"unknown command {name!r}{meant(name, COMMANDS)}; valid: {', '.join(COMMANDS)}.")
    module, function = COMMANDS[name][0].split(":")
    status = getattr(importlib.import_module(module), function)(given[1:])
    if status:
        sys.exit(status)


if __name__ == "__main__":
    main()
