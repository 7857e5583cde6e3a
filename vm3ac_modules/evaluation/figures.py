"""Pictures of a run: its learning curve, and a rollout seen from above.

Figures are built on an Agg canvas of their own: no display and no global pyplot state is touched.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from vm3ac_modules.extras import require_extra

__all__ = ["learning_curve", "rollout_gif"]

# Okabe and Ito's colors: told apart by color-blind readers, and of unequal lightness.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
_TRAIL = 20


def new_figure(size: tuple[float, float], dpi: int) -> Any:
    require_extra("matplotlib", "recipes", "Drawing figures")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=dpi, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def learning_curve(
    path_png: Path | str,
    eval_rows: Mapping[str, Sequence[float]],
    *,
    baseline: float | None,
    title: str,
) -> None:
    """Draw the mean return of the evaluations over frames, with its 95 % band.

    Args:
        path_png: the picture to write.
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
    axes.fill_between(frames, mean - half, mean + half, color="0.75", lw=0, label="95 % interval")
    axes.plot(frames, mean, color="black", marker="o", ms=3, lw=1.4, label="mean return")
    if "greedy_return_mean" in eval_rows:
        greedy = np.asarray(eval_rows["greedy_return_mean"], dtype=float)
        axes.plot(frames, greedy, color=COLORS[0], ls=":", lw=1.2, label="greedy actions")
    if baseline is not None:
        axes.axhline(baseline, color="0.35", ls="--", lw=1.2, label="random policy")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set(xlabel="environment frames", ylabel="return per episode", title=title)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize="small")
    figure.savefig(path_png)


def rollout_gif(
    path_gif: Path | str,
    positions: Tensor,
    preys: Tensor | None,
    alive: Tensor | None,
    rewards: Tensor | None,
    *,
    half_width: float,
    radius: float,
    title: str,
    fps: int = 12,
) -> None:
    """Draw an episode from above: agents as discs with trails, living preys as dots.

    Args:
        path_gif: the picture to write.
        positions: positions of the agents, ``[T, N, 2]``.
        preys: positions of the preys (or treasures, or landmarks), ``[M, 2]``, or ``[T, M, 2]``
            where they move.
        alive: whether a prey is alive, ``[T, M]``; all are where None.
        rewards: team reward of each step, ``[T]``; their running sum is shown.
        half_width: half of the arena's width.
        radius: radius of an agent, in the same unit.
        title: first line of the title.
        fps: pictures per second.

    Raises:
        ImportError: if matplotlib or imageio is not installed; names the extra.
        ValueError: if a shape does not fit ``positions``.

    Example:
        >>> import pytest, tempfile
        >>> _ = pytest.importorskip("imageio"), pytest.importorskip("matplotlib")
        >>> size = {"half_width": 1.0, "radius": 0.1, "title": "still"}
        >>> with tempfile.TemporaryDirectory() as root:
        ...     rollout_gif(f"{root}/r.gif", torch.zeros(2, 1, 2), None, None, None, **size)
    """
    _check_rollout(positions, preys, alive, rewards)
    require_extra("imageio", "recipes", "Writing a GIF")
    import imageio.v3 as iio

    scene = _Scene(positions, preys, half_width, radius)
    total = None if rewards is None else rewards.detach().cpu().double().cumsum(0).tolist()
    shown = None if alive is None else alive.detach().cpu().bool().numpy()

    def pictures() -> Iterator[np.ndarray]:
        for t in range(len(positions)):
            score = "" if total is None else f"   return {total[t]:.1f}"
            # The step in the title also keeps equal pictures from being merged into one.
            yield scene.draw(t, f"{title}\nstep {t}{score}", None if shown is None else shown[t])

    iio.imwrite(path_gif, list(pictures()), extension=".gif", duration=1000 / fps, loop=0)


def _check_rollout(
    positions: Tensor, preys: Tensor | None, alive: Tensor | None, rewards: Tensor | None
) -> None:
    if positions.ndim != 3 or positions.shape[-1] != 2 or len(positions) == 0:
        raise ValueError(f"positions must be [T, N, 2] with T > 0, got {list(positions.shape)}.")
    steps = len(positions)
    num_preys = 0 if preys is None else preys.shape[-2]
    moving = preys is not None and preys.ndim == 3
    expected = {
        "preys": (preys, (*((steps,) if moving else ()), num_preys, 2)),
        "alive": (alive, (steps, num_preys)),
        "rewards": (rewards, (steps,)),
    }
    for name, (tensor, shape) in expected.items():
        if tensor is not None and tensor.shape != shape:
            raise ValueError(f"{name} must be {list(shape)}, got {list(tensor.shape)}.")


class _Scene:
    """The artists of one rollout, moved from picture to picture rather than drawn anew."""

    def __init__(
        self, positions: Tensor, preys: Tensor | None, half_width: float, radius: float
    ) -> None:
        from matplotlib.patches import Circle

        self.path = positions.detach().cpu().numpy()
        points = np.zeros((0, 2)) if preys is None else preys.detach().cpu().numpy()
        self.preys = np.broadcast_to(points, (len(self.path), *points.shape[-2:]))
        self.figure = new_figure((3.2, 3.2), 80)
        axes = self.figure.add_subplot()
        edge = half_width + radius
        axes.set(xlim=(-edge, edge), ylim=(-edge, edge), aspect="equal", xticks=[], yticks=[])
        self.title = axes.set_title(" \n ", fontsize=8)
        self.dots = axes.scatter(*self.preys[0].T, s=14, c="black", marker="D", zorder=2)
        self.trails, self.discs = [], []
        for agent in range(self.path.shape[1]):
            color = COLORS[agent % len(COLORS)]
            self.trails += axes.plot([], [], color=color, lw=1.5, alpha=0.6, zorder=1)
            disc = Circle((0.0, 0.0), radius, facecolor=color, edgecolor="black", zorder=3)
            self.discs.append(axes.add_patch(disc))
        # Laid out once: repeating it for every picture would cost most of the time.
        self.figure.draw_without_rendering()
        self.figure.set_layout_engine("none")

    def draw(self, t: int, title: str, alive: np.ndarray | None) -> np.ndarray:
        self.title.set_text(title)
        self.dots.set_offsets(self.preys[t] if alive is None else self.preys[t][alive])
        for agent, (trail, disc) in enumerate(zip(self.trails, self.discs, strict=True)):
            trail.set_data(*self.path[max(0, t - _TRAIL) : t + 1, agent].T)
            disc.set_center(self.path[t, agent])
        self.figure.canvas.draw()
        return np.array(self.figure.canvas.buffer_rgba())[..., :3]
