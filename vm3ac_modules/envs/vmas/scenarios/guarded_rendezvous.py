r"""A meeting in the plane against an adversary that learns where the team meets.

The game of :class:`~vm3ac_modules.envs.GuardEnv` over many steps: agents that do not see each other
walk from near the centre to one of M places and must be there together at the end.

Source: von Stengel and Koller 1997, "Team-maxmin equilibria"; Celli and Gatti 2018, "Computational
results for extensive-form adversarial team games".
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from vm3ac_modules.envs._adversary import Adversary
from vm3ac_modules.envs.vmas.scenarios._common import (
    DiscWorld,
    JointScenario,
    check_options,
    distances,
    others,
)

__all__ = ["GuardedRendezvous"]

# Read without importing this file. The horizon is the scenario's own: there episodes terminate.
TASKS = {
    "guarded_rendezvous": {"max_steps": 20, "adversary": "guard"},
    "learning_prey": {"max_steps": 20, "adversary": "prey"},
    "rendezvous": {"max_steps": 20, "adversary": "none"},
}

ADVERSARIES = ("guard", "prey", "none")
HALF_WIDTH = 1.0
RADIUS = 0.6
STEP = 0.1


class GuardedRendezvous(JointScenario):
    r"""N agents walk to one of M shelters; they score if all are in one, and it is open.

    .. math:: r = \sum_m w_m (1 - g_m), \qquad
        w_m = \prod_i e^{-|p_i - c_m|^2 / 2 s^2}, \qquad
        g = \mathrm{softmax}(\kappa f / \textstyle\sum_m f_m)

    The shelters :math:`c_m` lie on a circle of radius 0.6; agents start near its centre and step
    ``p <- clip(p + 0.1 u, -1, 1)`` for ``u`` in ``[-1, 1]^2``, so a shelter is six to eight steps
    away. An episode terminates at step T. The guard closes the shelter that the team used most
    lately: f is the running mean of w at the ends of a team's episodes. It is part of the state.

    With ``adversary="prey"`` the same places are the exits of a burrow: the prey bolts at step T,
    and is caught if all agents wait at its exit, :math:`r = \sum_m w_m g_m`. It learns where it
    is, or would have been, caught: a table over exits, :math:`g = \mathrm{softmax}(-\kappa f /
    \sum_m f_m)`. It is no more than that: it neither sees the agents nor runs from them.

    By default an agent sees neither the others nor the adversary. Then agents that share no z act
    independently, and the closed forms of the one-step game hold: against the best response the
    guarded team reaches :math:`1 - 1/M` with a common z and :math:`2^{-N}` at most without; the
    prey is caught with probability :math:`1/M` and :math:`M^{-N}` at most. Agents that see each
    other can agree by what they see, for one by where they start.

    The options are given to :class:`~vm3ac_modules.envs.VMASEnv` or ``make_env``:

    * ``num_agents`` (2) N >= 2, ``num_modes`` (4) M >= 2;
    * ``adversary``: ``"guard"``, ``"prey"``, or ``"none"`` for the control in which all is open;
    * ``horizon`` (20): step T at which the episode ends; a shorter time limit ends it unscored;
    * ``paid_steps`` (T / 2): the last steps over which the score is spread, equally, 1 to T;
    * ``width`` (0.3): s > 0, and the distance within which an agent is inside a shelter;
    * ``start`` (0.1): half width of the square around the centre from which agents start;
    * ``sees_others`` (False): whether agents see each other;
    * ``sharpness`` (20) and ``rate`` (0.5): kappa, and the rate of f per round of episodes;
    * ``num_teams`` (1): teams side by side, each against an adversary of its own.

    Shapes: the observation of an agent is ``[B, 2M + 3]`` (own position, relative positions of the
    shelters, t / T), ``2N - 2`` more with the relative positions of the others; the state is ``[B,
    2N + 1]`` (positions, t / T), with an adversary M more: what each place pays now, so that values
    of a critic that reads it stay right while the adversary moves. Metrics, ``[B, 1]`` each, zero
    before step T: ``mode_<m>``, 1 if all agents are inside shelter m, and ``guarded``, the
    adversary's share of it. For pictures: ``positions`` ``[B, N, 2]`` and ``shelters`` ``[M, 2]``.

    Example:
        >>> from vm3ac_modules.envs import GuardedRendezvous, VMASEnv
        >>> env = VMASEnv(GuardedRendezvous(), num_envs=4)
        >>> env.reset()["agents", "observation"].shape
        torch.Size([4, 2, 11])
    """

    # no velocities: the motion has no inertia
    row_state = ("positions", "steps", "met", "guarded", "memory")

    def make_world(self, batch_dim: int, device: torch.device, **kwargs: Any) -> DiscWorld:
        """Build the world; see the class for the options."""
        adversary = self._read_options(kwargs)
        kind: str = adversary.pop("kind")
        self.adversary = Adversary(
            adversary.pop("num_teams"),
            self.num_modes,
            rows=batch_dim,
            flees=kind == "prey",
            game="guarded rendezvous",
            device=device,
            **adversary,
        )
        self.kind = kind
        self.start_stream(device)
        angles = torch.arange(self.num_modes, device=device) * (2 * math.pi / self.num_modes)
        self.shelters = RADIUS * torch.stack((angles.cos(), angles.sin()), dim=-1)
        # As in predator-prey: a drag of 1 erases the velocity, so that the motion is kinematic.
        world = DiscWorld(batch_dim, device, dt=0.1, drag=1.0, half_width=HALF_WIDTH)
        discs = [(0.05, 1.0)] * self.num_agents
        world.add_discs(discs, collide=False, u_multiplier=STEP / 0.1**2)
        zeros = torch.zeros(batch_dim, device=device)
        self.steps, self.guarded, self._team_reward = zeros, 0 * zeros, 0 * zeros
        self.met = torch.zeros(batch_dim, self.num_modes, device=device)
        return world

    def _read_options(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        self.num_agents: int = kwargs.pop("num_agents", 2)
        self.num_modes: int = kwargs.pop("num_modes", 4)
        self.horizon: int = kwargs.pop("horizon", 20)
        self.paid_steps: int = kwargs.pop("paid_steps", max(1, self.horizon // 2))
        self.width = float(kwargs.pop("width", 0.3))
        self.start = float(kwargs.pop("start", 0.1))
        self.sees_others: bool = kwargs.pop("sees_others", False)
        kind = kwargs.pop("adversary", "guard")
        adversary = {
            "kind": kind,
            "num_teams": kwargs.pop("num_teams", 1),
            "sharpness": float(kwargs.pop("sharpness", 20.0)),
            "rate": float(kwargs.pop("rate", 0.5)),
        }
        n, m, t, paid, s = (
            *(self.num_agents, self.num_modes, self.horizon, self.paid_steps),
            self.width,
        )
        check_options(
            "guarded rendezvous",
            kwargs,
            (n >= 2, f"num_agents must be at least 2, got {n}"),
            (m >= 2, f"num_modes must be at least 2, got {m}"),
            (t >= 1, f"horizon must be at least 1, got {t}"),
            (1 <= paid <= t, f"paid_steps must be in 1..horizon={t}, got {paid}"),
            (0 < s < math.inf, f"width must be positive and finite, got {s}"),
            (0 <= self.start <= HALF_WIDTH, f"start must be in [0, 1], got {self.start}"),
            (self.sees_others in (0, 1), f"sees_others is true or false, got {self.sees_others!r}"),
            (kind in ADVERSARIES, f"adversary must be one of {ADVERSARIES}, got {kind!r}"),
        )
        return adversary

    def set_seed(self, seed: int) -> None:
        """Restart the stream; the adversary forgets, so that every evaluation meets the same one.

        Args:
            seed: the seed.
        """
        super().set_seed(seed)
        if self._world is not None:
            self.adversary.forget()

    def to(self, device: torch.device) -> None:
        """Move the scenario, the adversary's table with it."""
        self.adversary.frequency = self.adversary.frequency.to(device)
        super().to(device)

    @property
    def memory(self) -> Tensor:
        """What each row's adversary has learned, ``[B, M]``."""
        return self.adversary.state()

    @memory.setter
    def memory(self, value: Tensor) -> None:
        self.adversary.load(value)

    def reset_world_at(self, env_index: int | None = None) -> None:
        """Start an episode in all rows, or in one; the adversary remembers."""
        rows, count = self.rows_at(env_index)
        for name in ("steps", "met", "guarded", "_team_reward"):
            getattr(self, name)[rows] = 0.0
        starts = self.uniform((count, self.num_agents, 2), self.start, env_index)
        self.place(starts, env_index)

    def open(self) -> Tensor:
        """What meeting at each place pays every row, ``[B, M]``."""
        if self.kind == "none":
            return torch.ones_like(self.met)
        shares = self.adversary.of_rows(self.adversary.shares())
        return shares if self.kind == "prey" else 1.0 - shares

    def post_step(self) -> None:
        """Count the step, pay, and at the end let the adversary learn: all changes, once."""
        self.steps = self.steps + 1
        apart = distances(self.positions, self.shelters)
        together = (-apart.square() / (2 * self.width**2)).sum(1).exp()
        score, ended = self.open(), self.steps >= self.horizon
        paid = self.steps > self.horizon - self.paid_steps
        self._team_reward = (together * score).sum(-1) * paid / self.paid_steps
        nearest = apart == apart.amin(-1, keepdim=True)
        inside = (nearest & (apart <= self.width)).all(1)
        self.met = (inside & ended.unsqueeze(-1)).to(together)
        share = self.adversary.of_rows(self.adversary.shares())
        self.guarded = (self.met * share).sum(-1) * (self.kind != "none")
        self.adversary.watch(together, ended)

    def rewards(self) -> Tensor:
        """The team reward of the last step, for every agent, ``[B, N]``."""
        return self._team_reward.unsqueeze(-1).expand(-1, self.num_agents)

    def done(self) -> Tensor:
        """Rows whose episode is over, bool ``[B]``."""
        return self.steps >= self.horizon

    def observations(self) -> Tensor:
        """What every agent sees, ``[B, N, 2M + 3]``, or ``2N - 2`` more; see the class."""
        positions = self.positions
        own = positions.unsqueeze(2)
        parts = [positions, (self.shelters - own).flatten(2)]
        if self.sees_others:
            parts.append((others(positions) - own).flatten(2))
        clock = self._clock().unsqueeze(1).expand(-1, self.num_agents, -1)
        return torch.cat([*parts, clock], dim=-1)

    def state(self) -> Tensor:
        """The state for a centralized critic, ``[B, 2N + 1]``, or M more; see the class."""
        paid = () if self.kind == "none" else (self.open(),)
        return torch.cat([self.positions.flatten(1), self._clock(), *paid], dim=-1)

    def _clock(self) -> Tensor:
        return (self.steps / self.horizon).unsqueeze(-1)

    def metrics(self) -> dict[str, Tensor]:
        """Metrics of the episode, ``[B]`` each."""
        modes = {f"mode_{m}": column for m, column in enumerate(self.met.unbind(-1))}
        return {"guarded": self.guarded, **modes}
