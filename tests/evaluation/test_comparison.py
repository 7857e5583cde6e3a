"""Pictures that compare: what is drawn, in which style, and that grey is enough to read it."""

from __future__ import annotations

import csv
import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from vm3ac_modules.evaluation import (
    AggregatedCurve,
    Estimate,
    bars_figure,
    comparison_figure,
    positions_figure,
    write_curves,
)

axes = pytest.importorskip("matplotlib.axes")
iio = pytest.importorskip("imageio.v3")

X = np.array([0.0, 50.0, 100.0])


def curve(level, half=1.0, seeds=3):
    mean, iqm = X / 100 + level, X / 100 + level + 10
    return AggregatedCurve(seeds, X, mean, mean - half, mean + half, iqm, iqm - half, iqm + half)


@pytest.fixture
def drawn(monkeypatch):
    """Arguments of every call of these methods of Axes."""
    calls = {name: [] for name in ("plot", "fill_between", "bar", "scatter")}
    for name, kept in calls.items():
        original = getattr(axes.Axes, name)

        def record(self, *args, original=original, kept=kept, **kwargs):
            kept.append((self.get_title(), args, kwargs))
            return original(self, *args, **kwargs)

        monkeypatch.setattr(axes.Axes, name, record)
    return calls


def test_every_panel_has_a_line_and_a_band_per_label(tmp_path, drawn):
    panels = {"one": {"a": curve(0), "b": curve(1)}, "two": {"b": curve(2)}}
    comparison_figure(tmp_path / "a.png", panels)
    shown = [(title, options["label"], list(y)) for title, (x, y), options in drawn["plot"]]
    assert shown == [
        ("one", "a", [0.0, 0.5, 1.0]),
        ("one", "b", [1.0, 1.5, 2.0]),
        ("two", "b", [2.0, 2.5, 3.0]),
    ]
    bands = [[list(end) for end in args[1:]] for _, args, _ in drawn["fill_between"]]
    assert bands[0] == [[-1.0, -0.5, 0.0], [1.0, 1.5, 2.0]]
    styles = [tuple(options[k] for k in ("color", "ls", "marker")) for *_, options in drawn["plot"]]
    assert styles[1] == styles[2] != styles[0]
    assert iio.imread(tmp_path / "a.png").std() > 10


def test_the_interquartile_mean_on_request(tmp_path, drawn):
    comparison_figure(tmp_path / "a.png", {"one": {"a": curve(0)}}, statistic="iqm")
    assert list(drawn["plot"][0][1][1]) == [10.0, 10.5, 11.0]
    assert list(drawn["fill_between"][0][1][1]) == [9.0, 9.5, 10.0]


def test_eight_labels_differ_in_more_than_color(tmp_path, drawn):
    labels = {f"label {k}": curve(k) for k in range(8)}
    comparison_figure(tmp_path / "a.png", {"one": labels})
    for name in ("ls", "marker"):
        assert len({str(options[name]) for *_, options in drawn["plot"]}) == 8
    bars_figure(tmp_path / "b.png", {"one": dict.fromkeys(labels, Estimate(1, 0, 2))}, ylabel="y")
    assert len({options["hatch"] for *_, options in drawn["bar"]}) == 8


def test_known_heights_are_drawn_across_the_bars(tmp_path, monkeypatch):
    drawn = []
    original = axes.Axes.axhline

    def record(self, y, **style):
        drawn.append((self.get_title(), y))
        return original(self, y, **style)

    monkeypatch.setattr(axes.Axes, "axhline", record)
    bars = {"one": {"a": Estimate(1, 0, 2)}, "two": {"a": Estimate(1, 0, 2)}}
    lines = {"two": {"the most": 0.75, "without": 0.25}}
    bars_figure(tmp_path / "a.png", bars, ylabel="y", lines=lines)
    assert drawn == [("one", 0.0), ("two", 0.75), ("two", 0.25), ("two", 0.0)]


