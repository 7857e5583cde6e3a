r"""Games of one step in which a team must meet where an adversary does not guard.

Pure torch, batched. With a common payoff some deterministic joint policy is optimal, so a shared
latent changes what a team can reach only against an adversary that adapts to it; here is the
smallest one. Shapes: ``B`` rows, ``N`` agents, ``M`` modes.

Source: von Stengel and Koller 1997, "Team-maxmin equilibria"; Celli and Gatti 2018, "Computational
results for extensive-form adversarial team games".
"""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torch.nn.functional import one_hot
from torchrl.data import Bounded, Categorical, OneHot, Unbounded
from torchrl.envs import EnvBase

from vm3ac_modules.envs._adversary import Adversary, best_response_value
from vm3ac_modules.envs._vector import ENDS, check_numbers, set_specs
from vm3ac_modules.keys import Keys

__all__ = ["GAMES", "GuardEnv", "best_response_value"]

Actions = Literal["continuous", "discrete", "categorical"]
"""Points of the plane; modes as one-hot; modes by number, with a mask as battles have it."""
RADIUS = 0.6
GAMES: dict[str, dict[str, Any]] = {
    "guard": {},
    "same_mode": {"guard": False},
    "penalty": {"guard": False, "penalty": 1.0},
}
"""Names of tasks and their options."""


