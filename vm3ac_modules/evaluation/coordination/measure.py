r"""How coordinated a trained policy is, measured on states that it visits itself.

Given the state: actions that only follow the state count for nothing.

Shapes: ``B`` rows, ``S`` states, ``D`` joint actions drawn in each state, ``N`` agents.

Source: Kim et al. 2023, arXiv:2303.00451, Eqs. (5)-(8); docs/metrics.md for every quantity.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from tensordict import TensorDictBase
from tensordict.utils import NestedKey
from torchrl.envs import EnvBase
from torchrl.envs.utils import ExplorationType

from vm3ac_modules.evaluation.coordination.estimates import (
    categorical_coordination,
    gaussian_coordination,
)
from vm3ac_modules.evaluation.coordination.result import Coordination
from vm3ac_modules.evaluation.protocol import first_episodes, fixed_starts
from vm3ac_modules.learning.episodes import EpisodeCollector
from vm3ac_modules.modules.latent import CategoricalPrior
from vm3ac_modules.modules.policy import Policy
from vm3ac_modules.objectives import PolicyReader

__all__ = ["measure_coordination"]

_PER_EPISODE = "not estimated: the latent is drawn once per episode, so the states tell it"
_DETERMINISTIC = "undefined: the policy is deterministic, so nothing varies given the state"
_NOT_CATEGORICAL = "not estimated: the latent is not categorical"


def measure_coordination(
    agent: Any,
    env: EnvBase,
    *,
    max_steps: int,
    seed: int,
    rows: int = 256,
    num_latents: int = 1024,
    draws: int = 64,
) -> Coordination:
    r"""Play episodes and measure how the agents' simultaneous actions depend on each other.

    Actions and latents are drawn while playing, without an exploration floor, and every step of
    every episode up to its end is as likely to be looked at. The random streams of the caller stay
    as they were.

    Args:
        agent: a trained agent of one seed, as of :func:`~vm3ac_modules.runs.load_agent`; its
            ``policy``, ``loss`` and ``keys`` are asked.
        env: an environment of its own that the agent has wrapped, ``[B]``.
        max_steps: length of the rollout; at least the time limit.
        seed: seed of the starts, of the choice of states and of the draws.
        rows: states S to look at, at most.
        num_latents: extra latents K >= 2 of the estimates of continuous policies.
        draws: joint actions D >= 2 per state, of continuous policies.

    Returns:
        What was found. Policies without a latent have information 0 by construction; deterministic
        ones, and those with one latent per episode (MAVEN), come back with a note alone.

    Raises:
        ValueError: for ``rows``, ``num_latents`` or ``draws`` below 2, or an agent of several
            seeds.

    Example:
        >>> import pytest
        >>> _ = pytest.importorskip("vmas")
        >>> from vm3ac_modules.envs import make_env
        >>> from vm3ac_modules.algorithms import build
        >>> env = make_env("predator_prey_2", 4, seed=0, max_steps=5)
        >>> agent = build("vm3ac", env, hidden=(8, 8))
        >>> found = measure_coordination(agent, env, max_steps=5, seed=1, num_latents=8)
        >>> found.states, found.correlation.matrix.shape
        (20, torch.Size([4, 4]))
    """
    for name, value in {"rows": rows, "num_latents": num_latents, "draws": draws}.items():
        if value < 2:
            raise ValueError(f"{name} must be at least 2, got {value}.")
    policy = Policy.of(agent.policy, agent.keys)
    if policy.seeds > 1:
        raise ValueError(
            f"measure one seed at a time: this agent holds {policy.seeds}; load_agent gives each."
        )
    num_agents = policy.sizes.num_agents
    if policy.latent_per_episode:
        return Coordination(num_agents, note=_PER_EPISODE)
    if policy.recurrent:
        return _of_battles(policy.greedy(), env, max_steps, seed, rows)
    reader = getattr(agent.loss, "reader", None)
    if not isinstance(reader, PolicyReader):
        return Coordination(num_agents, note=_DETERMINISTIC)
    predictor = getattr(agent.loss, "predictor_network", None)
    with fixed_starts(env, seed, ExplorationType.RANDOM):
        read = [*dict.fromkeys([*reader.in_keys, policy.keys.observation])]
        states = _visited_states(policy, env, max_steps, rows, read)
        return gaussian_coordination(
            reader, states, predictor=predictor, num_latents=num_latents, draws=draws
        )


def _of_battles(policy: Policy, env: EnvBase, max_steps: int, seed: int, rows: int) -> Coordination:
    keys, prior = policy.keys, policy.prior
    if prior is not None and not isinstance(prior, CategoricalPrior):
        return Coordination(policy.sizes.num_agents, note=_NOT_CATEGORICAL)
    with fixed_starts(env, seed, ExplorationType.RANDOM):
        read = list(policy.actor.in_keys)
        states = _visited_states(policy, env, max_steps, rows, read)
        if prior is None:
            log_prob = policy.scores(states).unsqueeze(0)
            return categorical_coordination(log_prob, log_prob.new_zeros(1))
        support = prior.support().to(states.get(keys.latent))
        every = states.expand(len(support), len(states)).clone(recurse=False)
        every.set(keys.latent, support.unsqueeze(1).expand(*every.shape, -1))
        return categorical_coordination(policy.scores(every), prior.log_prob(support))


def _visited_states(
    policy: Policy, env: EnvBase, max_steps: int, rows: int, read: Sequence[NestedKey]
) -> TensorDictBase:
    """Draw states of the policy's own episodes, with the entries to read, ``[S]``, S <= rows.

    Rows of recurrent policies wait when they are over, and the entries include memories.
    """
    keys = policy.keys
    if policy.recurrent:
        steps = EpisodeCollector(env, policy, max_steps, read, keys=keys).play().episodes
        counts = steps.get(keys.mask).squeeze(-1)
    else:
        steps = env.rollout(max_steps, policy, break_when_any_done=False)
        counts = first_episodes(steps, keys)
    states = steps.select(*read)[counts]
    chosen = torch.randperm(len(states))[:rows]
    return states[chosen.to(states.device) if states.device is not None else chosen]
