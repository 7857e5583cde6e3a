"""Recipes as programs, in this process: importing torch in another takes seconds."""

from __future__ import annotations

import contextlib
import io
import runpy
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

RECIPES = Path(__file__).parents[2] / "recipes"


class Done(NamedTuple):
    """How a program ended."""

    returncode: int
    stdout: str
    stderr: str


def run_recipe(name: str, *arguments: str, place: Path) -> Done:
    """Run a script as ``python recipes/NAME`` would.

    Args:
        name: the file.
        arguments: of the command line.
        place: the working directory.

    Returns:
        Exit status and what was written; an exception that leaves the script is raised.
    """
    out, err, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setattr(sys, "argv", [str(RECIPES / name), *arguments])
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                runpy.run_path(str(RECIPES / name), run_name="__main__")
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else int(end.code is not None)
    return Done(code, out.getvalue(), err.getvalue())
