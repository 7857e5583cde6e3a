"""The summary of several seeds."""

from __future__ import annotations

import pytest

pytest.importorskip("scipy")

from vm3ac_modules.runs._report import joined_summary


def test_all_that_was_measured_is_a_mean_over_the_seeds():
    def seed(number, value):
        known = {"seed": number, "frames": 64, "algorithm": "vm3ac", "eval_return_ci95": 0.1}
        measured = ("eval_return_mean", "random_return_mean", "best_response_value", "win_rate")
        return known | dict.fromkeys(measured, value)

    found = joined_summary([seed(3, 0.25), seed(4, 0.75)], 3)
    assert found["eval_return_mean"] == found["best_response_value"] == 0.5
    assert found["win_rate"] == found["random_return_mean"] == 0.5
    # Student's t with one degree of freedom: 12.706 * 0.25.
    assert found["eval_return_ci95"] == pytest.approx(12.7062 * 0.25, rel=1e-4)
    assert (found["seed"], found["frames"], found["algorithm"]) == (3, 64, "vm3ac")
    assert [one["best_response_value"] for one in found["seeds"]] == [0.25, 0.75]
