"""Transforms that give every environment, and stock losses, the entries they expect."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.data import Composite, TensorSpec, Unbounded
from torchrl.envs import Transform

from vm3ac_modules.envs._vector import ENDS
from vm3ac_modules.keys import Keys

__all__ = ["AgentIndex", "AgentInfoToRoot", "EpisodeCounter", "ExpandDone"]


class ExpandDone(Transform):
    """Write ``done``, ``terminated`` and ``truncated`` also under a group, one per agent.

    Our environments and losses keep these flags at the root only, ``[*B, 1]``. The value estimators
    of stock TorchRL losses want the shape of the reward, ``[*B, N, 1]``: append this transform to
    the environment, or to the replay buffer, that feeds such a loss.

    The number of agents is the first dimension after the batch size in the group's own entries.

    Args:
        group: the group of agents; ``"agents"`` by default.

    Example:
        >>> import torch
        >>> from tensordict import TensorDict
        >>> from vm3ac_modules.envs import ExpandDone
        >>> nxt = dict(done=torch.zeros(5, 1), agents=dict(reward=torch.zeros(5, 3, 1)))
        >>> td = ExpandDone()(TensorDict({"next": nxt}, [5]))
        >>> td["next", "agents", "done"].shape
        torch.Size([5, 3, 1])
    """

    def __init__(self, group: str = "agents") -> None:
        super().__init__()
        self.group = group

    def _write(self, tensordict: TensorDictBase) -> None:
        entries = tensordict.get(self.group, None)
        leaves = [] if entries is None else list(entries.values(True, True))
        agent_dim = tensordict.batch_dims
        leaf = next((value for value in leaves if value.ndim > agent_dim), None)
        if leaf is None:
            raise KeyError(
                f"ExpandDone: no entry under {self.group!r} tells the number of agents; present: "
                f"{sorted(map(str, tensordict.keys(True, True)))}. Give the group's name."
            )
        for name in ENDS:
            flag = tensordict.get(name, None)
            if flag is not None:
                tensordict.set((self.group, name), _expand(flag, leaf.shape[agent_dim]))

    def _call(self, next_tensordict: TensorDictBase) -> TensorDictBase:
        self._write(next_tensordict)
        return next_tensordict

    def _reset(
        self, tensordict: TensorDictBase, tensordict_reset: TensorDictBase
    ) -> TensorDictBase:
        return self._call(tensordict_reset)

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write the flags into a batch, as a replay buffer's transform does.

        Args:
            tensordict: a batch with ``"next"``, or a single step.

        Returns:
            The same tensordict.
        """
        following = tensordict.get("next", None)
        parts = [part for part in (tensordict, following) if part is not None]
        written = [part for part in parts if part.get("done", None) is not None]
        if not written:
            raise KeyError(
                "ExpandDone: found neither 'done' nor ('next', 'done'); present: "
                f"{sorted(map(str, tensordict.keys(True, True)))}"
            )
        for part in written:
            self._write(part)
        return tensordict

    def transform_output_spec(self, output_spec: Composite) -> Composite:
        """Add the group's flags to the done spec."""
        output_spec = output_spec.clone()
        group = output_spec["full_reward_spec"].get(self.group, None)
        if group is None:
            raise KeyError(f"ExpandDone: the environment has no reward under {self.group!r}")
        agents = group["reward"].shape[len(output_spec.shape)]
        done_spec = output_spec["full_done_spec"]
        for name in ENDS:
            if name in done_spec.keys():  # noqa: SIM118
                spec = done_spec[name]
                done_spec[self.group, name] = (
                    spec.unsqueeze(-2).expand(*spec.shape[:-1], agents, spec.shape[-1]).clone()
                )
        return output_spec


def _expand(flag: Tensor, agents: int) -> Tensor:
    # A copy, since storages and in-place writers refuse expanded memory.
    return flag.unsqueeze(-2).expand(*flag.shape[:-1], agents, flag.shape[-1]).clone()


