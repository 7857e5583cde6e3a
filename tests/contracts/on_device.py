"""A short life of an agent on a device: play, store, update, evaluate."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vm3ac_modules.algorithms import build
from vm3ac_modules.envs.tasks import battle_task, find_task
from vm3ac_modules.evaluation import evaluate
from vm3ac_modules.learning import SourceSizes, seed_everything
from vm3ac_modules.learning._collecting import collecting

ROWS = 6
BATTLE = "guard (whole episodes)"


class Life:
    """An agent with its environment and replay, all on one device.

    Args:
        algorithm: its name.
        task: name of the environment, or ``BATTLE``.
        device: where all lies.
        seeds: seeds trained at once.
        options: options of the algorithm.
    """

    def __init__(
        self, algorithm: str, task: str, device: Any = "cpu", seeds: int = 1, **options: Any
    ) -> None:
        seed_everything(0)
        self.task = battle_task("guard", "games") if task == BATTLE else find_task(task)
        episodes = self.task.plays == "episodes"
        made = self.task.make(seeds * ROWS, device=device, seed=0, teams=seeds)
        small = {"hidden_size": 8} if episodes else {"hidden": (8,)}
        self.agent = build(algorithm, made, device=device, seeds=seeds, **small, **options)
        self.env = self.agent.wrap(made)
        sizes = SourceSizes(
            *(40, 4),
            updates=0.5,
            seeds=seeds,
            device=device,
            episodes=episodes,
            keys=self.agent.keys,
        )
        self.source = self.agent.source(sizes)
        self.source.append_transforms(list(self.agent.replay_transforms()))
        limit = self.task.limit(made)
        self.steps = collecting(self.agent, self.env, episodes=episodes, max_steps=limit)
        self.turns = iter(self.steps)
        self.frames = 0

    def collect(self) -> None:
        """One turn: play, store, and tell the hooks."""
        for hook in self.agent.hooks:
            hook.before_collect(self.frames)
        collected = next(self.turns)
        self.frames += collected.frames
        self.source.add(collected.data)
        for hook in self.agent.hooks:
            hook.after_step(collected.steps, self.frames)

    def update(self, max_grad_norm: float | None = 1.0) -> dict[str, Tensor]:
        """The updates that are due; what the last one returned."""
        found: dict[str, Tensor] = {}
        for batch in self.source.batches():
            found = self.agent.update(batch, max_grad_norm)
        return found

    def returns(self) -> Tensor:
        """Returns of an episode per row, of the mean actions."""
        limit = min(self.task.limit(self.env), 3)
        policy, plays = self.agent.policy.greedy(), self.task.plays
        return evaluate(policy, self.env, max_steps=limit, seed=5, plays=plays).returns


def live(*names: Any, turns: int = 4, **options: Any) -> dict[str, Tensor]:
    """What a short life leaves behind, on the host: losses, clips, parameters and returns."""
    life, losses = Life(*names, **options), {}
    for _ in range(turns):
        life.collect()
        losses = life.update() or losses
    assert losses
    found = {f"out {name}": value for name, value in losses.items()}
    found |= {f"clipped {name}": value for name, value in life.agent.clipped.items()}
    found |= {**life.agent.loss.state_dict(), "returns": life.returns()}
    life.steps.close()
    return {name: torch.as_tensor(value).detach().cpu() for name, value in found.items()}