class GuardEnv(EnvBase):
    r"""All agents choose one of M modes at once; they score together where no guard stands.

    .. math:: r = \sum_m w_m (1 - g_m) - c\,(1 - \textstyle\sum_m w_m), \qquad
        w_m = \prod_i e^{-|a_i - c_m|^2 / 2 s^2}, \qquad
        g = \mathrm{softmax}(\kappa f / \textstyle\sum_m f_m)

    The modes :math:`c_m` lie on a circle of radius 0.6. Discrete actions name a mode, and
    :math:`w_m` is 1 where all agents name m. The guard follows f, the running mean of w over a
    team's rows: it is a smoothed best response to what the team does most, and never sees a
    latent. It is
    part of the environment's state. Without a guard (g = 0) a deterministic policy is optimal.

    Against the best response a team that shares a random z reaches :math:`1 - 1/M`; the independent
    policies of two agents or more reach :math:`2^{-N}` at most, for every M
    (:func:`~vm3ac_modules.testing.independent_guard_value`).

    Entries: ``("agents", "observation")`` ``[B, N, 1]`` (a constant 1), ``("agents", "action")``
    ``[B, N, 2]`` in [-1, 1], one-hot ``[B, N, M]``, or int64 ``[B, N]`` with
    ``("agents", "action_mask")`` ``[B, N, M]`` (all legal); ``("agents", "reward")`` ``[B, N, 1]``
    (the same for all), ``"state"`` ``[B, 1]``; ``("info", "mode_<m>")``, 1 where mode m is the
    nearest one of all agents, and ``("info", "guarded")``, the guard's share of it, ``[B, 1]``
    each. An episode is one step, and terminates.

    Args:
        num_envs: number of rows simulated at once, ``B``.
        device: device of the simulation.
        seed: accepted as everywhere; nothing here is random. A new seed makes the guard forget, so
            that every evaluation meets the same one.
        num_agents: number of agents N >= 1.
        num_modes: number of modes M >= 2.
        guard: whether there is a guard; False for the control in which nothing is guarded.
        penalty: cost c >= 0 of not meeting (reward units).
        width: s > 0, how near agents must be to a mode (continuous actions).
        sharpness: kappa > 0 of the guard.
        rate: rate in (0, 1] of the guard's running mean, per step of all rows.
        actions: ``"continuous"``, ``"discrete"`` (one-hot) or ``"categorical"`` (numbers, and a
            mask, as algorithms over whole episodes want it).
        num_teams: teams that play side by side, each in as many rows and against a guard of its
            own.

    Raises:
        ValueError: an option out of its range.

    Example:
        >>> env = GuardEnv(num_envs=64, num_modes=4)
        >>> env.rollout(1)["next", "agents", "reward"].shape
        torch.Size([64, 1, 2, 1])

    See Also:
        :func:`~vm3ac_modules.testing.guard_value`, what a frozen policy is worth.
    """

    resumable = True
    frequency: Tensor

    def __init__(
        self,
        num_envs: int,
        device: torch.device | str = "cpu",
        seed: int | None = None,
        *,
        num_agents: int = 2,
        num_modes: int = 4,
        guard: bool = True,
        penalty: float = 0.0,
        width: float = 0.3,
        sharpness: float = 20.0,
        rate: float = 0.02,
        actions: Actions = "continuous",
        num_teams: int = 1,
    ) -> None:
        for name, count, least in (
            ("num_envs", num_envs, 1),
            ("num_agents", num_agents, 1),
            ("num_modes", num_modes, 2),
        ):
            if count < least:
                raise ValueError(f"GuardEnv: {name} must be at least {least}, got {count}.")
        if not 0 < width < math.inf:
            raise ValueError(f"GuardEnv: width must be positive and finite, got {width}.")
        if not 0 <= penalty < math.inf:
            raise ValueError(f"GuardEnv: penalty must not be negative, got {penalty}.")
        if actions not in get_args(Actions):
            known = " or ".join(get_args(Actions))
            raise ValueError(f"GuardEnv: actions must be {known}, got {actions!r}.")
        super().__init__(device=torch.device(device), batch_size=[num_envs])
        self.num_agents, self.num_modes, self.guarded = num_agents, num_modes, guard
        self.penalty, self.width = penalty, width
        self.actions = actions
        angles = torch.arange(num_modes, device=self.device) * (2 * math.pi / num_modes)
        self.modes = RADIUS * torch.stack((angles.cos(), angles.sin()), dim=-1)
        self.adversary = Adversary(
            num_teams,
            num_modes,
            rows=num_envs,
            sharpness=sharpness,
            rate=rate,
            game="GuardEnv",
            device=self.device,
        )
        self._make_specs()

    def _make_specs(self) -> None:
        device = self.device
        group = (*self.batch_size, self.num_agents)
        modes = (*group, self.num_modes)
        action: Any = Bounded(-1.0, 1.0, (*group, 2), device=device)
        if self.actions == "discrete":
            action = OneHot(self.num_modes, shape=modes, device=device)
        elif self.actions == "categorical":
            action = Categorical(self.num_modes, shape=group, device=device)
        seen: dict[str, Any] = {"observation": Unbounded((*group, 1), device=device)}
        if self.actions == "categorical":
            seen["action_mask"] = Categorical(2, shape=modes, dtype=torch.bool, device=device)
        columns = ("guarded", *(f"mode_{m}" for m in range(self.num_modes)))
        set_specs(self, self.num_agents, action=action, agents=seen, state_size=1, metrics=columns)

    def choices(self, action: Tensor) -> Tensor:
        """The mode that each agent goes for.

        Args:
            action: as the game takes it.

        Returns:
            int64 ``[*B, N]``: the nearest mode, or the named one.
        """
        if self.actions == "categorical":
            return action
        if self.actions == "discrete":
            return action.to(torch.uint8).argmax(-1)
        return self._squared_distances(action).argmin(-1)

    def membership(self, action: Tensor) -> Tensor:
        """How much all agents are at each mode, w.

        Args:
            action: as the game takes it.

        Returns:
            ``[*B, M]``.
        """
        if self.discrete:
            return self._named(action).prod(-2)
        nearness = -self._squared_distances(action) / (2 * self.width**2)
        return nearness.sum(-2).exp()

    @property
    def discrete(self) -> bool:
        """Whether actions name modes."""
        return self.actions != "continuous"

    def _named(self, action: Tensor) -> Tensor:
        """The modes that agents go for, as one-hot ``[*B, N, M]``."""
        if self.actions == "discrete":
            return action.to(self.modes)
        return one_hot(self.choices(action), self.num_modes).to(self.modes)

    def guard(self) -> Tensor:
        """Each team's guard's shares of the modes, ``[T, M]``; zeros without a guard."""
        shares = self.adversary.shares()
        return shares if self.guarded else torch.zeros_like(shares)

    def _squared_distances(self, action: Tensor) -> Tensor:
        return (action.unsqueeze(-2) - self.modes).square().sum(-1)

    def _reset(self, tensordict: TensorDictBase | None = None) -> TensorDictBase:
        del tensordict
        nowhere = torch.zeros(*self.batch_size, self.num_modes, device=self.device)
        none = nowhere[:, :1]
        return self._entries(nowhere, none.bool(), none.clone())

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        action = tensordict.get(Keys().action)
        if self.actions == "categorical":
            check_numbers(action, self.num_modes, "GuardEnv")
        together, guard = self.membership(action), self.adversary.of_rows(self.guard())
        shared = together.sum(-1)
        reward = (together * (1.0 - guard)).sum(-1) - self.penalty * (1.0 - shared)
        self.adversary.watch(together)
        met = self._named(action).prod(-2)
        guarded = (met * guard).sum(-1, keepdim=True)
        found = self._entries(met, torch.ones_like(guarded, dtype=torch.bool), guarded)
        rewards = reward.reshape(-1, 1, 1).repeat(1, self.num_agents, 1)
        return found.set(Keys().reward, rewards)

    def _entries(self, met: Tensor, done: Tensor, guarded: Tensor) -> TensorDict:
        ones = torch.ones(*self.batch_size, self.num_agents, 1, device=self.device)
        seen: dict[str, Any] = {"observation": ones}
        if self.actions == "categorical":
            legal = (*ones.shape[:2], self.num_modes)
            seen["action_mask"] = torch.ones(legal, dtype=torch.bool, device=self.device)
        modes = {f"mode_{m}": column.unsqueeze(-1) for m, column in enumerate(met.unbind(-1))}
        entries: dict[str, Any] = {
            "agents": TensorDict(seen, ones.shape[:2], device=self.device),
            "state": ones[:, 0].clone(),
            "info": {"guarded": guarded, **modes},
            **{name: done.clone() for name in ENDS[:2]},
            ENDS[2]: torch.zeros_like(done),
        }
        return TensorDict(entries, self.batch_size, device=self.device)

    def _set_seed(self, seed: int | None) -> None:
        del seed
        self.adversary.forget()

    def simulator_state(self) -> dict[str, Tensor]:
        """What the next step depends on: what each row's guard has seen, ``[B, M]``."""
        return {"frequency": self.adversary.state()}

    def load_simulator_state(self, state: dict[str, Tensor]) -> None:
        """Put back what :meth:`simulator_state` gave.

        Args:
            state: of a game with as many modes and teams.

        Raises:
            ValueError: if it is that of another game.
        """
        self.adversary.load(state.get("frequency"))
