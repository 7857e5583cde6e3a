r"""The toy task of Kim et al. (2023), arXiv:2303.00451, Appendix A: two agents meet.

Pure torch, the smallest environment of this package, for learning tests that take seconds.
"""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import Unbounded
from torchrl.envs import EnvBase

from vm3ac_modules.envs._vector import set_specs
from vm3ac_modules.keys import Keys

__all__ = ["MeetingEnv"]

_STARTS = ((-1.0, 1.0), (1.0, 1.0))
_NUM_AGENTS = len(_STARTS)


class MeetingEnv(EnvBase):
    r"""Two agents in the half plane :math:`y \ge 0` go where they like and should meet.

    .. math:: (x^i_{t+1}, y^i_{t+1}) = (x^i_t, y^i_t) + a^i_t, \qquad
        r_t = -\lVert o^1_{t+1} - o^2_{t+1} \rVert

    with :math:`y` raised to 0 where it would be negative. Each agent observes its own place. The
    paper calls the distance itself the reward, and maximizing that would part the agents: it has a
    minus here. Actions are not clipped, since Eq. (18) is exact only without clipping; their spec
    is unbounded, so squashed policies and ``make_env`` refuse this environment.

    The reward is differentiable in the actions of its own step and in nothing earlier, which is all
    that a greedy policy asks for.

    Entries: ``("agents", "observation")`` and ``("agents", "action")`` ``[B, 2, 2]``,
    ``("agents", "reward")`` ``[B, 2, 1]`` (both agents' are equal), ``"state"`` ``[B, 4]``, all
    places; ``"done"``, ``"terminated"`` (they met), ``"truncated"`` (the time is over),
    ``("info", "distance")`` and ``("info", "met")``, 0 or 1, each ``[B, 1]``. For synchronized
    latents append ``StepCounter`` and ``EpisodeCounter``.

    References:
        Kim et al. 2023, arXiv:2303.00451, Appendix A. Its text gives neither the distance at which
        agents meet nor a time limit.

    Args:
        num_envs: number of rows simulated at once, ``B``.
        device: device of the simulation.
        seed: accepted as everywhere; nothing here is random.
        max_steps: time limit, which truncates.
        meeting_distance: the agents have met when they are nearer to each other than this.

    Raises:
        ValueError: an option out of its range.

    Example:
        >>> from vm3ac_modules.envs import MeetingEnv
        >>> env = MeetingEnv(num_envs=3)
        >>> env.reset()["agents", "observation"][0].tolist()
        [[-1.0, 1.0], [1.0, 1.0]]
        >>> env.rollout(5)["next", "agents", "reward"].shape
        torch.Size([3, 5, 2, 1])
    """

    def __init__(
        self,
        num_envs: int,
        device: torch.device | str = "cpu",
        seed: int | None = None,
        *,
        max_steps: int = 50,
        meeting_distance: float = 0.1,
    ) -> None:
        for name, value in (("num_envs", num_envs), ("max_steps", max_steps)):
            if value < 1:
                raise ValueError(f"MeetingEnv: {name} must be at least 1, got {value}.")
        if not 0 < meeting_distance < 2:
            raise ValueError(
                "MeetingEnv: meeting_distance must lie between 0 and 2, the distance at the start, "
                f"got {meeting_distance}."
            )
        super().__init__(device=torch.device(device), batch_size=[num_envs])
        self.max_steps, self.meeting_distance = max_steps, meeting_distance
        self._set_seed(seed)
        size = (num_envs, _NUM_AGENTS, 2)
        set_specs(
            self,
            _NUM_AGENTS,
            action=Unbounded(size, device=self.device),
            agents={"observation": Unbounded(size, device=self.device)},
            state_size=2 * _NUM_AGENTS,
            metrics=("distance", "met"),
        )
        self._places = self._starts()
        self._steps = torch.zeros(num_envs, 1, dtype=torch.int64, device=self.device)

    def _starts(self) -> Tensor:
        return torch.tensor(_STARTS, device=self.device).expand(*self.batch_size, -1, -1).clone()

    def _reset(self, tensordict: TensorDictBase | None = None) -> TensorDictBase:
        mask = None if tensordict is None else tensordict.get("_reset", None)
        fresh = torch.ones_like(self._steps, dtype=torch.bool) if mask is None else mask
        self._steps = self._steps.masked_fill(fresh, 0)
        self._places = torch.where(fresh.unsqueeze(-1), self._starts(), self._places)
        return self._entries(_distance(self._places)).exclude(Keys().reward)

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        moved = self._places + tensordict.get(Keys().action)
        moved = torch.stack((moved[..., 0], moved[..., 1].clamp(min=0.0)), dim=-1)
        self._places, self._steps = moved.detach(), self._steps + 1
        return self._entries(_distance(moved))

    def _entries(self, distance: Tensor) -> TensorDict:
        """What the agents see and get now; ``distance`` ``[B, 1]`` may carry a gradient."""
        now, places = distance.detach(), self._places
        met = now < self.meeting_distance
        late = (self._steps >= self.max_steps) & ~met
        reward = -distance.unsqueeze(-2).repeat(1, _NUM_AGENTS, 1)
        group = {"observation": places.clone(), "reward": reward}
        entries: dict[str, Any] = {
            "agents": TensorDict(group, places.shape[:2], device=self.device),
            "state": places.flatten(1).clone(),
            "info": {"distance": now, "met": met.to(now.dtype)},
            "done": met | late,
            "terminated": met,
            "truncated": late,
        }
        return TensorDict(entries, self.batch_size, device=self.device)

    def _set_seed(self, seed: int | None) -> None:
        del seed


def _distance(places: Tensor) -> Tensor:
    return torch.linalg.vector_norm(places[:, 0] - places[:, 1], dim=-1, keepdim=True)