class AgentIndex(Transform):
    """Append each agent's one-hot index to its observation, ``[*B, N, O]`` to ``[*B, N, O + N]``.

    Agents that share parameters and see the same (a common start) would otherwise act alike.

    Args:
        group: the group of agents; ``"agents"`` by default.

    Example:
        >>> from vm3ac_modules.envs import AgentIndex, make_env
        >>> env = make_env("predator_prey_3", num_envs=2)
        >>> env.append_transform(AgentIndex()).reset()["agents", "observation"].shape
        torch.Size([2, 3, 58])
    """

    def __init__(self, group: str = "agents") -> None:
        self.key = (group, "observation")
        super().__init__(in_keys=[self.key], out_keys=[self.key])

    def _call(self, next_tensordict: TensorDictBase) -> TensorDictBase:
        seen = next_tensordict.get(self.key)
        index = torch.eye(seen.shape[-2], dtype=seen.dtype, device=seen.device)
        both = torch.cat((seen, index.expand(*seen.shape[:-1], -1)), dim=-1)
        return next_tensordict.set(self.key, both)

    def _reset(
        self, tensordict: TensorDictBase, tensordict_reset: TensorDictBase
    ) -> TensorDictBase:
        return self._call(tensordict_reset)

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Refuse use outside an environment, where nothing says whether it was appended already."""
        raise RuntimeError("AgentIndex works inside an environment, not in a replay buffer")

    def transform_observation_spec(self, observation_spec: Composite) -> Composite:
        """Widen the spec of the observations."""
        observation_spec = observation_spec.clone()
        *group, agents, size = observation_spec[self.key].shape
        observation_spec[self.key] = Unbounded(
            shape=(*group, agents, size + agents),
            dtype=observation_spec[self.key].dtype,
            device=observation_spec.device,
        )
        return observation_spec


class AgentInfoToRoot(Transform):
    """Move the mean of the agents' info to the root, ``("info", key)``.

    VMAS reports metrics once per agent, ``(group, "info", key)`` ``[*B, N, k]``; the team's is
    their mean, ``[*B, k]``, as a float. Where all agents report the same, it is that to the bit.
    Does nothing where there is no info.

    Args:
        group: the group of agents; ``"agents"`` by default.
        per_agent: also write what every agent reports, ``("info", key_agent_<i>)`` ``[*B, k]``.

    Example:
        >>> import torch
        >>> from tensordict import TensorDict
        >>> from vm3ac_modules.envs.transforms import AgentInfoToRoot
        >>> td = TensorDict(agents=dict(info=dict(captures=torch.ones(4, 2, 1))), batch_size=[4])
        >>> AgentInfoToRoot()(td)["info", "captures"].shape
        torch.Size([4, 1])
    """

    def __init__(self, group: str = "agents", *, per_agent: bool = False) -> None:
        super().__init__()
        self.group, self.per_agent = group, per_agent

    def _call(self, next_tensordict: TensorDictBase) -> TensorDictBase:
        info = next_tensordict.get((self.group, "info"), None)
        if info is not None:
            next_tensordict.get(self.group).del_("info")
            agents = next_tensordict.batch_dims
            for key in info.keys():  # noqa: SIM118
                value = info.get(key).to(torch.get_default_dtype())
                first = value.select(agents, 0)
                # The distance from the first one, since a mean of equal numbers can round.
                mean = first + (value - first.unsqueeze(agents)).mean(agents)
                # Infinities have no distance.
                mean = torch.where(first.isfinite(), mean, value.mean(agents))
                next_tensordict.set(("info", key), mean)
                if self.per_agent:
                    for i, own in enumerate(value.unbind(agents)):
                        next_tensordict.set(("info", f"{key}_agent_{i}"), own.clone())
        return next_tensordict

    forward = _call

    def _reset(
        self, tensordict: TensorDictBase, tensordict_reset: TensorDictBase
    ) -> TensorDictBase:
        return self._call(tensordict_reset)

    def transform_observation_spec(self, observation_spec: Composite) -> Composite:
        """Move the spec of the info in the same way."""
        observation_spec = observation_spec.clone()
        if self.group in observation_spec.keys():  # noqa: SIM118
            info = observation_spec[self.group].get("info", None)
            if info is not None:
                del observation_spec[self.group]["info"]
                batch, device = observation_spec.shape, observation_spec.device
                found = {}
                for key in info.keys():  # noqa: SIM118
                    agents, *rest = info[key].shape[len(batch) :]
                    more = range(agents if self.per_agent else 0)
                    for name in (key, *(f"{key}_agent_{i}" for i in more)):
                        found[name] = Unbounded((*batch, *rest), device=device)
                observation_spec["info"] = Composite(found, shape=batch, device=device)
        return observation_spec


class EpisodeCounter(Transform):
    """Write a number that no other episode of the environment has, ``"episode"`` ``[*B, 1]``.

    The number of the episode in a row is ``resets * rows + row``, with ``resets`` counted from zero
    for the row's first reset. Agents that draw a common latent without talking derive it from this
    number and the step (``StepCounter``'s ``"step_count"``). The count belongs in a checkpoint: it
    is the buffer ``resets`` of ``state_dict()``, and a new seed does not restart it.

    Args:
        batch_size: the batch size of the environment.
        key: the entry to write; ``"episode"`` by default.

    Example:
        >>> from vm3ac_modules.envs import make_env
        >>> env = make_env("predator_prey_2", num_envs=3)
        >>> env.reset(), env.reset()["episode"].flatten().tolist()
        (..., [3, 4, 5])
    """

    resets: Tensor
    rows: Tensor

    def __init__(self, batch_size: Sequence[int] | torch.Size, key: str = Keys().episode) -> None:
        super().__init__()
        shape = torch.Size([*batch_size, 1])
        self.key = key
        self.register_buffer("resets", torch.zeros(shape, dtype=torch.int64))
        rows = torch.arange(shape.numel()).reshape(shape)
        self.register_buffer("rows", rows, persistent=False)

    def _write(self, tensordict: TensorDictBase) -> TensorDictBase:
        # clamped, since a step before any reset belongs to the first episode
        first = (self.resets - 1).clamp_min(0)
        return tensordict.set(self.key, first * self.rows.numel() + self.rows)

    def _reset(
        self, tensordict: TensorDictBase, tensordict_reset: TensorDictBase
    ) -> TensorDictBase:
        started = tensordict.get("_reset", None)
        self.resets += 1 if started is None else started.reshape(self.resets.shape).long()
        return self._write(tensordict_reset)

    def _step(self, tensordict: TensorDictBase, next_tensordict: TensorDictBase) -> TensorDictBase:
        return self._write(next_tensordict)

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Refuse use outside an environment: only resets count episodes."""
        raise RuntimeError("EpisodeCounter works inside an environment, not in a replay buffer")

    def transform_observation_spec(self, observation_spec: Composite) -> TensorSpec:
        """Add the entry to the observation spec."""
        observation_spec = observation_spec.clone()
        observation_spec[self.key] = Unbounded(
            shape=self.resets.shape, dtype=torch.int64, device=observation_spec.device
        )
        return observation_spec
