r"""What an algorithm does beside its loss while environments are stepped.

Shapes: ``S`` seeds (1 in an ordinary run), ``R = S * B`` rows of the environment, seed by seed.

Sources: Mahajan et al. 2019, arXiv:1910.07483 (the latent's prior); Jaques et al. 2019,
arXiv:1810.08647 (the schedule of influence).
"""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor

from vm3ac_modules.baselines import MAVENLoss, SIMOALoss
from vm3ac_modules.functional.schedules import linear_schedule
from vm3ac_modules.keys import Keys

__all__ = ["Hook", "InfluenceSchedule", "LatentPolicyLearner"]


class Hook:
    """Base of a hook: does nothing, holds nothing."""

    logged: tuple[str, ...] = ()
    """Names of the scalars that it reports."""
    optimizer: torch.optim.Optimizer | None = None
    """Its own optimizer, if it has one; a checkpoint holds its state too."""

    def after_step(self, steps: TensorDictBase, frames: int) -> None:
        """Called with every step of all rows, after it was stored.

        Args:
            steps: one step of all rows, ``[R, 1]``.
            frames: environment steps so far, per seed.
        """

    def scalars(self) -> Tensor:
        """What it reports, ``[S, len(logged)]``."""
        return torch.empty(1, 0)

    def state_dict(self, seed: int) -> dict[str, Any]:
        """What a checkpoint of one seed needs to hold.

        Args:
            seed: index of the seed.
        """
        return {}

    def load_state_dicts(self, states: list[dict[str, Any]]) -> None:
        """Put back what :meth:`state_dict` gave.

        Args:
            states: one per seed.
        """


class InfluenceSchedule(Hook):
    r"""Raise the weight of the influence while its models learn: 0 at first, then linearly.

    .. math:: \lambda(t) = \lambda\, \mathrm{clip}((t - t_0) / (t_1 - t_0), 0, 1)

    Args:
        loss: the loss whose term's weight is set.
        start: frames :math:`t_0` until which it is 0.
        full: frames :math:`t_1` from which it is whole.

    Raises:
        ValueError: if not 0 <= start <= full.

    Example:
        >>> InfluenceSchedule(None, 100, 50)
        Traceback (most recent call last):
        ...
        ValueError: influence_start_frames must be between 0 and influence_full_frames, got ...
    """

    def __init__(self, loss: SIMOALoss, start: int, full: int) -> None:
        if not 0 <= start <= full:
            raise ValueError(
                "influence_start_frames must be between 0 and influence_full_frames, got "
                f"{start} and {full}."
            )
        self.weight = loss.intrinsic.weight  # type: ignore[union-attr]
        self.end, self.start, self.duration = float(self.weight), start, full - start
        self.weight.zero_()

    def after_step(self, steps: TensorDictBase, frames: int) -> None:
        """Set the weight for these frames."""
        ramp = {"start": 0.0, "end": self.end, "duration": self.duration}
        # The ramp is over before it begins if it has no length.
        before = frames < self.start
        self.weight.fill_(0.0 if before else linear_schedule(frames - self.start, **ramp))


class LatentPolicyLearner(Hook):
    r"""Train MAVEN's prior of the latent on finished episodes.

    Returns are compared with a running mean b (decay 0.9) and divided by their deviation within
    the group of episodes.

    Args:
        loss: MAVEN's loss, which holds the prior.
        lr: learning rate of Adam.
        episodes: episodes per gradient step.
        seeds: number of stacked seeds.
        keys: the tensordict vocabulary.

    Raises:
        ValueError: for fewer than two episodes per step.
    """

    logged = ("loss_latent_policy", "latent_policy_entropy")

    def __init__(
        self, loss: MAVENLoss, *, lr: float, episodes: int, seeds: int = 1, keys: Keys | None = None
    ) -> None:
        if episodes < 2:
            raise ValueError(
                f"latent_episodes must be at least 2 to compare returns, got {episodes}."
            )
        self.loss, self.episodes, self.seeds = loss, episodes, seeds
        self.keys = Keys() if keys is None else keys
        parameters = list(loss.latent_policy_network_params.parameters())
        self.optimizer = torch.optim.Adam(parameters, lr=lr)
        self.queues: list[list[Tensor]] = [[] for _ in range(seeds)]
        self.baseline = torch.full((seeds,), float("nan"))
        self.last = torch.full((seeds, 2), float("nan"))

    def after_step(self, steps: TensorDictBase, frames: int) -> None:
        """Collect finished episodes and learn from every full group of them."""
        keys = self.keys
        done = steps.get(("next", keys.done)).reshape(self.seeds, -1)
        if not bool(done.any()):
            return
        following = steps.get("next")
        total = following.get(keys.episode_reward).mean(-2)
        parts = [steps.get(keys.situation), steps.get(keys.latent), total]
        ended = torch.cat([part.reshape(*done.shape, -1) for part in parts], dim=-1)
        for queue, rows, mask in zip(self.queues, ended, done, strict=True):
            queue.extend(rows[mask].unbind(0))
        while min(map(len, self.queues)) >= self.episodes:
            group = [queue[: self.episodes] for queue in self.queues]
            self.queues = [queue[self.episodes :] for queue in self.queues]
            self._learn(torch.stack([torch.stack(rows) for rows in group]))

    def _learn(self, group: Tensor) -> None:
        """One step on ``[S, E, X + K + 1]``."""
        sizes = self.loss.latent_policy_network.out_sizes
        latent_size, situation_size = sizes[0], sizes[2]
        situation, latent, total = group.split((situation_size, latent_size, 1), dim=-1)
        returns = total.squeeze(-1)
        mean = returns.mean(-1)
        self.baseline = torch.where(
            self.baseline.isnan(), mean, 0.9 * self.baseline.to(mean) + 0.1 * mean
        )
        advantage = returns - self.baseline.unsqueeze(-1)
        advantage = advantage / (returns.std(-1, keepdim=True) + 1e-6)
        if self.loss.seed_dims == 0:
            situation, latent, advantage = situation[0], latent[0], advantage[0]
        loss, entropy = self.loss.latent_policy_loss(situation, latent, advantage)
        loss.sum().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.last = torch.stack((loss, entropy), dim=-1).detach().reshape(self.seeds, 2)

    def scalars(self) -> Tensor:
        """Loss and entropy (nats) of the last step."""
        return self.last

    def state_dict(self, seed: int) -> dict[str, Any]:
        """Baseline and waiting episodes of one seed."""
        return {"baseline": self.baseline[seed].clone(), "queue": list(self.queues[seed])}

    def load_state_dicts(self, states: list[dict[str, Any]]) -> None:
        """Put back what was saved."""
        device = self.last.device
        self.baseline = torch.stack([state["baseline"] for state in states]).to(device)
        parameters = next(iter(self.loss.parameters()))
        self.queues = [[row.to(parameters.device) for row in s["queue"]] for s in states]
