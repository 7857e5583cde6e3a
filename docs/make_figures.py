"""Draw the figures of the concept pages: ``python docs/make_figures.py``.

Each is written twice, for a light page and for a dark one. Numbers in them are computed here.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch
from matplotlib.figure import Figure
from torch.distributions import Normal

from vm3ac_modules.functional import gaussian_log_density, mixture_log_prob

FOLDER = Path(__file__).parent / "figures"
THEMES = {
    "light": {"ink": "#1f2933", "faint": "#9aa5b1", "one": "#1769aa", "two": "#c2571a"},
    "dark": {"ink": "#e4e7eb", "faint": "#7b8794", "one": "#5db0f0", "two": "#f0a267"},
}
Colors = dict[str, str]


def box(ax: Any, x: float, y: float, text: str, color: str, width: float = 1.9) -> None:
    """A box of a diagram, around (x, y)."""
    style = {"boxstyle": "round,pad=0.02,rounding_size=0.12", "fill": False, "lw": 1.4}
    patch = mpl.patches.FancyBboxPatch((x - width / 2, y - 0.42), width, 0.84, ec=color, **style)
    ax.add_patch(patch)
    ax.text(x, y, text, ha="center", va="center", color=color, fontsize=9.5, linespacing=1.35)


def arrow(ax: Any, start: tuple, end: tuple, color: str, text: str = "", bend: float = 0.0) -> None:
    """An arrow of a diagram; its text stands at the middle."""
    form = {"arrowstyle": "-|>", "color": color, "lw": 1.2, "shrinkA": 2, "shrinkB": 2}
    ax.annotate("", end, start, arrowprops=form | {"connectionstyle": f"arc3,rad={bend}"})
    middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2 + 0.12 - 0.6 * bend)
    ax.text(*middle, text, ha="center", va="bottom", color=color, fontsize=8.5)


def diagram(figure: Figure, width: float, height: float) -> Any:
    """Empty axes in which one unit is as long both ways."""
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, width), ylim=(0, height), aspect="equal")
    ax.axis("off")
    return ax


def latent(figure: Figure, color: Colors) -> None:
    """Joint actions of two agents: no latent, a latent each, a common latent."""
    torch.manual_seed(0)
    noise, z = torch.randn(400, 2), torch.randn(400, 2)
    common = z[:, :1].expand(-1, 2)
    played = {
        "no latent": 0.35 * noise,
        "a latent each": 0.35 * noise + z,
        "a common latent": 0.35 * noise + common,
    }
    for k, (title, raw) in enumerate(played.items()):
        ax = figure.add_subplot(1, 3, k + 1)
        action = raw.tanh()
        ax.plot(*action.T, ".", ms=3.5, mew=0, color=color["two" if k == 2 else "one"])
        ax.set(xlim=(-1.05, 1.05), ylim=(-1.05, 1.05), aspect="equal", title=title)
        ax.set(xlabel="action of agent 1", xticks=(-1, 0, 1), yticks=(-1, 0, 1))
        if k == 0:
            ax.set_ylabel("action of agent 2")


def predictor(figure: Figure, color: Colors) -> None:
    """What one action tells of the partner's, and what the predictor makes of it."""
    torch.manual_seed(1)
    z, noise = torch.randn(400, 1), torch.randn(400, 2)
    first, second = (0.8 * z + 0.3 * noise).T
    slope = 0.8**2 / (0.8**2 + 0.3**2)
    line = torch.linspace(-2.6, 2.6, 2)
    ax = figure.add_subplot()
    ax.plot(first, second, ".", ms=4, mew=0, color=color["one"], label="pairs of actions")
    ax.plot(line, slope * line, color=color["two"], label="mean of q")
    scale = (0.8**2 + 0.3**2 - slope * 0.8**2) ** 0.5
    ax.fill_between(
        line, slope * line - scale, slope * line + scale, color=color["two"], alpha=0.25
    )
    ax.set(xlabel="action of agent 1", ylabel="action of agent 2", xlim=(-2.6, 2.6))
    ax.legend(frameon=False, loc="upper left")


def bound(figure: Figure, color: Colors) -> None:
    """The entropy family and the bound that it gives, against the exact value."""
    w, s, counts = 1.0, 0.25, (0, 1, 2, 4, 8, 16, 32, 64, 128)
    total = w**2 + s**2
    exact = -0.5 * torch.tensor(1 - (w**2 / total) ** 2).log().item()
    gen = torch.Generator().manual_seed(0)
    z = torch.randn(20_000, 1 + max(counts), generator=gen)
    action = w * z[:, :1] + s * torch.randn(20_000, 1, generator=gen)
    density = gaussian_log_density(action[..., None], w * z[..., None], torch.tensor(s))
    conditional = Normal(0.0, (total - w**4 / total) ** 0.5).entropy().item()
    gained = []
    for count in counts:
        log_pi = mixture_log_prob(density[:, 0], density[:, 1 : 1 + count])
        gained.append(-log_pi.mean().item() - conditional)
    ax = figure.add_subplot()
    ax.axhline(exact, color=color["two"], lw=1.4, label="mutual information")
    ax.axhline(0, color=color["faint"], lw=0.8)
    ax.plot(range(len(counts)), gained, "o-", color=color["one"], label=r"$H_K - H(a_2\,|\,a_1)$")
    ax.set(xlabel="extra latents K", ylabel="nats", xticks=range(len(counts)))
    ax.set_xticklabels([str(count) for count in counts])
    ax.legend(frameon=False, loc="lower right")


