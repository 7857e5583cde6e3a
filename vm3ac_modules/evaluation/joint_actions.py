"""Pictures of the joint actions that a frozen team plays in the guard game.

Shapes: ``D`` joint actions, ``N`` agents, ``M`` modes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vm3ac_modules.envs.guard import GuardEnv
from vm3ac_modules.evaluation.comparison import plane_grid
from vm3ac_modules.evaluation.figures import COLORS, Paths, save

__all__ = ["joint_actions_figure"]

_MARKERS = ("o", "^", "s", "D", "v", "P", "X")
_GUARDED = "#D55E00"


def joint_actions_figure(
    path_png: Paths,
    panels: Mapping[str, Mapping[str, Tensor]],
    game: GuardEnv,
    *,
    shown: int = 128,
    within: bool = False,
) -> None:
    """Draw joint actions, and where the best response to them stands: a row per label.

    Modes are circles as wide as the game's bump; the one that the best response guards is filled
    and dashed. Every agent has a marker of its own. A line joins the actions of one draw, dark
    where all agents are at one mode; the titles say what the policy is worth.

    Args:
        path_png: the picture to write.
        panels: label of each row -> title of each column -> joint actions ``[D, N, 2]``.
        game: the game, over continuous actions.
        shown: number of draws that are drawn; the value and the guard are of all D.
        within: whether an agent is at the nearest mode only within the mode's width, as where
            episodes of ``guarded_rendezvous`` end, and not at any distance.

    Raises:
        ImportError: if matplotlib is not installed; names the extra.
        ValueError: if there is no panel, a shape does not fit, or the game is discrete.

    Example:
        >>> import pytest, tempfile
        >>> _ = pytest.importorskip("matplotlib")
        >>> game = GuardEnv(num_envs=1)
        >>> together = game.modes[torch.randint(4, (50, 1))].expand(-1, 2, -1)
        >>> with tempfile.TemporaryDirectory() as root:
        ...     joint_actions_figure(f"{root}/a.png", {"any": {"common z": together}}, game)

    See Also:
        :func:`~vm3ac_modules.evaluation.guard_actions`, which plays a policy.
    """
    if game.discrete:
        raise ValueError("joint_actions_figure draws points of the plane: the game is discrete.")
    figure, places = plane_grid(panels, 1.05)
    for axes, actions in places:
        if actions is not None:
            _draw(axes, actions.detach().cpu(), game, shown, within)
    save(figure, path_png)


def meetings(actions: Tensor, game: GuardEnv, *, within: bool = False) -> tuple[Tensor, Tensor]:
    """Which draws meet, and how often at each mode.

    Args:
        actions: joint actions ``[D, N, 2]``.
        game: the game.
        within: whether an agent is at the nearest mode only within the mode's width.

    Returns:
        Whether all agents are at one mode, bool ``[D]``, and counts ``[M]``.
    """
    choices = game.choices(actions)
    met = (choices == choices[:, :1]).all(-1)
    if within:
        apart = (actions - game.modes[choices]).norm(dim=-1)
        met &= (apart <= game.width).all(-1)
    return met, torch.bincount(choices[met, 0], minlength=game.num_modes)


def _draw(axes: Any, actions: Tensor, game: GuardEnv, shown: int, within: bool) -> None:
    if actions.ndim != 3 or actions.shape[-1] != 2 or len(actions) == 0:
        raise ValueError(f"joint actions must be [D, N, 2] with D > 0, got {list(actions.shape)}.")
    from matplotlib.collections import LineCollection
    from matplotlib.patches import Circle

    joined, counts = (x.cpu() for x in meetings(actions.to(game.device), game, within=within))
    guarded = int(counts.argmax())
    for mode, center in enumerate(game.modes.cpu().tolist()):
        look: dict[str, Any] = {"facecolor": "none", "edgecolor": "0.5"}
        if mode == guarded:
            look = {"facecolor": _GUARDED, "alpha": 0.25, "edgecolor": "black", "ls": "--"}
        axes.add_patch(Circle(center, game.width, zorder=1, **look))
    points = actions[:shown].numpy()
    # Closed, so that of three agents or more every one is joined to the next.
    lines = list(torch.cat((actions, actions[:, :1]), 1)[:shown].numpy())
    colors = ["0.15" if together else "0.75" for together in joined[:shown].tolist()]
    axes.add_collection(LineCollection(lines, colors=colors, lw=0.5, alpha=0.6, zorder=2))
    for agent in range(points.shape[1]):
        style = {"c": COLORS[agent % 7], "marker": _MARKERS[agent % 7]}
        axes.scatter(*points[:, agent].T, s=12, edgecolors="black", lw=0.3, zorder=3, **style)
    value = float(counts.sum() - counts.max()) / len(actions)
    axes.set_title(f"{axes.get_title()}: {value:.2f}", fontsize="small")
