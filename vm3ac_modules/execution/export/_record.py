"""The record of an agent's file: names, shapes, types and units of its inputs and outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from vm3ac_modules.execution.export._agent_module import FeedForwardAgent, RecurrentAgent
from vm3ac_modules.modules.policy import Policy
from vm3ac_modules.runs.record import git_commit, versions


class _Entry(NamedTuple):
    """An input or output: its type, unit and meaning, and what its shape ``[rows, size]`` is of."""

    dtype: str
    unit: str
    meaning: str
    size: str | None = None
    """Name of the size behind the rows; None for a number per row."""


_ENTRIES = {
    "observation": _Entry("float32", "environment", "as the environment gives it", "obs"),
    "action_mask": _Entry("bool", "none", "true where legal", "actions"),
    "hidden": _Entry("float32", "none", "memory; zeros at the start of an episode", "memory"),
    "last_action": _Entry(
        "int64", "none", "action of the step before, -1 at the start of an episode"
    ),
    "seed": _Entry("int64", "none", "the 64 bits of the team's seed"),
    "episode": _Entry("int64", "episodes", "number of the episode, the same on all agents"),
    "step": _Entry("int64", "steps", "since the episode's start"),
    "latent": _Entry("float32", "prior", "one draw of the prior, the same for all agents", "z"),
    "action": _Entry("float32", "environment", "as the environment takes it", "actions"),
    "loc": _Entry("float32", "none", "mean before squashing by tanh", "actions"),
    "scale": _Entry("float32", "none", "standard deviation before squashing by tanh", "actions"),
    "logits": _Entry("float32", "nats", "log-probabilities; -1e9 where illegal", "actions"),
    "next_hidden": _Entry("float32", "none", "memory for the next step", "memory"),
    "used_latent": _Entry("float32", "prior", "the latent that was computed", "z"),
}


def describe_entry(agent: FeedForwardAgent | RecurrentAgent, name: str) -> dict[str, Any]:
    """Describe an input or output; ``"rows"`` stands for any number."""
    net: Any = agent.net
    recurrent = isinstance(agent, RecurrentAgent)
    dtype, unit, meaning, size = _ENTRIES[name]
    if name == "action" and recurrent:
        # Its number.
        dtype, size = "int64", None
    sizes = {
        "obs": net.obs_dim,
        "actions": net.num_actions if recurrent else net.action_dim,
        "memory": net.hidden_size if recurrent else 0,
        "z": net.latent_dim,
    }
    shape = ["rows", *([] if size is None else [sizes[size]])]
    # One seed for all rows.
    shape = [] if name == "seed" else shape
    return {"name": name, "shape": shape, "dtype": dtype, "unit": unit, "meaning": meaning}


def describe(
    policy: Policy,
    agent: FeedForwardAgent | RecurrentAgent,
    index: int,
    about: Mapping[str, Any],
    opset: int | None,
) -> dict[str, Any]:
    """Describe one agent, as JSON takes it; ``about`` is what is said of its run."""
    sizes, bounds, prior = policy.sizes, policy.bounds, policy.prior
    actions: dict[str, Any] = {"kind": "discrete", "num_actions": sizes.action_dim}
    if bounds is not None:
        low, high = (bound[index].tolist() for bound in bounds)
        actions = {"kind": "continuous", "low": low, "high": high}
    return {
        **about,
        "agent": index,
        "num_agents": sizes.num_agents,
        "recurrent": isinstance(agent, RecurrentAgent),
        "inputs": [describe_entry(agent, name) for name in agent.inputs],
        "outputs": [describe_entry(agent, name) for name in agent.outputs],
        "action": actions,
        "latent": {
            "source": agent.source.source,
            "dim": policy.latent_dim,
            # None where nobody but the trainer can draw it.
            "prior": None if prior is None or prior.law is None else prior.describe(),
        },
        # The program does so itself: it takes what the environment gives.
        "observation_normalization": _normalizers(agent),
        "onnx_opset": opset,
        "versions": versions(),
        "git_commit": git_commit(),
    }


def _normalizers(agent: FeedForwardAgent | RecurrentAgent) -> list[dict[str, list[float]]] | None:
    """``(o - loc) / scale``, one behind the other; None where observations are read as they are."""
    parts: Any = getattr(agent, "normalizers", ())
    found = [{"loc": p.loc.tolist(), "scale": p.scale.tolist()} for p in parts]
    return found or None