def objective(figure: Figure, color: Colors) -> None:
    """Which loss trains which network."""
    ax, ink = diagram(figure, 10, 4.2), color["ink"]
    box(ax, 1.3, 2.1, "common latent z", ink, 2.2)
    box(ax, 4.2, 3.4, r"policies $\pi_i(a_i | o_i, z)$", color["one"], 2.6)
    box(ax, 4.2, 0.8, r"predictors $q_i(a_j | a_i)$", color["two"], 2.6)
    box(ax, 8.4, 3.4, "critics $Q_i, V_i$\nreturn", ink, 2.2)
    box(ax, 8.4, 0.8, "entropy $H_K$ and\n" + r"$\log q$: information", ink, 2.4)
    arrow(ax, (1.6, 2.55), (2.9, 3.3), ink)
    arrow(ax, (5.5, 3.4), (7.3, 3.4), color["one"], "actions")
    arrow(ax, (5.5, 3.1), (7.4, 1.2), color["one"])
    arrow(ax, (5.5, 0.8), (7.2, 0.8), color["two"], "log-densities")
    arrow(ax, (8.4, 1.25), (8.4, 2.95), ink)
    ax.text(8.55, 2.1, r"bonus $\beta$", color=ink, fontsize=9, va="center")


def run(figure: Figure, color: Colors) -> None:
    """What a training does, round after round."""
    ax, ink = diagram(figure, 12, 3.4), color["ink"]
    names = ("collect", "replay", "update", "evaluate", "checkpoint")
    for k, name in enumerate(names):
        box(ax, 1.2 + 2.4 * k, 2.0, name, color["one"] if k < 3 else ink, 1.7)
        if k:
            arrow(ax, (2.4 * k - 0.3, 2.0), (2.4 * k + 0.3, 2.0), ink)
    arrow(ax, (6.0, 1.5), (1.2, 1.5), color["one"], bend=-0.25)
    ax.text(3.6, 0.35, "every step of all rows", color=color["one"], ha="center", fontsize=9)
    arrow(ax, (10.8, 2.5), (1.2, 2.5), color["two"], bend=0.12)
    ax.text(6.0, 3.22, "resume: the same numbers", color=color["two"], ha="center", fontsize=9)


def execution(figure: Figure, color: Colors) -> None:
    """Two agents compute the same latent from the same three numbers."""
    ax, ink = diagram(figure, 10, 3.8), color["ink"]
    box(ax, 1.5, 1.9, "seed, episode,\nstep", ink, 2.0)
    for k, y in enumerate((2.9, 0.9)):
        box(ax, 4.7, y, "generator", color["two"], 1.7)
        box(ax, 7.6, y, rf"$\pi_{k + 1}(a | o_{k + 1}, z)$", color["one"], 2.3)
        arrow(ax, (2.5, 1.9), (3.8, y), ink)
        arrow(ax, (5.6, y), (6.4, y), color["two"], "z")
        arrow(ax, (8.8, y), (9.6, y), color["one"])
        ax.text(9.65, y, f"$a_{k + 1}$", color=color["one"], va="center", fontsize=10)
    ax.plot((4.0, 9.6), (1.9, 1.9), color=color["faint"], lw=1, ls=(0, (4, 3)))
    ax.text(6.8, 1.95, "no message", color=color["faint"], ha="center", va="bottom", fontsize=9)


FIGURES: dict[str, tuple[Callable[[Figure, Colors], None], float, float]] = {
    "latent": (latent, 8.4, 3.0),
    "predictor": (predictor, 4.8, 3.4),
    "bound": (bound, 5.2, 3.2),
    "objective": (objective, 7.5, 3.15),
    "run": (run, 9.0, 2.55),
    "execution": (execution, 7.5, 2.85),
}


def draw(name: str, theme: str, path: Path) -> None:
    """Draw one figure for one theme."""
    color, (drawing, width, height) = THEMES[theme], FIGURES[name]
    ink = dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"),
        color["ink"],
    )
    fixed = {"svg.fonttype": "path", "svg.hashsalt": name, "font.size": 9, "axes.titlesize": 10}
    with mpl.rc_context(ink | fixed | {"axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure((width, height))
        drawing(figure, color)
        if any(ax.axison for ax in figure.axes):
            figure.set_layout_engine("constrained")
        figure.savefig(path, transparent=True, metadata={"Date": None, "Creator": None})


def main() -> None:
    """Draw all of them."""
    FOLDER.mkdir(exist_ok=True)
    for name in FIGURES:
        for theme in THEMES:
            draw(name, theme, FOLDER / f"{name}_{theme}.svg")


if __name__ == "__main__":
    main()