def test_the_legend_says_how_many_seeds(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    said = []
    original = Figure.legend

    def record(self, handles, names, **options):
        said.extend(names)
        return original(self, handles, names, **options)

    monkeypatch.setattr(Figure, "legend", record)
    one, three = curve(0, math.nan, seeds=1), curve(1, seeds=3)
    comparison_figure(tmp_path / "a.png", {"p": {"a": one, "b": three}, "q": {"b": curve(0, 1, 7)}})
    assert said == ["a, 1 seed", "b, 3-7 seeds"]


def test_one_seed_has_no_band(tmp_path):
    pictures = []
    for half in (1.0, math.nan):
        comparison_figure(tmp_path / "a.png", {"one": {"a": curve(0, half)}})
        pictures.append(iio.imread(tmp_path / "a.png")[..., :3].astype(int))
    # The band is the line's blue, pale.
    pale = [((p[..., 2] - p[..., 0] > 25) & (p[..., 0] > 150)).sum() for p in pictures]
    assert pale[0] > 3000
    assert pale[1] < 500


def test_curves_as_numbers(tmp_path):
    path = tmp_path / "curves.csv"
    write_curves(path, {"one": {"a": curve(0)}, "two": {"b": curve(2, math.nan, seeds=1)}})
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert len(rows) == 6
    numbers = ("frames", "mean", "mean_low", "mean_high", "iqm", "iqm_low", "iqm_high")
    assert [rows[1][k] for k in ("panel", "label", "seeds")] == ["one", "a", "3"]
    assert [float(rows[1][k]) for k in numbers] == [50.0, 0.5, -0.5, 1.5, 10.5, 9.5, 11.5]
    assert rows[5]["mean_low"] == "nan"


def test_bars_have_their_own_intervals(tmp_path, drawn):
    bars = {"a": Estimate(3.0, 2.5, 4.0), "b": Estimate(1.0, math.nan, math.nan)}
    bars_figure(tmp_path / "a.png", {"one": bars, "two": {"b": Estimate(2.0, 2.0, 2.0)}}, ylabel="")
    heights = [args[1] for _, args, _ in drawn["bar"]]
    errors = [options["yerr"] for *_, options in drawn["bar"]]
    assert heights == [3.0, 1.0, 2.0]
    assert errors == [[[0.5], [1.0]], None, [[0.0], [0.0]]]
    hatches = [options["hatch"] for *_, options in drawn["bar"]]
    assert hatches[1] == hatches[2] != hatches[0]


def test_positions(tmp_path, drawn):
    preys = torch.tensor([[0.3, 0.4]])
    places = torch.zeros(3, 2, 2)
    places[0, 1] = torch.tensor([0.1, -0.2])
    rows = {"vm3ac": {"seed 0": places, "seed 1": places}, "ma_sac": {"seed 1": places}}
    positions_figure(tmp_path / "a.png", rows, preys, half_width=0.5)
    titles = [title for title, _, options in drawn["scatter"] if options["c"] == "black"]
    assert titles == ["VM3-AC, seed 0", "VM3-AC, seed 1", "MA-SAC, seed 0", "MA-SAC, seed 1"]
    panel = [(a, o) for title, a, o in drawn["scatter"] if title == "VM3-AC, seed 0"]
    # Preys; then, for each of two agents, the other episodes and the first.
    assert [len(np.atleast_1d(x)) for (x, _), _ in panel] == [1, 2, 1, 2, 1]
    assert panel[0][1]["marker"] == "s"
    assert panel[2][1]["marker"] != panel[4][1]["marker"]
    x, y = panel[4][0]
    assert (float(x[0]), float(y[0])) == pytest.approx((0.1, -0.2))
    # A run that is missing leaves its panel to the preys.
    assert len([t for t, *_ in drawn["scatter"] if t == "MA-SAC, seed 0"]) == 1


def test_nothing_to_draw(tmp_path):
    with pytest.raises(ValueError, match="at least one curve"):
        comparison_figure(tmp_path / "a.png", {"one": {}})
    with pytest.raises(ValueError, match="at least one bar"):
        bars_figure(tmp_path / "a.png", {}, ylabel="y")
    with pytest.raises(ValueError, match="at least one panel"):
        positions_figure(tmp_path / "a.png", {}, torch.zeros(1, 2), half_width=1.0)
    wrong = {"a": {"b": torch.zeros(2, 2)}}
    with pytest.raises(ValueError, match=r"positions must be \[E, N, 2\]"):
        positions_figure(tmp_path / "a.png", wrong, torch.zeros(1, 2), half_width=1.0)


def test_missing_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("vm3ac_modules.extras.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"vm3ac-modules\[recipes\]"):
        comparison_figure(tmp_path / "a.png", {"one": {"a": curve(0)}})


def test_no_display_is_touched(tmp_path):
    code = (
        "import sys, vm3ac_modules.evaluation as e\n"
        "assert 'matplotlib' not in sys.modules\n"
        "bars = {'one': {'a': e.Estimate(1.0, 0.0, 2.0)}}\n"
        f"e.bars_figure(r'{tmp_path}/a.png', bars, ylabel='y')\n"
        "assert 'matplotlib' in sys.modules\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_algorithms_go_by_their_papers_names_and_bands_are_explained(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    said = []
    monkeypatch.setattr(
        Figure, "legend", lambda self, handles, names, **style: said.append((names, style))
    )
    comparison_figure(tmp_path / "a.png", {"one": {"vm3ac": curve(0), "mine": curve(1)}})
    assert said[-1][0] == ["VM3-AC, 3 seeds", "mine, 3 seeds"]
    assert said[-1][1]["title"] == "mean over seeds; shaded: its 95 % interval"
    comparison_figure(tmp_path / "a.png", {"one": {"vm3ac": curve(0, math.nan, seeds=1)}})
    # Nothing is shaded, nothing is explained.
    assert "title" not in said[-1][1]
    bars_figure(tmp_path / "b.png", {"one": {"ma_sac": Estimate(1, 0, 2)}}, ylabel="y")
    assert said[-1][0] == ["MA-SAC"]
    assert "whiskers" in said[-1][1]["title"]


def test_compared_panels_have_one_scale(tmp_path, monkeypatch):
    limits = []
    original = axes.Axes.grid

    def record(self, *args, **kwargs):
        self.figure.canvas.draw()
        limits.append(self.get_ylim())
        return original(self, *args, **kwargs)

    monkeypatch.setattr(axes.Axes, "grid", record)
    bars = {"low": {"a": Estimate(1, 0, 2)}, "high": {"a": Estimate(10, 9, 11)}}
    bars_figure(tmp_path / "a.png", bars, ylabel="y", shared=True)
    alone = limits[-1]
    bars_figure(tmp_path / "a.png", dict(reversed(bars.items())), ylabel="y", shared=True)
    # Whichever is drawn last, the scale is that of the highest.
    assert limits[-1] == alone
    bars_figure(tmp_path / "a.png", dict(reversed(bars.items())), ylabel="y")
    assert limits[-1] != alone


def test_a_figure_in_several_forms(tmp_path):
    paths = [tmp_path / f"a.{form}" for form in ("png", "svg", "pdf")]
    comparison_figure(paths, {"one": {"a": curve(0)}})
    starts = [path.read_bytes()[:5] for path in paths]
    assert [start[:4] for start in starts] == [b"\x89PNG", b"<?xm", b"%PDF"]


def test_positions_have_axes_and_a_legend(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    said = []
    monkeypatch.setattr(
        Figure, "legend", lambda self, handles, names, **style: said.append((names, style["title"]))
    )
    labels = []
    original = Figure.savefig

    def save(self, path):
        labels.extend((a.get_xlabel(), a.get_ylabel(), list(a.get_xticks())) for a in self.axes)
        original(self, path)

    monkeypatch.setattr(Figure, "savefig", save)
    panels = {"vm3ac": {"seed 0": torch.zeros(2, 2, 2)}}
    positions_figure(tmp_path / "a.png", panels, torch.ones(1, 2), half_width=2.0)
    assert said == [(["prey", "agent 0", "agent 1"], "filled: the first episode; pale: the others")]
    assert labels == [("x", "y", [-2.0, 0.0, 2.0])]
