"""The fixture that the package brings to a user's own suite."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]
PLUGIN = "vm3ac_modules.testing.pytest_plugin"
SUITE = """
def test_my_bound(valid_lower_bound):
    valid_lower_bound(lambda game: game.bound(0, 1, game.conditional(1, given=0)))

def test_my_wrong_bound(valid_lower_bound):
    valid_lower_bound(lambda game: game.latent_information(0))
"""


def test_a_suite_of_five_lines(pytester):
    pytester.makepyfile(SUITE)
    result = pytester.runpytest("-p", PLUGIN, "-p", "no:xdist", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["E*AssertionError: the bound of * nats exceeds *Game(*"])
    result.stdout.no_fnmatch_line("*_InvalidBoundError*")
    result.stdout.no_fnmatch_line("*games of valid_lower_bound*")


def test_options_of_the_command_line(pytester):
    pytester.makepyfile(
        """
        def test_counted(valid_lower_bound):
            calls = []
            valid_lower_bound(lambda game: calls.append(game) or 0.0)
            valid_lower_bound(lambda game: calls.append(game) or 0.0, max_examples=6)
            assert len(calls) == 9 + 6
        """
    )
    options = ["--bound-examples", "9", "--bound-coverage"]
    result = pytester.runpytest("-p", PLUGIN, "-p", "no:xdist", "-p", "no:cacheprovider", *options)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["*games of valid_lower_bound*", "9 games, *", "I(a_0; a_1) from *", "6 games, *"]
    )


def test_starting_pytest_imports_nothing_heavy():
    code = (
        f"import sys, {PLUGIN}; "
        "print([m for m in ('torch', 'hypothesis', 'tensordict', 'numpy') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_the_package_names_the_plugin_as_its_module_is_named():
    # Else `-p` and the entry point would register it twice.
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {PLUGIN: PLUGIN}


@pytest.mark.parametrize("word", ["--bound-examples", "--bound-coverage"])
def test_help_says_the_options(pytester, word):
    result = pytester.runpytest("-p", PLUGIN, "--help")
    result.stdout.fnmatch_lines([f"*{word}*"])
