"""Figures 9 and 10 of the paper, as toy_meeting.py draws them."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from vm3ac_modules.evaluation.figures import new_figure

ENTRIES = ("w11", "w12", "w21", "w22")


def draw_weights(path: Path, history: list[tuple[int, Tensor]]) -> None:
    """Figure 9: the entries of both agents' weights over training."""
    figure = new_figure((9.0, 3.4), 110)
    panels = figure.subplots(1, 2, sharey=True)
    updates = [update for update, _ in history]
    values = torch.stack([weights.flatten(1) for _, weights in history])
    styles = [("black", "-"), ("black", "--"), ("0.6", "-"), ("0.6", "--")]
    for agent, axes in enumerate(panels):
        for entry, name in enumerate(ENTRIES):
            color, line = styles[entry]
            label = f"$w_{{{name[1:]}}}^{agent + 1}$"
            axes.plot(updates, values[:, agent, entry], color=color, ls=line, label=label)
        axes.axhline(0.0, color="black", lw=0.6)
        axes.grid(alpha=0.25)
        axes.set(xlabel="updates", title=f"({'ab'[agent]}) $W^{agent + 1}$ of Agent {agent + 1}")
        axes.legend(frameon=False, fontsize="small", ncols=2)
    panels[0].set_ylabel("weight of z")
    figure.savefig(path)


def draw_trajectories(path: Path, episodes: dict[str, Tensor], high: float) -> None:
    """Figure 10: where both agents go, with z drawn and with z = E[z]."""
    figure = new_figure((9.0, 3.6), 110)
    titles = {"sample": f"(a) z ~ Unif[0, {high:g}]$^2$", "mean": f"(b) z = E[z] = {high / 2:g}"}
    panels = figure.subplots(1, len(episodes), sharex=True, sharey=True)
    for axes, (mode, places) in zip(panels, episodes.items(), strict=True):
        for agent, (color, marker) in enumerate([("black", "o"), ("0.55", "s")]):
            label = f"Agent {agent + 1}"
            axes.plot(*places[:, agent].T, color=color, marker=marker, ms=4, label=label)
        axes.set(xlabel="x", title=f"{titles[mode]}, {len(places) - 1} steps")
        axes.grid(alpha=0.25)
        axes.legend(frameon=False, fontsize="small")
    panels[0].set_ylabel("y")
    figure.savefig(path)
