"""Comparison of exported agents with the team's policy on the run's own task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tensordict.nn import TensorDictModuleBase
from torchrl.envs import StepCounter, TransformedEnv
from torchrl.envs.utils import step_mdp

from vm3ac_modules.evaluation.protocol import fixed_starts
from vm3ac_modules.execution.export._latent_source import LatentInput
from vm3ac_modules.execution.runtime.agent import DeployedAgent
from vm3ac_modules.keys import Keys
from vm3ac_modules.modules.policy import Policy

TOLERANCE = 1e-5
"""Largest difference that rounding may make, in units of the action (log-probability: nats)."""


def with_clock(env: TransformedEnv, keys: Keys | None = None) -> TransformedEnv:
    """Append a step counter to an environment that has none."""
    keys = Keys() if keys is None else keys
    if keys.step_count not in env.observation_spec.keys(True, True):
        env.append_transform(StepCounter())
    return env


def seen_by(record: Mapping[str, Any], keys: Keys) -> tuple[str, str]:
    """The entry that an agent observes: those that normalize by themselves see the raw one."""
    return keys.raw_observation if record.get("observation_normalization") else keys.observation


def largest_difference(
    policy: TensorDictModuleBase,
    env: TransformedEnv,
    paths: Sequence[Path | str],
    *,
    latent: LatentInput,
    seed: int,
    steps: int = 20,
    keys: Keys | None = None,
) -> float:
    """Play greedily and compare every agent's file with the joint policy, step by step.

    The largest absolute difference of an action's component, or of a legal action's log-probability
    (nats) for discrete actions, including the gap between the chosen and the best action's; nan if
    anything was nan.
    """
    keys = Keys() if keys is None else keys
    team = Policy.of(policy, keys)
    if latent in ("synchronized", "mean", "constant"):
        team = team.with_latent(latent, seed=seed)
    agents = [DeployedAgent(path, seed=seed, trust=True) for path in paths]
    discrete = agents[0].recurrent
    env, largest = with_clock(env, keys), 0.0
    seen = seen_by(agents[0].record, keys)
    with fixed_starts(env, seed):
        td = env.reset()
        for _ in range(steps):
            td = team(td)
            inputs: dict[str, np.ndarray] = {"step": td.get(keys.step_count)[..., 0].numpy()}
            if keys.episode in td:
                inputs["episode"] = td.get(keys.episode)[..., 0].numpy()
            if latent == "given":
                inputs["latent"] = td.get(keys.latent).numpy()
            joint = (team.scores(td) if discrete else td.get(keys.action)).numpy()
            for index, agent in enumerate(agents):
                if discrete:
                    inputs["action_mask"] = td.get(keys.action_mask)[:, index].numpy()
                out = agent.run(td.get(seen)[:, index].numpy(), **inputs)
                own = out["logits" if discrete else "action"]
                found = np.abs(own - joint[:, index])
                if discrete:
                    found = np.where(inputs["action_mask"], found, 0.0)
                    # An action is as good as its log-probability: ties may fall either way.
                    rows = np.arange(len(own))
                    lost = joint[:, index].max(-1) - joint[rows, index, out["action"]]
                    found = np.append(found, lost)
                # Unlike Python's max, NumPy's does not lose a nan.
                largest = float(np.maximum(largest, found.max()))
            td = step_mdp(env.step(td))
    return largest
