"""Tables and figures of coordination."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from contracts.linear_teams import linear_policy, measure, seen

from vm3ac_modules.evaluation import (
    Coordination,
    categorical_coordination,
    coordination_table,
    evaluation_figure,
)
from vm3ac_modules.evaluation.coordination import report
from vm3ac_modules.evaluation.coordination.report import _heat
from vm3ac_modules.evaluation.names import metric_title


def test_the_table_shows_what_is_undefined_as_a_dash():
    summary = measure(linear_policy([0.03, 0.03]), seen()).summary()
    table = coordination_table(summary)
    assert "0 and 1" in table
    pair = next(line for line in table.splitlines() if "0 and 1" in line).split()
    assert pair[3] == "-"
    assert pair[-1] == f"{summary['common']['agent_correlation'][0][1]:.2f}"
    many = categorical_coordination(torch.zeros(1, 4, 6, 3).log_softmax(-1), torch.zeros(1))
    table = coordination_table(many.summary())
    assert "mean" in table
    assert "normalized information" not in table


@pytest.mark.parametrize("case", ["returns", "note", "gaussian", "categorical"])
def test_one_figure_of_everything(tmp_path, case):
    pytest.importorskip("matplotlib")
    summary = {
        "returns": None,
        "note": Coordination(2, note="undefined: nothing varies").summary(),
        "gaussian": measure(linear_policy([0.03, 0.03]), seen()).summary(),
        "categorical": categorical_coordination(
            torch.zeros(1, 2, 10, 3).log_softmax(-1), torch.zeros(1)
        ).summary(),
    }[case]
    results = {
        "sample": {"return_mean": 1.0, "return_ci95": math.nan},
        "random": {"return_mean": 0.5, "return_ci95": 0.1},
    }
    evaluation_figure(tmp_path / "e.png", results, summary, title=case)
    assert (tmp_path / "e.png").stat().st_size > 0


@pytest.mark.parametrize("column", ["best_response_value", "battle_won"])
def test_what_is_measured_beside_the_return_has_a_panel(tmp_path, monkeypatch, column):
    pytest.importorskip("matplotlib")
    drawn = []
    monkeypatch.setattr(report, "save", lambda figure, paths: drawn.append(figure))
    returns = {"return_mean": 1.0, "return_ci95": 0.1}
    results = {"sample": {**returns, column: 0.7}, "none": {**returns, column: 0.2}}
    evaluation_figure(tmp_path / "e.png", results, None, title="a run")
    _, beside = drawn[0].axes
    assert [bar.get_height() for bar in beside.patches] == [0.7, 0.2]
    assert beside.get_ylabel() == metric_title(column) != column
    evaluation_figure(tmp_path / "e.png", {"sample": returns}, None, title="a run")
    assert len(drawn[1].axes) == 1


def test_numbers_can_be_read_in_every_cell():
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    figure = Figure()
    axes = figure.add_subplot()
    values = np.array([[-2.0, 0.0], [0.5, 1.0]])
    _heat(figure, axes, values, ["0", "1"], "Greys", (0.0, 1.0))
    # An estimate below zero lies on white, as does zero.
    assert [text.get_color() for text in axes.texts] == ["black", "black", "black", "white"]
    axes = figure.add_subplot()
    _heat(figure, axes, values / 2, ["0", "1"], "RdBu_r", (-1.0, 1.0))
    assert [text.get_color() for text in axes.texts] == ["white", "black", "black", "black"]
