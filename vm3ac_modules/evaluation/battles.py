"""A battle as a picture, drawn from above."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchrl.envs import EnvBase

from vm3ac_modules.evaluation.figures import COLORS, Paths
from vm3ac_modules.evaluation.film import canvas, film_figure, write_film

__all__ = ["battle_gif", "unit_trace"]


def unit_trace(env: EnvBase) -> Tensor:
    """All units of every row as numbers, for :func:`battle_gif`.

    Args:
        env: an :class:`~vm3ac_modules.envs.SMAXEnv` or :class:`~vm3ac_modules.envs.SMACliteEnv`,
            possibly transformed.

    Returns:
        ``[B, N + M, 7]``: position (0 to 32), health (fraction), alive, team, the unit that it
        attacks or -1, and its range.
    """
    units = getattr(env, "base_env", env).units
    rest = (units.health, units.alive, units.teams, units.targets, units.ranges)
    numbers = [value.float().unsqueeze(-1) for value in rest]
    return torch.cat((units.positions.float(), *numbers), dim=-1)


def battle_gif(
    paths: Paths,
    trace: Tensor,
    *,
    title: str,
    size: float = 32.0,
    fps: int = 8,
    latents: Tensor | None = None,
) -> None:
    """Draw a battle from above: units with their health, and a line to whom each attacks.

    Agents are blue discs, enemies orange squares; both fade as their health goes, and the dead
    stay as crosses.

    Args:
        paths: the film to write, .gif or .mp4; or several.
        trace: one row of :func:`unit_trace` over time, ``[T, N + M, 7]``.
        title: first line of the title.
        size: side of the map.
        fps: pictures per second.
        latents: of each step, ``[T, Z]``, or ``[T, N, Z]`` where each agent has its own; shown
            beside the battle.

    Raises:
        ImportError: if matplotlib or imageio, or ffmpeg for an MP4, is not installed; names the
            extra.
        ValueError: for a trace of another shape.

    Example:
        >>> import pytest, tempfile
        >>> _ = pytest.importorskip("imageio"), pytest.importorskip("matplotlib")
        >>> with tempfile.TemporaryDirectory() as root:
        ...     battle_gif(f"{root}/b.gif", torch.zeros(2, 3, 7), title="still")
    """
    if trace.ndim != 3 or trace.shape[-1] != 7 or len(trace) == 0:
        raise ValueError(f"trace must be [T, units, 7] with T > 0, got {list(trace.shape)}.")
    frames = trace.detach().cpu().numpy()

    def pictures() -> Iterator[np.ndarray]:
        for step, units in enumerate(frames):
            yield _picture(units, f"{title}\nstep {step}", size, latents, step)

    write_film(paths, pictures(), fps)


def _picture(
    units: np.ndarray, title: str, size: float, latents: Tensor | None, step: int
) -> np.ndarray:
    figure, axes, panel = film_figure(latents)
    if panel is not None:
        panel.draw(step)
    axes.set(xlim=(0, size), ylim=(0, size), aspect="equal", xticks=[], yticks=[])
    axes.set_title(title, fontsize=9)
    for unit in units:
        _draw_unit(axes, unit, units)
    return canvas(figure)


def _draw_unit(axes: Any, unit: np.ndarray, units: np.ndarray) -> None:
    x, y, health, alive, team, target, _ = unit
    color, marker = (COLORS[0], "o") if team == 0 else (COLORS[1], "s")
    if not alive:
        axes.plot(x, y, marker="x", color=color, alpha=0.4, markersize=5)
        return
    if target >= 0:
        # Two units that attack each other get two lines side by side.
        shift = 0.15 if team == 0 else -0.15
        other = units[int(target)]
        axes.plot([x, other[0]], [y + shift, other[1] + shift], color=color, linewidth=0.8)
    axes.plot(x, y, marker=marker, color=color, alpha=0.35 + 0.65 * health, markersize=7)
    axes.plot([x - 0.8, x - 0.8 + 1.6 * health], [y + 1.0, y + 1.0], color=color, linewidth=2)
