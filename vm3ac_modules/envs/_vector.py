"""What the environments of this package share: the specs of one group of agents, and seeded rows.

Shapes: ``B`` rows, ``N`` agents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.data import Categorical, Composite, TensorSpec, Unbounded
from torchrl.envs import EnvBase

from vm3ac_modules.envs._rows import EpisodeSeeds

ENDS = ("done", "terminated", "truncated")


def set_specs(
    env: EnvBase,
    num_agents: int,
    *,
    action: TensorSpec,
    agents: Mapping[str, TensorSpec],
    state_size: int = 0,
    metrics: Sequence[str] = (),
) -> None:
    """Give an environment the specs of a group: actions and what agents see, ``[*B, N, ...]``."""
    batch, device = env.batch_size, env.device

    def of_agents(specs: Mapping[str, TensorSpec]) -> Composite:
        group = Composite(dict(specs), shape=(*batch, num_agents), device=device)
        return Composite(agents=group, shape=batch, device=device)

    env.action_spec = of_agents({"action": action})
    env.reward_spec = of_agents({"reward": Unbounded((*batch, num_agents, 1), device=device)})
    seen = of_agents(agents)
    if state_size:
        seen["state"] = Unbounded((*batch, state_size), device=device)
    if metrics:
        numbers = {name: Unbounded((*batch, 1), device=device) for name in metrics}
        seen["info"] = Composite(numbers, shape=batch, device=device)
    env.observation_spec = seen
    flag = Categorical(2, shape=(*batch, 1), dtype=torch.bool, device=device)
    ends = {name: flag.clone() for name in ENDS}
    env.done_spec = Composite(ends, shape=batch, device=device)


def check_numbers(action: Tensor, num_actions: int, owner: str) -> None:
    """Refuse numbers of actions, int64 ``[*B, N]``, that are none of ``0 .. A - 1``."""
    if action.is_floating_point() or bool(((action < 0) | (action >= num_actions)).any()):
        raise ValueError(
            f"{owner}: actions are numbers from 0 to {num_actions - 1}, got {action.dtype} from "
            f"{action.min().item():g} to {action.max().item():g}."
        )


class SeededRowsEnv(EnvBase):
    """``B`` rows, each with a stream of its own that the seeds of its episodes come from."""

    _teams = 1

    def __init__(self, num_envs: int, device: torch.device | str, seed: int | None) -> None:
        if num_envs < 1:
            raise ValueError(f"{type(self).__name__}: num_envs must be at least 1, got {num_envs}")
        super().__init__(device=torch.device(device), batch_size=[num_envs])
        self._set_seed(seed)
        self._started = np.zeros(num_envs, dtype=bool)

    def _starting(self, tensordict: TensorDictBase | None) -> list[int]:
        """The rows that a reset starts anew, which count as started."""
        mask = None if tensordict is None else tensordict.get("_reset", None)
        rows = list(range(self.numel()))
        if mask is not None:
            rows = mask.flatten().nonzero().flatten().tolist()
        self._started[rows] = True
        return rows

    def _check_started(self) -> None:
        if not self._started.all():
            raise RuntimeError(f"{type(self).__name__}: reset every row before the first step")

    def _set_seed(self, seed: int | None) -> None:
        seed = int(torch.randint(2**31, (1,))) if seed is None else seed
        self._seeds = EpisodeSeeds(seed, self.numel())
        self._seeds.teams = self._teams

    def set_teams(self, teams: int) -> None:
        """Seed the rows of each team as an environment of its own would, with the seed plus k.

        Args:
            teams: number of teams, as many rows each.

        Raises:
            ValueError: if the rows do not divide among them.
        """
        if teams < 1 or self.numel() % teams:
            raise ValueError(f"{self.numel()} rows do not divide among {teams} teams.")
        self._teams = self._seeds.teams = teams

    def get_rng_state(self) -> dict[str, Tensor]:
        """The state of the rows' streams, for a checkpoint.

        Returns:
            The seed, ``[]``, and how many episodes each row has begun, ``[B]``; int64 on the CPU.
        """
        return self._seeds.state()

    def set_rng_state(self, state: dict[str, Tensor]) -> None:
        """Put back what :meth:`get_rng_state` gave.

        The episodes that begin from now on are those that would have begun: the same starts and,
        for the same actions, the same courses. The episodes that were under way are not in the
        state; reset the environment, and each row goes on with its next one.

        Args:
            state: from an environment of the same number of rows.

        Raises:
            ValueError: the state has other entries or rows than this environment's.
        """
        self._seeds.load(state)
