"""Episodes as moving pictures: GIF, or MP4 where ffmpeg is there; the latent stands beside them.

Shapes: T steps, N agents, M points, Z components of the latent.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from vm3ac_modules.evaluation.figures import COLORS, Paths, new_figure
from vm3ac_modules.evaluation.names import decimals, plus_minus
from vm3ac_modules.extras import require_extra

__all__ = ["Area", "LatentPanel", "check_film", "rollout_gif", "write_film"]

_TRAIL = 20
_CODEC: dict[str, Any] = {
    "plugin": "FFMPEG",
    "codec": "libx264",
    "pixelformat": "yuv420p",
    "macro_block_size": 2,
}


class Area(NamedTuple):
    """A circle on the ground, filled where something stands."""

    center: tuple[float, float]
    radius: float
    filled: bool = False


def check_film(path: Path | str) -> None:
    """Refuse a film that cannot be written, before anything is drawn.

    Args:
        path: its name; the ending says the form.

    Raises:
        ImportError: if imageio, or ffmpeg for an MP4, is not installed; names the extra.
        ValueError: for another ending than .gif and .mp4.
    """
    suffix = Path(path).suffix
    if suffix not in (".gif", ".mp4"):
        raise ValueError(f"a film is written as .gif or .mp4, got {Path(path).name!r}.")
    require_extra("imageio", "recipes", "Writing a film")
    if suffix == ".mp4":
        require_extra("imageio_ffmpeg", "video", "Writing an MP4")


def write_film(paths: Paths, pictures: Iterable[np.ndarray], fps: int) -> None:
    """Write pictures as a film, in as many forms as there are paths.

    Args:
        paths: one file or several, .gif or .mp4.
        pictures: uint8 ``[height, width, 3]`` each.
        fps: pictures per second.

    Raises:
        ImportError: if imageio, or ffmpeg for an MP4, is not installed; names the extra.
        ValueError: for another ending.
    """
    files = [paths] if isinstance(paths, (str, Path)) else list(paths)
    for path in files:
        check_film(path)
    import imageio.v3 as iio

    frames = list(pictures)
    for path in files:
        if Path(path).suffix == ".gif":
            iio.imwrite(path, frames, extension=".gif", duration=1000 / fps, loop=0)
        else:
            height, width = (size // 2 * 2 for size in frames[0].shape[:2])
            even = [frame[:height, :width] for frame in frames]
            iio.imwrite(path, even, fps=fps, **_CODEC)


class LatentPanel:
    """The latent of each step as bars, one for all agents or one each in the agent's color.

    Args:
        axes: where it is drawn.
        latents: ``[T, Z]``, or ``[T, N, Z]`` where each agent has its own.

    Raises:
        ValueError: for another shape.
    """

    def __init__(self, axes: Any, latents: Tensor) -> None:
        if latents.ndim not in (2, 3) or 0 in latents.shape:
            raise ValueError(f"latents must be [T, Z] or [T, N, Z], got {list(latents.shape)}.")
        values = latents.detach().cpu().float().numpy()
        self.values = values[:, None] if values.ndim == 2 else values
        each, size = self.values.shape[1:]
        limit = max(1.0, float(np.abs(self.values).max())) * 1.05
        low = 0.0 if float(self.values.min()) >= 0 else -limit
        self.bars = []
        for agent in range(each):
            color = "0.35" if each == 1 else COLORS[agent % len(COLORS)]
            where = np.arange(size) + (agent - (each - 1) / 2) * 0.8 / each
            self.bars.append(axes.bar(where, np.zeros(size), 0.8 / each, color=color))
        axes.axhline(0.0, color="black", lw=0.6)
        axes.set(ylim=(low, limit), xlim=(-0.6, size - 0.4), xlabel="component")
        ticks = np.arange(size) if size <= 10 else np.arange(0, size, 4)
        axes.set_xticks(ticks)
        axes.tick_params(labelsize=7)
        axes.set_title("z, the same for all" if each == 1 else "z, one per agent", fontsize=8)

    def draw(self, t: int) -> None:
        """Show the latent of step t; behind the last one it stays."""
        for bars, values in zip(self.bars, self.values[min(t, len(self.values) - 1)], strict=True):
            for bar, value in zip(bars, values, strict=True):
                bar.set_height(float(value))


def film_figure(latents: Tensor | None) -> tuple[Any, Any, LatentPanel | None]:
    """A figure with a square for the scene and, where there is a latent, a panel for it."""
    if latents is None:
        figure = new_figure((3.2, 3.2), 80)
        return figure, figure.add_subplot(), None
    figure = new_figure((4.8, 3.2), 80)
    axes, beside = figure.subplots(1, 2, width_ratios=(3.2, 1.6))
    return figure, axes, LatentPanel(beside, latents)


def canvas(figure: Any) -> np.ndarray:
    """The figure as pixels."""
    figure.canvas.draw()
    return np.array(figure.canvas.buffer_rgba())[..., :3]


def rollout_gif(
    paths: Paths,
    positions: Tensor,
    preys: Tensor | None,
    alive: Tensor | None,
    rewards: Tensor | None,
    *,
    half_width: float,
    radius: float,
    title: str,
    fps: int = 12,
    latents: Tensor | None = None,
    areas: Sequence[Area] = (),
    trail: int = _TRAIL,
    unit: str = "step",
) -> None:
    """Draw an episode from above: agents as discs with trails, living preys as dots.

    Args:
        paths: the film to write, .gif or .mp4; or several.
        positions: positions of the agents, ``[T, N, 2]``.
        preys: positions of the preys (or treasures, or landmarks), ``[M, 2]``, or ``[T, M, 2]``
            where they move.
        alive: whether a prey is alive, ``[T, M]``; all are where None.
        rewards: team reward of each step, ``[T]``; their running sum is shown.
        half_width: half of the arena's width.
        radius: radius of an agent, in the same unit.
        title: first line of the title.
        fps: pictures per second.
        latents: of each step, ``[T, Z]``, or ``[T, N, Z]`` where each agent has its own; shown
            beside the scene.
        areas: circles on the ground.
        trail: steps that stay visible behind an agent.
        unit: what a picture is, for the title.

    Raises:
        ImportError: if matplotlib or imageio, or ffmpeg for an MP4, is not installed; names the
            extra.
        ValueError: if a shape does not fit ``positions``.

    Example:
        >>> import pytest, tempfile
        >>> _ = pytest.importorskip("imageio"), pytest.importorskip("matplotlib")
        >>> size = {"half_width": 1.0, "radius": 0.1, "title": "still"}
        >>> with tempfile.TemporaryDirectory() as root:
        ...     rollout_gif(f"{root}/r.gif", torch.zeros(2, 1, 2), None, None, None, **size)
    """
    _check_rollout(positions, preys, alive, rewards, latents)
    scene = _Scene(positions, preys, half_width, radius, latents, areas, trail)
    total = None if rewards is None else rewards.detach().cpu().double().cumsum(0).tolist()
    digits = decimals(*(total or ()))
    shown = None if alive is None else alive.detach().cpu().bool().numpy()

    def pictures() -> Iterator[np.ndarray]:
        for t in range(len(positions)):
            score = "" if total is None else f"   return {plus_minus(total[t], math.nan, digits)}"
            # The step in the title also keeps equal pictures from being merged into one.
            yield scene.draw(t, f"{title}\n{unit} {t}{score}", None if shown is None else shown[t])

    write_film(paths, pictures(), fps)


def _check_rollout(
    positions: Tensor,
    preys: Tensor | None,
    alive: Tensor | None,
    rewards: Tensor | None,
    latents: Tensor | None,
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
    if latents is not None and len(latents) != steps:
        raise ValueError(f"latents must be of {steps} steps, got {len(latents)}.")


class _Scene:
    """The artists of one rollout, moved from picture to picture rather than drawn anew."""

    def __init__(
        self,
        positions: Tensor,
        preys: Tensor | None,
        half_width: float,
        radius: float,
        latents: Tensor | None,
        areas: Sequence[Area],
        trail: int,
    ) -> None:
        from matplotlib.patches import Circle

        self.path = positions.detach().cpu().numpy()
        points = np.zeros((0, 2)) if preys is None else preys.detach().cpu().numpy()
        self.preys = np.broadcast_to(points, (len(self.path), *points.shape[-2:]))
        self.trail = trail
        self.figure, axes, self.panel = film_figure(latents)
        edge = half_width + radius
        axes.set(xlim=(-edge, edge), ylim=(-edge, edge), aspect="equal", xticks=[], yticks=[])
        self.title = axes.set_title(" \n ", fontsize=8)
        self.dots = axes.scatter(*self.preys[0].T, s=14, c="black", marker="D", zorder=2)
        for area in areas:
            look = {"facecolor": "#D55E00" if area.filled else "none", "edgecolor": "0.4"}
            fill = 0.3 if area.filled else 1.0
            axes.add_patch(Circle(area.center, area.radius, alpha=fill, zorder=0, **look))
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
            trail.set_data(*self.path[max(0, t - self.trail) : t + 1, agent].T)
            disc.set_center(self.path[t, agent])
        if self.panel is not None:
            self.panel.draw(t)
        return canvas(self.figure)
