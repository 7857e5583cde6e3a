"""Numbers as people read them."""

from __future__ import annotations

import math

import pytest

from vm3ac_modules.cli.training import result_line
from vm3ac_modules.evaluation.names import decimals, plus_minus
from vm3ac_modules.runs._evaluating import said_of


@pytest.mark.parametrize(
    ("values", "digits"),
    [
        ((0.3214, 0.0107), 3),
        ((0.0476,), 4),
        ((3e-9,), 6),
        ((1.94, -15.8, 6.2), 1),
        ((-1.94,), 2),
        ((1059.5, 0.2), 1),
        ((0.0, math.nan, math.inf), 1),
        ((), 1),
    ],
)
def test_decimals_show_three_digits_of_the_largest(values, digits):
    assert decimals(*values) == digits


def test_a_return_and_its_interval():
    assert plus_minus(751.83, 61.2) == "751.8 +- 61.2"
    assert plus_minus(0.321, math.nan) == "0.321"
    assert plus_minus(-0.004, 0.0, 2) == "0.00 +- 0.00"


def test_every_line_of_a_game_of_one_step_has_digits():
    row = {"return_mean": 0.329, "return_ci95": 0.011}
    assert said_of(row) == "return 0.329 +- 0.011"
    summary = {"algorithm": "vm3ac", "task": "guard", "frames": 64, "updates": 1}
    summary |= {"eval_return_mean": 0.329, "eval_return_ci95": 0.011, "wall_seconds": 2.0}
    said = result_line({**summary, "random_return_mean": 0.0761})
    assert "vm3ac on guard: return 0.329 +- 0.011 (random policy 0.076)" in said
    battle = {**summary, "random_return_mean": 0.0, "map": "3m", "reward": "sparse"}
    assert "(SMAX, sparse reward)" in result_line({**battle, "backend": "smax"})
    assert "vm3ac on guard: return" in result_line({**battle, "backend": "games"})
