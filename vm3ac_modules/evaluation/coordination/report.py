"""Table of the measured coordination, and one figure of a whole evaluation.

Both read the form that is written to ``evaluation.json``, so they can be made again from there.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from vm3ac_modules.evaluation.figures import Paths, new_figure, save
from vm3ac_modules.evaluation.names import metric_title

__all__ = ["coordination_table", "evaluation_figure"]

# More agents have more pairs, and more columns, than a terminal shows well.
_LARGEST = 4
_NUMBERED = 8
_PANEL = 3.6


def coordination_table(summary: Mapping[str, Any]) -> str:
    """Write the measured coordination as a table: pairs, shares, correlations.

    Both directions of a pair are averaged, as are their errors, which that average's does not
    exceed. Above four agents there are means alone, each over the pairs that have a value.

    Args:
        summary: of :meth:`~vm3ac_modules.evaluation.Coordination.summary`.

    Returns:
        Lines without a line break at the end; ``-`` stands for what is undefined.

    Example:
        >>> from vm3ac_modules.evaluation import Coordination
        >>> print(coordination_table(Coordination(2, note="undefined: an example").summary()))
        coordination undefined: an example
    """
    if summary["common"] is None:
        return f"coordination {summary['note']}"
    how = "exact" if summary["exact"] else f"{summary['draws']} joint actions in each"
    lines = [f"coordination given the state: {summary['states']} states of its own play, {how}"]
    last = "normalized" if summary["exact"] else "correlation"
    lines += [f"  {'agents':<9s} {'MI from below':>16s} {'MI from above':>16s} {last:>11s}"]
    lines += [*_pair_lines(summary), *_agent_lines(summary)]
    if len(summary["agents"]) <= _LARGEST:
        lines += _matrix_lines(summary)
    return "\n".join(lines)


def _pair_lines(summary: Mapping[str, Any]) -> list[str]:
    """A line per pair, or one of means and another that says of how many pairs."""
    common = summary["common"]["agent_correlation"]
    names = ("mi_lower_bound", "mi_lower_bound_error", "mi_upper_bound", "mi_upper_bound_error")
    size = len(summary["agents"])
    both = [_symmetric(summary[name], size) for name in names] + [_symmetric(common, size)]
    pairs = list(combinations(range(size), 2))
    rows, left_out = [(f"{i} and {j}", *(x[i, j] for x in both)) for i, j in pairs], []
    if size > _LARGEST:
        columns = [[x[pair] for pair in pairs if np.isfinite(x[pair])] for x in both[::2]]
        low, up, correlation = (np.mean(x) if x else np.nan for x in columns)
        rows = [("mean", low, np.nan, up, np.nan, correlation)]
        n = [len(x) for x in columns]
        if any(0 < count < len(pairs) for count in n):
            left_out = [f"  over {n[0]}, {n[1]}, {n[2]} of {len(pairs)} pairs: the defined ones"]
    lines = [
        f"  {name:<9s} {_with_error(low, e_low):>16s} {_with_error(up, e_up):>16s} {_two(c):>11s}"
        for name, low, e_low, up, e_up, c in rows
    ]
    return lines + left_out


def _agent_lines(summary: Mapping[str, Any]) -> list[str]:
    def each(name: str) -> str:
        values = summary[name] or [None] * len(summary["agents"])
        return " ".join(_two(x) for x in values)

    return [
        f"  nats, +- standard error; at most {_two(summary['mi_lower_bound_ceiling'])} can show",
        f"  share of z in the action variance, by agent: {each('latent_share')}",
        f"  information about z (nats), by agent: {each('latent_information')}",
    ]


def _matrix_lines(summary: Mapping[str, Any]) -> list[str]:
    common, alone = summary["common"], summary["independent"]
    kind = "normalized information" if summary["exact"] else "action correlation"
    short = [_short(name) for name in summary["components"]]
    rows = zip(short, common["action_correlation"], strict=True)
    noise = f"standard error at most {_two(_largest_error(common))}"
    if alone is not None:
        noise += f"; with a z each, between agents at most {_two(_largest(alone, summary))}"
    return [
        f"  {kind} ({noise}):",
        "  " + " " * 5 + "".join(f"{name:>7s}" for name in short),
        *(f"  {name:<5s}" + "".join(f"{_two(x):>7s}" for x in row) for name, row in rows),
    ]


def _short(name: str) -> str:
    """``agent 0 action 1`` as ``0[1]``, which is no number."""
    return re.sub(r"agent (\d+) action (\d+)", r"\1[\2]", name).removeprefix("agent ")


def _largest(found: Mapping[str, Any], summary: Mapping[str, Any]) -> float:
    """Largest absolute entry between two agents."""
    values = _numbers(found["action_correlation"])
    owner = np.arange(len(values)) // (len(values) // len(summary["agents"]))
    apart = np.abs(values[owner[:, None] != owner])
    return float(np.max(apart[np.isfinite(apart)], initial=0.0))


def _largest_error(found: Mapping[str, Any]) -> float:
    values = _numbers(found["action_correlation_error"])
    finite = values[np.isfinite(values)]
    return float(finite.max()) if finite.size else float("nan")


def _symmetric(values: Any, size: int) -> np.ndarray:
    matrix = np.full((size, size), np.nan) if values is None else _numbers(values)
    return 0.5 * (matrix + matrix.T)


def _numbers(values: Sequence[Any]) -> np.ndarray:
    return np.asarray(values, dtype=float)


def _two(x: float | None) -> str:
    # Adding zero turns -0.0 into 0.0.
    return "-" if x is None or not np.isfinite(x) else f"{round(x, 2) + 0.0:.2f}"


def _with_error(x: float, error: float) -> str:
    return _two(x) if not np.isfinite(error) else f"{_two(x)} +- {_two(error)}"


def evaluation_figure(
    path_png: Paths,
    results: Mapping[str, Mapping[str, float]],
    summary: Mapping[str, Any] | None,
    *,
    title: str,
) -> None:
    """Draw the returns by latent, the information of every pair and the action correlation.

    What a game with an adversary is worth (``best_response_value``) and the share of battles that
    were won (``battle_won``) have a panel each beside the returns.

    Args:
        path_png: the picture to write; several for several forms (.png, .svg, .pdf).
        results: where the latent came from -> its ``return_mean`` and ``return_ci95``
            (half-width); ``random`` is the random policy.
        summary: of :meth:`~vm3ac_modules.evaluation.Coordination.summary`; None draws returns
            alone.
        title: title of the picture.

    Raises:
        ImportError: if matplotlib is not installed; names the extra.

    Example:
        >>> import pytest, tempfile
        >>> _ = pytest.importorskip("matplotlib")
        >>> results = {"sample": {"return_mean": 2.0, "return_ci95": 0.5}}
        >>> with tempfile.TemporaryDirectory() as root:
        ...     evaluation_figure(f"{root}/evaluation.png", results, None, title="a run")
    """
    beside = [name for name in _BESIDE if any(name in row for row in results.values())]
    panels = 1 + len(beside) + (0 if summary is None else 2)
    figure = new_figure((_PANEL * panels + 0.6, _PANEL + 0.4), 120)
    figure.suptitle(title, fontsize="medium")
    axes = iter(np.atleast_1d(figure.subplots(1, panels)))
    said = "bars: mean over episodes; whiskers: its 95 % interval"
    _draw_bars(next(axes), results, "return_mean", "return", said, halves="return_ci95")
    for name in beside:
        _draw_bars(next(axes), results, name, metric_title(name), _BESIDE[name])
    if summary is not None:
        _draw_information(figure, next(axes), summary)
        _draw_correlation(figure, next(axes), summary)
    save(figure, path_png)


def _draw_bars(
    axes: Any,
    results: Mapping[str, Mapping[str, float]],
    column: str,
    ylabel: str,
    said: str,
    halves: str | None = None,
) -> None:
    """A bar per source of the latent; whiskers where a column has half of an interval."""
    values, whiskers = (
        np.array([row.get(name, np.nan) for row in results.values()], dtype=float)
        for name in (column, halves or "")
    )
    colors = ["0.9" if name == "random" else "0.6" for name in results]
    labels = [_SOURCES.get(name, f"z {name}") for name in results]
    places = np.arange(len(results))
    error = np.nan_to_num(whiskers) if halves else None  # one episode has no interval
    axes.bar(places, values, yerr=error, width=0.65, color=colors, edgecolor="black", capsize=4)
    axes.set_xticks(places, labels, rotation=35, ha="right")
    axes.axhline(0.0, color="black", lw=0.8)
    axes.set_ylabel(ylabel)
    axes.set_title(f"{ylabel} by source of the latent\n{said}", fontsize="small")
    axes.grid(axis="y", alpha=0.3)


_BESIDE = {
    "best_response_value": "bars: all episodes, against the best response",
    "battle_won": "bars: share of the battles that were won",
}
"""Further outcomes, and what their bars are."""


_SOURCES = {"random": "random policy", "none": "no z", "independent": "a z each"}


def _draw_information(figure: Any, axes: Any, summary: Mapping[str, Any]) -> None:
    """Estimates from below under the diagonal, from above over it."""
    axes.set_title("MI of actions given the state, nats", fontsize="small")
    if summary["mi_upper_bound"] is None:
        _say(axes, summary["note"])
        return
    size = len(summary["agents"])
    below, above = (_symmetric(summary[f"mi_{side}_bound"], size) for side in ("lower", "upper"))
    values = np.where(np.tri(size, k=-1, dtype=bool), below, above)
    np.fill_diagonal(values, np.nan)
    top = max(0.1, float(np.nanmax(values, initial=0.0)))
    _heat(figure, axes, values, [str(i) for i in range(size)], "Greys", (0.0, top))
    axes.set(xlabel="agent", ylabel="agent")
    where = "exact" if summary["exact"] else "from below under the diagonal, from above over it"
    axes.set_title(f"MI of actions given the state, nats:\n{where}", fontsize="small")


def _draw_correlation(figure: Any, axes: Any, summary: Mapping[str, Any]) -> None:
    kind = "normalized information" if summary["exact"] else "correlation"
    axes.set_title(f"{kind} of actions given the state", fontsize="small")
    if summary["common"] is None:
        _say(axes, summary["note"])
        return
    values = _numbers(summary["common"]["action_correlation"])
    names = list(summary["components"])
    if len(names) > _NUMBERED:
        names = [_short(name) for name in names]
    scale = ("Greys", (0.0, 1.0)) if summary["exact"] else ("RdBu_r", (-1.0, 1.0))
    _heat(figure, axes, values, names, *scale)
    each = len(values) // len(summary["agents"])
    for edge in range(each, len(values), each):
        axes.axhline(edge - 0.5, color="black", lw=1.0)
        axes.axvline(edge - 0.5, color="black", lw=1.0)
    if len(names) > _NUMBERED:
        axes.set(xlabel="agent" if summary["exact"] else "agent[action]")
    elif not summary["exact"]:
        axes.tick_params(axis="x", rotation=60)


def _heat(
    figure: Any,
    axes: Any,
    values: np.ndarray,
    labels: Sequence[str],
    colors: str,
    limits: tuple[float, float],
) -> None:
    image = axes.imshow(values, cmap=colors, vmin=limits[0], vmax=limits[1])
    axes.set_xticks(range(len(labels)), labels)
    axes.set_yticks(range(len(labels)), labels)
    figure.colorbar(image, ax=axes, shrink=0.75)
    if len(labels) > _NUMBERED:
        return
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            # Dark cells are those near the end of a scale, of both ends for signed values.
            depth = abs(value) if limits[0] < 0 else value
            color = "white" if depth > 0.6 * limits[1] else "black"
            axes.text(column, row, _two(value), ha="center", va="center", color=color, fontsize=8)


def _say(axes: Any, note: str) -> None:
    axes.set_axis_off()
    axes.text(0.5, 0.5, textwrap.fill(note, 28), ha="center", va="center", fontsize=9)
