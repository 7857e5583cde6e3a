"""Pictures that compare algorithms: learning curves, bars, and positions, one panel per case.

A label looks the same in every panel. Its line style and marker, or its hatching, tell it apart as
well as its color: the pictures can be read in grey.

Shapes: E episodes, N agents, M preys, P points of a curve.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from numpy.typing import ArrayLike
from torch import Tensor

from vm3ac_modules.evaluation.curves import AggregatedCurve, aggregate_curves
from vm3ac_modules.evaluation.figures import COLORS, Paths, new_figure, save
from vm3ac_modules.evaluation.names import titles
from vm3ac_modules.evaluation.statistics import Estimate
from vm3ac_modules.files import csv_text, write_text

__all__ = [
    "bars_figure",
    "comparison_figure",
    "positions_figure",
    "write_comparison",
    "write_curves",
]

# Yellow is too pale for a line.
_LINE_COLORS = (*COLORS[:6], "black")
_MARKERS = ("o", "s", "^", "D", "v", "X", "P", "*")
_LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 3)))
_WIDE, _TALL = 30, 26
"""Letters that stand above a panel and beside it."""
_HATCHES = ("", "///", "...", "xxx", "\\\\\\", "ooo", "+++", "---")


def comparison_figure(
    path_png: Paths,
    panels: Mapping[str, Mapping[str, AggregatedCurve]],
    *,
    statistic: Literal["mean", "iqm"] = "mean",
    columns: int = 4,
    ylabel: str | Mapping[str, str] = "return",
    xlabel: str = "environment steps",
    logarithmic: bool = False,
) -> None:
    """Draw one panel of learning curves per task: a line per label and its shaded interval.

    The form of Figure 3 of Kim et al. 2023, https://arxiv.org/abs/2303.00451. One seed has no
    interval, so nothing is shaded there; the legend says how many seeds a line stands for, what
    the line is and what is shaded. Algorithms go by the names that papers give them.

    Args:
        path_png: the picture to write; several for several forms (.png, .svg, .pdf).
        panels: title of each panel -> label -> its curve.
        statistic: what the line is.
        columns: panels side by side.
        ylabel: what the curves are; or by title of the panel, where they differ.
        xlabel: what they are drawn over.
        logarithmic: whether that axis is logarithmic.

    Raises:
        ImportError: if matplotlib is not installed; names the extra.
        ValueError: if there is no curve.

    Example:
        >>> import pytest, tempfile
        >>> _ = pytest.importorskip("matplotlib")
        >>> x = torch.arange(2.0).numpy()
        >>> curve = AggregatedCurve(2, x, x, x - 1, x + 1, x, x - 1, x + 1)
        >>> with tempfile.TemporaryDirectory() as root:
        ...     comparison_figure(f"{root}/a.png", {"a task": {"ma_ac": curve}})
    """
    labels = _labels(panels, "curve")
    figure, places = _grid(list(panels), columns, (3.1, 2.6))
    from matplotlib.ticker import EngFormatter

    for axes, (title, curves) in zip(places, panels.items(), strict=True):
        for label, curve in curves.items():
            middle, low, high = (getattr(curve, statistic + end) for end in ("", "_low", "_high"))
            color, marker, line = _style(labels.index(label))
            axes.fill_between(curve.frames, low, high, color=color, alpha=0.18, lw=0)
            every = max(1, len(curve.frames) // 6)
            style = {"color": color, "ls": line, "marker": marker, "ms": 4, "lw": 1.4}
            axes.plot(curve.frames, middle, label=label, markevery=every, **style)
        if logarithmic:
            axes.set_xscale("log")
        else:
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        height = ylabel if isinstance(ylabel, str) else ylabel[title]
        axes.set(xlabel=xlabel, ylabel=textwrap.fill(height, _TALL))
        axes.grid(alpha=0.3)
    counts = {label: {c[label].seeds for c in panels.values() if label in c} for label in labels}
    named = titles(labels)
    texts = {k: f"{named[k]}, {_range(v)}" for k, v in counts.items()}
    middle = "mean" if statistic == "mean" else "interquartile mean"
    several = max(max(v) for v in counts.values()) > 1
    note = f"{middle} over seeds; shaded: its 95 % interval" if several else ""
    _legend(figure, places, labels, texts, note)
    save(figure, path_png)


def write_curves(path_csv: Path | str, panels: Mapping[str, Mapping[str, AggregatedCurve]]) -> None:
    """Write the numbers of :func:`comparison_figure`, a row per panel, label and frame.

    Args:
        path_csv: the file to write, replaced at once; nan where there is no interval.
        panels: title of each panel -> label -> its curve.

    Example:
        >>> import tempfile
        >>> x = torch.arange(2.0).numpy()
        >>> curve = AggregatedCurve(2, x, x, x - 1, x + 1, x, x - 1, x + 1)
        >>> with tempfile.TemporaryDirectory() as root:
        ...     write_curves(f"{root}/curves.csv", {"a task": {"ma_ac": curve}})
        ...     print(Path(f"{root}/curves.csv").read_text().splitlines()[1])
        a task,ma_ac,2,0,0,-1,1,0,-1,1
    """
    names = list(AggregatedCurve._fields)[1:]
    rows: list[list[Any]] = [["panel", "label", "seeds", *names]]
    for title, curves in panels.items():
        for label, curve in curves.items():
            points = zip(*(getattr(curve, name) for name in names), strict=True)
            rows += [[title, label, curve.seeds, *(f"{v:.8g}" for v in point)] for point in points]
    write_text(path_csv, csv_text(rows))


def write_comparison(
    run_dir: Path | str,
    title: str,
    curves: Mapping[str, Sequence[tuple[ArrayLike, ArrayLike]]],
    *,
    ylabel: str,
) -> dict[str, float]:
    """Write ``curves.csv`` and ``curves.png`` of a comparison, and return its last means.

    Args:
        run_dir: where they are written; made if it is missing.
        title: of the panel.
        curves: label -> frames and values of every seed.
        ylabel: what the values are.

    Returns:
        The mean over seeds at the last common frame, by label.

    Example:
        >>> import pytest, tempfile
        >>> _ = pytest.importorskip("matplotlib"), pytest.importorskip("scipy")
        >>> curves = {"a": [([0, 1], [0.0, 2.0]), ([0, 1], [0.0, 4.0])]}
        >>> with tempfile.TemporaryDirectory() as root:
        ...     write_comparison(root, "a task", curves, ylabel="return")
        {'a': 3.0}
    """
    Path(run_dir).mkdir(parents=True, exist_ok=True)
    panels = {title: {label: aggregate_curves(found) for label, found in curves.items()}}
    write_curves(f"{run_dir}/curves.csv", panels)
    comparison_figure(f"{run_dir}/curves.png", panels, ylabel=ylabel)
    return {label: float(curve.mean[-1]) for label, curve in panels[title].items()}


def bars_figure(
    path_png: Paths,
    panels: Mapping[str, Mapping[str, Estimate]],
    *,
    ylabel: str,
    columns: int = 4,
    lines: Mapping[str, Mapping[str, float]] | None = None,
    shared: bool = False,
) -> None:
    """Draw one panel of bars per case, each bar with its interval.

    Args:
        path_png: the picture to write; several for several forms (.png, .svg, .pdf).
        panels: title of each panel -> label -> its estimate; a nan interval is not drawn.
        ylabel: what the heights are.
        columns: panels side by side.
        lines: title of a panel -> label -> a height that is known, drawn across its bars.
        shared: one scale for all panels, where their heights are to be compared.

    Raises:
        ImportError: if matplotlib is not installed; names the extra.
        ValueError: if there is no bar.

    Example:
        >>> import pytest, tempfile
        >>> _ = pytest.importorskip("matplotlib")
        >>> bars = {"a task": {"ma_ac": Estimate(1.0, 0.5, 2.0)}}
        >>> with tempfile.TemporaryDirectory() as root:
        ...     bars_figure(f"{root}/a.png", bars, ylabel="return")
    """
    labels = _labels(panels, "bar")
    most = max(map(len, panels.values()))
    figure, places = _grid(list(panels), columns, (3.1, 2.8), shared)
    for axes, (title, bars) in zip(places, panels.items(), strict=True):
        for index, (text, height) in enumerate((lines or {}).get(title, {}).items()):
            axes.axhline(height, color="black", ls=_LINES[1 + index % 3], lw=1.2)
            where = {"ha": "right", "va": "bottom", "fontsize": "x-small"}
            axes.annotate(text, (most - 0.45, height), **where)
        for place, (label, bar) in enumerate(bars.items()):
            # An interval may end at the value; rounding may even cross it.
            ends = [[max(0.0, bar.value - bar.low)], [max(0.0, bar.high - bar.value)]]
            error = None if math.isnan(bar.low + bar.high) else ends
            index = labels.index(label)
            style = {"color": COLORS[index % 7], "hatch": _HATCHES[index % 8], "ec": "black"}
            axes.bar(place, bar.value, 0.7, yerr=error, capsize=4, label=label, **style)
        axes.axhline(0.0, color="black", lw=0.8)
        axes.set(xticks=[], xlim=(-0.6, most - 0.4), ylabel=textwrap.fill(ylabel, _TALL))
        axes.grid(axis="y", alpha=0.3)
    several = any(math.isfinite(b.low + b.high) for bars in panels.values() for b in bars.values())
    note = "bars: mean over seeds; whiskers: its 95 % interval" if several else ""
    _legend(figure, places, labels, titles(labels), note)
    save(figure, path_png)


def positions_figure(
    path_png: Paths,
    panels: Mapping[str, Mapping[str, Tensor]],
    preys: Tensor,
    *,
    half_width: float,
) -> None:
    """Draw where the agents are: a row per label, a column per case, preys as black squares.

    The form of Figure 5 of Kim et al. 2023, https://arxiv.org/abs/2303.00451. The first episode is
    drawn filled, the others pale behind it.

    The legend names agents and preys; positions are in the arena's unit.

    Args:
        path_png: the picture to write; several for several forms (.png, .svg, .pdf).
        panels: label of each row -> title of each column -> positions ``[E, N, 2]``.
        preys: positions of the preys ``[M, 2]``.
        half_width: half of the arena's width.

    Raises:
        ImportError: if matplotlib is not installed; names the extra.
        ValueError: if there is no panel, or a shape does not fit.

    Example:
        >>> import pytest, tempfile
        >>> _ = pytest.importorskip("matplotlib")
        >>> still = {"vm3ac": {"seed 0": torch.zeros(1, 4, 2)}}
        >>> with tempfile.TemporaryDirectory() as root:
        ...     positions_figure(f"{root}/a.png", still, torch.ones(1, 2), half_width=1.0)
    """
    figure, places = plane_grid(panels, half_width, labeled=True)
    for axes, positions in places:
        spots = {"s": 22, "c": "black", "marker": "s", "zorder": 1, "label": "prey"}
        axes.scatter(*preys.cpu().numpy().T, **spots)
        if positions is not None:
            _draw_agents(axes, positions)
    drawn = [axes.get_legend_handles_labels()[1] for axes, _ in places]
    labels = list(dict.fromkeys(label for names in drawn for label in names))
    note = "filled: the first episode; pale: the others"
    _legend(figure, [axes for axes, _ in places], labels, {k: k for k in labels}, note)
    save(figure, path_png)


def plane_grid(
    panels: Mapping[str, Mapping[str, Tensor]], half_width: float, *, labeled: bool = False
) -> tuple[Any, list[tuple[Any, Tensor | None]]]:
    """A square of the plane per label (rows) and title (columns), and a list of the panels.

    With ``labeled`` there are coordinates on its edges.
    """
    named = titles(panels)
    columns = list(dict.fromkeys(title for row in panels.values() for title in row))
    if not columns:
        raise ValueError("the figure needs at least one panel.")
    figure = new_figure((2.3 * len(columns) + 0.3, 2.5 * len(panels)), 120)
    grid = figure.subplots(len(panels), len(columns), squeeze=False)
    places = []
    for line, (label, row) in zip(grid, panels.items(), strict=True):
        for axes, title in zip(line, columns, strict=True):
            axes.set(xlim=(-half_width, half_width), ylim=(-half_width, half_width))
            ticks = (-half_width, 0.0, half_width) if labeled else ()
            axes.set(aspect="equal", xticks=ticks, yticks=ticks)
            if labeled:
                axes.set(xlabel="x", ylabel="y")
                axes.tick_params(labelsize=7)
            axes.set_title(f"{named[label]}, {title}", fontsize="small")
            places.append((axes, row.get(title)))
    return figure, places


def _draw_agents(axes: Any, positions: Tensor) -> None:
    if positions.ndim != 3 or positions.shape[-1] != 2 or len(positions) == 0:
        raise ValueError(f"positions must be [E, N, 2] with E > 0, got {list(positions.shape)}.")
    for agent, path in enumerate(positions.detach().cpu().numpy().transpose(1, 2, 0)):
        color, marker, _ = _style(agent)
        axes.scatter(*path[:, 1:], s=16, c=color, marker=marker, alpha=0.35, lw=0, zorder=2)
        first = {"s": 48, "c": color, "marker": marker, "edgecolors": "black", "zorder": 3}
        first["label"] = f"agent {agent}"
        axes.scatter(*path[:, :1], **first)


def _labels(panels: Mapping[str, Mapping[str, Any]], thing: str) -> list[str]:
    labels = list(dict.fromkeys(label for row in panels.values() for label in row))
    if not labels:
        raise ValueError(f"the figure needs at least one {thing}.")
    return labels


def _style(index: int) -> tuple[str, str, Any]:
    # Seven colors, eight markers and lines: the first repetition is label 57.
    return _LINE_COLORS[index % 7], _MARKERS[index % 8], _LINES[index % 8]


def _grid(
    names: list[str], columns: int, size: tuple[float, float], shared: bool = False
) -> tuple[Any, list[Any]]:
    width = min(columns, len(names))
    height = math.ceil(len(names) / width)
    # A single panel is as wide as two columns of its legend.
    figure = new_figure((max(size[0] * width, 4.4), size[1] * height + 0.5), 120)
    places = figure.subplots(height, width, squeeze=False, sharey=shared).ravel()
    for axes in places[len(names) :]:
        axes.remove()
    for axes, title in zip(places, names, strict=False):
        axes.set_title(textwrap.fill(title, _WIDE), fontsize="medium")
    return figure, list(places[: len(names)])


def _legend(
    figure: Any, places: Iterable[Any], labels: list[str], texts: dict[str, str], note: str
) -> None:
    drawn = [axes.get_legend_handles_labels() for axes in places]
    found = {label: handle for pair in drawn for handle, label in zip(*pair, strict=True)}
    handles, names = [found[label] for label in labels], [texts[label] for label in labels]
    style = {"frameon": False, "fontsize": "small", "handlelength": 3.6}
    style |= {"title": note, "title_fontsize": "small"} if note else {}
    # Inches of a column: its line and its longest text, of small letters.
    wide = max(1.9, 0.7 + 0.065 * max(map(len, names)))
    columns = min(len(labels), max(1, int(figure.get_figwidth() / wide)))
    figure.legend(handles, names, loc="outside lower center", ncols=columns, **style)


def _range(counts: set[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low if low == high else f'{low}-{high}'} seed{'s' if high > 1 else ''}"
