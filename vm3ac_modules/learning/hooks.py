r"""Hooks: what an algorithm does while environments are stepped.

Shapes: ``S`` seeds (1 in an ordinary run), ``R = S * B`` rows of the environment, seed by seed.

Sources: Mahajan et al. 2019, arXiv:1910.07483 (the latent's prior); Haarnoja et al. 2018,
arXiv:1812.05905 (the learned temperature).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor

from vm3ac_modules.baselines import MAVENDiscreteLoss, MAVENLoss
from vm3ac_modules.keys import Keys
from vm3ac_modules.objectives import (
    CentralizedActorCriticLoss,
    EntropyTerm,
    MutualInformationTerm,
)

__all__ = ["Hook", "LatentPolicyLearner", "Schedule", "TemperatureLearner"]


MAX_ADVANTAGE = 10.0


LOG_BETA_RANGE = (math.log(1e-5), math.log(1e2))
"""Where a learned temperature stays."""


class Hook:
    """Base of a hook: does nothing, holds nothing."""

    logged: tuple[str, ...] = ()
    """Names of the scalars that it reports."""
    optimizer: torch.optim.Optimizer | None = None
    """Its own optimizer, if it has one; a checkpoint holds its state too."""

    def before_collect(self, frames: int) -> None:
        """Called before every step of all rows, or round of episodes.

        Args:
            frames: environment steps so far, per seed.
        """

    def after_step(self, steps: TensorDictBase, frames: int) -> None:
        """Called with every step of all rows, or the ends of a round, after it was stored.

        Args:
            steps: one step of all rows, ``[R, 1]``, or the ends of a round's episodes, ``[E]``.
            frames: environment steps so far, per seed.
        """

    def after_update(self, losses: Mapping[str, Tensor]) -> None:
        """Called with what the loss returned, after every gradient step.

        Args:
            losses: losses and diagnostics, ``[S]`` or scalars.
        """

    def scalars(self) -> Tensor:
        """What it reports, ``[S, len(logged)]``."""
        return torch.empty(1, 0)

    def state_dict(self, seed: int) -> dict[str, Any]:
        """State of one seed for a checkpoint.

        Args:
            seed: index of the seed.
        """
        return {}

    def load_state_dicts(self, states: list[dict[str, Any]]) -> None:
        """Put back what :meth:`state_dict` gave.

        Args:
            states: one per seed.
        """


class Schedule(Hook):
    """Set a coefficient by the frames: an exploration floor, a temperature, a weight.

    Args:
        name: under which it is logged; None for what a loss logs itself.
        law: its value after so many frames.
        buffers: where it is written; asked anew, since a loss that is moved holds other buffers.
        late: set it after every step that was stored, not before the collection.
        seeds: number of stacked seeds, which all have this value.

    Example:
        >>> floor = torch.zeros(())
        >>> Schedule("epsilon", lambda frames: 1 / (1 + frames), lambda: [floor]).before_collect(1)
        >>> floor
        tensor(0.5000)
    """

    def __init__(
        self,
        name: str | None,
        law: Callable[[int], float],
        buffers: Callable[[], Iterable[Tensor]],
        *,
        late: bool = False,
        seeds: int = 1,
    ) -> None:
        self.logged = () if name is None else (name,)
        self.law, self.buffers, self.late, self.seeds = law, buffers, late, seeds
        self.value = math.nan

    def before_collect(self, frames: int) -> None:
        """Set the value for the next steps."""
        if not self.late:
            self._set(frames)

    def after_step(self, steps: TensorDictBase, frames: int) -> None:
        """Set it for the updates that follow."""
        if self.late:
            self._set(frames)

    def _set(self, frames: int) -> None:
        self.value = self.law(frames)
        for buffer in self.buffers():
            buffer.fill_(self.value)

    def scalars(self) -> Tensor:
        """Its value as last set, once per seed."""
        return torch.full((self.seeds, 1), self.value, dtype=torch.float64)


class TemperatureLearner(Hook):
    r"""Learn beta so that a quantity stays at its target, as SAC learns its alpha.

    .. math:: L(\log\beta) = \log\beta \cdot \mathrm{sg}(x - x_{\text{target}})

    x is the mean entropy of the policies (``"entropy"``), or what VM3-AC's bonus of Eq. (46) is per
    unit of beta (``"bonus"``), in nats.

    Args:
        loss: an actor-critic loss with a term that has a beta.
        measure: ``"entropy"`` or ``"bonus"``.
        target: the target (nats).
        lr: learning rate of Adam.
        seeds: number of stacked seeds.

    Raises:
        ValueError: for an unknown measure, no target, a bonus without pairs, a beta per agent, or
            beta = 0.

    References:
        Haarnoja et al. 2018, "Soft Actor-Critic Algorithms and Applications", arXiv:1812.05905,
        Eq. (18).
    """

    logged = ("beta",)
    optimizer: torch.optim.Optimizer

    def __init__(
        self,
        loss: CentralizedActorCriticLoss,
        measure: str,
        *,
        target: float | None = None,
        lr: float = 3e-4,
        seeds: int = 1,
    ) -> None:
        if measure not in ("entropy", "bonus"):
            raise ValueError(f"auto_beta must be null, 'entropy' or 'bonus', got {measure!r}.")
        self.term = loss.term(EntropyTerm)
        has_pairs = isinstance(self.term, MutualInformationTerm)
        if target is None or (measure == "bonus" and not has_pairs):
            raise ValueError("auto_beta='bonus' needs beta_target and VM3-AC's regularizer.")
        if self.term.beta.ndim:
            raise ValueError("auto_beta learns one beta for all agents: give beta as a number.")
        if not bool((self.term.beta > 0).all()):
            raise ValueError("auto_beta learns log(beta): start with beta > 0.")
        self.loss, self.measure = loss, measure
        self.target = target
        if seeds > 1:
            # One temperature per seed, in front of batch and agents.
            stacked = self.term.beta.expand(seeds).reshape(seeds, 1, 1)
            self.term.register_buffer("beta", stacked.clone())
        # A seed's part is what a run alone has: an optimizer's scalars are not sliced.
        shape = (1,) if seeds == 1 else (seeds, 1)
        self.log_beta = self.term.beta.log().reshape(shape).requires_grad_()
        self.optimizer = torch.optim.Adam([self.log_beta], lr=lr)

    def after_update(self, losses: Mapping[str, Tensor]) -> None:
        """One step of log(beta), and the new beta into the loss."""
        beta = self.term.beta
        value = losses["entropy"].reshape(self.log_beta.shape)
        if self.measure == "bonus":
            correlation = losses["correlation_term"].reshape(value.shape)
            value = value + correlation / (self.loss.reward_scale * beta.reshape(value.shape))
        self.log_beta.grad = value.detach() - self.target
        self.optimizer.step()
        with torch.no_grad():
            # A target out of reach would drive it to where nothing is finite.
            self.log_beta.clamp_(*LOG_BETA_RANGE)
            beta.copy_(self.log_beta.exp().reshape(beta.shape))

    def scalars(self) -> Tensor:
        """Beta of every seed."""
        return self.log_beta.detach().exp().reshape(-1, 1)

    def state_dict(self, seed: int) -> dict[str, Any]:
        """The temperature of one seed."""
        return {"log_beta": self.log_beta.detach().reshape(-1)[seed].clone()}

    def load_state_dicts(self, states: list[dict[str, Any]]) -> None:
        """Put back what was saved."""
        with torch.no_grad():
            saved = torch.stack([state["log_beta"] for state in states])
            self.log_beta.copy_(saved.reshape(self.log_beta.shape))


class LatentPolicyLearner(Hook):
    r"""Train MAVEN's prior of the latent on finished episodes.

    Returns are compared with a running mean b (decay 0.9), divided by their deviation within the
    group of episodes, and clipped to 10 deviations: where rewards are sparse, a whole group may
    have the same return, off the mean.

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
    optimizer: torch.optim.Optimizer

    def __init__(
        self,
        loss: MAVENLoss | MAVENDiscreteLoss,
        *,
        lr: float,
        episodes: int,
        seeds: int = 1,
        keys: Keys | None = None,
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
        before = self.baseline.to(mean)
        self.baseline = torch.where(before.isnan(), mean, 0.9 * before + 0.1 * mean)
        advantage = returns - self.baseline.unsqueeze(-1)
        advantage = advantage / (returns.std(-1, keepdim=True) + 1e-6)
        advantage = advantage.clamp(-MAX_ADVANTAGE, MAX_ADVANTAGE)
        if self.seeds == 1:
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
        return {
            "baseline": self.baseline[seed].clone(),
            "last": self.last[seed].clone(),
            "queue": list(self.queues[seed]),
        }

    def load_state_dicts(self, states: list[dict[str, Any]]) -> None:
        """Put back what was saved."""
        device = self.last.device
        self.baseline = torch.stack([state["baseline"] for state in states]).to(device)
        self.last = torch.stack([state["last"] for state in states]).to(device)
        parameters = next(iter(self.loss.parameters()))
        self.queues = [[row.to(parameters.device) for row in s["queue"]] for s in states]
