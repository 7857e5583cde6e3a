"""What an agent's record says: names, shapes, types and units of all that goes in and comes out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vm3ac_modules.execution.export.graph import FeedForwardAgent, RecurrentAgent
from vm3ac_modules.nn.recurrent import RecurrentPolicyNet
from vm3ac_modules.priors import CategoricalPrior, GaussianPrior, LatentPrior, UniformPrior
from vm3ac_modules.runs.record import git_commit, versions

if TYPE_CHECKING:
    from vm3ac_modules.execution.export.agents import TeamPolicy

__all__ = ["INPUT_TYPES", "describe", "input_shapes"]

INPUT_TYPES = {
    "observation": "float32",
    "action_mask": "bool",
    "hidden": "float32",
    "last_action": "int64",
    "seed": "int64",
    "episode": "int64",
    "step": "int64",
    "latent": "float32",
}
"""Types of a program's inputs."""
UNITS = {
    "observation": ("environment", "as the environment gives it"),
    "action_mask": ("none", "true where legal"),
    "hidden": ("none", "memory; zeros at the start of an episode"),
    "last_action": ("none", "action of the step before, -1 at the start of an episode"),
    "seed": ("none", "the 64 bits of the team's seed"),
    "episode": ("episodes", "number of the episode, the same on all agents"),
    "step": ("steps", "since the episode's start"),
    "latent": ("prior", "one draw of the prior, the same for all agents"),
    "action": ("environment", "as the environment takes it"),
    "loc": ("none", "mean before squashing by tanh"),
    "scale": ("none", "standard deviation before squashing by tanh"),
    "logits": ("nats", "log-probabilities; -1e9 where illegal"),
    "next_hidden": ("none", "memory for the next step"),
    "used_latent": ("prior", "the latent that was computed"),
}
"""Unit and meaning of everything that goes in or comes out."""


def input_shapes(agent: FeedForwardAgent | RecurrentAgent) -> dict[str, list[Any]]:
    """Shapes of a program's inputs; ``"rows"`` stands for any number.

    Args:
        agent: the agent.

    Returns:
        name -> shape, in the program's order.
    """
    sizes = _sizes(agent)
    known: dict[str, list[Any]] = {
        "observation": ["rows", sizes["observation"]],
        "action_mask": ["rows", sizes["actions"]],
        "hidden": ["rows", sizes["memory"]],
        "last_action": ["rows"],
        "seed": [],
        "episode": ["rows"],
        "step": ["rows"],
        "latent": ["rows", sizes["latent"]],
    }
    return {name: known[name] for name in agent.inputs}


def _sizes(agent: FeedForwardAgent | RecurrentAgent) -> dict[str, int]:
    net = agent.net
    latent = int(getattr(net, "latent_dim", 0))
    if isinstance(agent, FeedForwardAgent):
        first = next(p for name, p in net.named_parameters() if not name.startswith("latent_layer"))
        sizes = {"observation": first.shape[-2], "actions": len(agent.center), "memory": 0}
        return {**sizes, "latent": latent}
    recurrent: Any = net
    width, num_actions = recurrent.embed.weight.shape[-2], recurrent.num_actions
    beside = num_actions + recurrent.identity.shape[-1]
    if isinstance(net, RecurrentPolicyNet) and net.latent_input == "input":
        beside += latent
    sizes = {"observation": width - beside, "actions": num_actions, "memory": recurrent.hidden_size}
    return {**sizes, "latent": latent}


def _entry(name: str, shape: list[Any], dtype: str) -> dict[str, Any]:
    unit, meaning = UNITS[name]
    return {"name": name, "shape": shape, "dtype": dtype, "unit": unit, "meaning": meaning}


def _law(prior: LatentPrior | None) -> dict[str, Any] | None:
    """The prior as NumPy's clock reads it; None where nobody but the trainer can draw it."""
    known = isinstance(prior, (GaussianPrior, UniformPrior, CategoricalPrior))
    return prior.describe() if prior is not None and known else None


def describe(
    team: TeamPolicy,
    agent: FeedForwardAgent | RecurrentAgent,
    index: int,
    about: Mapping[str, Any],
    opset: int | None,
) -> dict[str, Any]:
    """The record of one agent.

    Args:
        team: the policy that it was cut out of.
        agent: the agent.
        index: its number.
        about: algorithm, task and checkpoint of the run.
        opset: version of ONNX's operators; None for a program of ``torch.export``.

    Returns:
        A JSON-serializable mapping.
    """
    sizes, shapes, source = _sizes(agent), input_shapes(agent), agent.source
    outputs = {
        "action": ["rows"] if isinstance(agent, RecurrentAgent) else ["rows", sizes["actions"]],
        "loc": ["rows", sizes["actions"]],
        "scale": ["rows", sizes["actions"]],
        "logits": ["rows", sizes["actions"]],
        "next_hidden": ["rows", sizes["memory"]],
        "used_latent": ["rows", sizes["latent"]],
    }
    entries = [_entry(name, shapes[name], INPUT_TYPES[name]) for name in agent.inputs]
    kind = "int64" if isinstance(agent, RecurrentAgent) else "float32"
    produced = [
        _entry(name, outputs[name], kind if name == "action" else "float32")
        for name in agent.outputs
    ]
    low, high = team.low, team.high
    return {
        **about,
        "agent": index,
        "num_agents": team.num_agents,
        "recurrent": isinstance(agent, RecurrentAgent),
        "inputs": entries,
        "outputs": produced,
        "action": {"kind": "discrete", "num_actions": sizes["actions"]}
        if low is None or high is None
        else {"kind": "continuous", "low": low[index].tolist(), "high": high[index].tolist()},
        "latent": {
            "source": source.source,
            "dim": sizes["latent"],
            "prior": _law(team.prior),
        },
        # None is in the library: environments give observations as policies read them.
        "observation_normalization": None,
        "onnx_opset": opset,
        "versions": versions(),
        "git_commit": git_commit(),
    }
