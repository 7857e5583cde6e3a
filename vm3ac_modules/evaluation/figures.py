"""Pictures of a run: its learning curve.

Figures are built on an Agg canvas of their own: no display and no global pyplot state is touched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vm3ac_modules.extras import require_extra

__all__ = ["learning_curve"]

Paths = Path | str | Sequence[Path | str]
"""A file, or several of one picture; the ending says the form: png, svg, pdf."""
# Okabe and Ito's colors: told apart by color-blind readers, and of unequal lightness.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")


def new_figure(size: tuple[float, float], dpi: int) -> Any:
    require_extra("matplotlib", "recipes", "Drawing figures")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=dpi, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Any, paths: Paths) -> None:
    """Write a figure to every path."""
    for path in [paths] if isinstance(paths, (str, Path)) else paths:
        figure.savefig(path)


def learning_curve(
    path_png: Paths,
    eval_rows: Mapping[str, Sequence[float]],
    *,
    baseline: float | None,
    title: str,
) -> None:
    """Draw the mean return of the evaluations over frames, with its 95 % band.

    Args:
        path_png: the picture to write; several for several forms (.png, .svg, .pdf).
        eval_rows: columns ``frame``, ``return_mean`` and ``return_ci95`` (half-width), and
            ``greedy_return_mean`` where drawn actions have greedy play beside them; empty before
            the first evaluation.
        baseline: mean return of the random policy, drawn as a dashed line.
        title: title of the picture.

    Raises:
        ImportError: if matplotlib is not installed; names the extra.
        ValueError: if a column is missing.

    Example:
        >>> import pytest, tempfile
        >>> _ = pytest.importorskip("matplotlib")
        >>> rows = {"frame": [0, 100], "return_mean": [1, 2], "return_ci95": [0.1, 0.2]}
        >>> with tempfile.TemporaryDirectory() as root:
        ...     learning_curve(f"{root}/curve.png", rows, baseline=0.5, title="a run")
    """
    columns = ("frame", "return_mean", "return_ci95")
    if missing := [name for name in columns if eval_rows and name not in eval_rows]:
        raise ValueError(f"the evaluations lack the column(s) {', '.join(missing)}.")
    frames, mean, half = (np.asarray(eval_rows.get(name, []), dtype=float) for name in columns)
    half = np.nan_to_num(half)  # one episode has no interval
    figure = new_figure((5.6, 3.6), 120)
    from matplotlib.ticker import EngFormatter

    axes = figure.add_subplot()
    band = {"color": "0.75", "lw": 0, "label": "95 % interval over episodes"}
    axes.fill_between(frames, mean - half, mean + half, **band)
    axes.plot(frames, mean, color="black", marker="o", ms=3, lw=1.4, label="mean return")
    if "greedy_return_mean" in eval_rows:
        greedy = np.asarray(eval_rows["greedy_return_mean"], dtype=float)
        axes.plot(frames, greedy, color=COLORS[0], ls=":", lw=1.2, label="greedy actions")
    if baseline is not None:
        axes.axhline(baseline, color="0.35", ls="--", lw=1.2, label="random policy")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set(xlabel="environment steps", ylabel="return", title=title)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize="small")
    save(figure, path_png)
