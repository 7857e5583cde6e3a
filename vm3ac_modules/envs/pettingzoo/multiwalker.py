"""Multi-walker of Kim et al. (2023), arXiv:2303.00451, on PettingZoo's simulator.

Walkers on two legs carry a package to the right. The dynamics are those of PettingZoo's
``multiwalker_v9``; the reward is the paper's, computed anew from the simulator.

Source of the simulator: Gupta, Egorov & Kochenderfer, "Cooperative Multi-agent Control Using Deep
Reinforcement Learning" (2017), in the version of PettingZoo (Terry et al. 2021, arXiv:2009.14471).
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vm3ac_modules.envs._rows import Floats, Layout, Row, headless
from vm3ac_modules.envs.pettingzoo._batched import BatchedSimulatorEnv
from vm3ac_modules.extras import require_extra

__all__ = ["MultiwalkerEnv"]

BODY_SIZE = 24
OBSERVATION_SIZE = BODY_SIZE + 4 + 3
ACTION_SIZE = 4
PACKAGE_SIZE = 3
METRICS = ("package_distance", "fell", "dropped")
# PettingZoo's own weight of the tilt of a hull, in radians.
ANGLE_WEIGHT = 5.0


@cache
def _simulator_class() -> Any:
    for module in ("pettingzoo", "Box2D", "pygame"):
        require_extra(module, "pettingzoo", "a multiwalker environment")
    with headless():
        from pettingzoo.sisl.multiwalker.multiwalker_base import MultiWalkerEnv
    return MultiWalkerEnv


class MultiwalkerEnv(BatchedSimulatorEnv):
    r"""``N`` walkers on two legs carry a package over rough ground without falling.

    With :math:`x` the package's horizontal position, a step pays every walker

    .. math:: r_i = R_1\,(x_{t+1} - x_t) - R_2\,[i \text{ has fallen or the package is dropped}]

    so at most one penalty per walker. An episode is terminated when a walker falls (its hull
    touches anything but the package), when the package is dropped (it touches anything but a hull,
    a leg included), when it is carried back behind the start of the ground (:math:`x < 0`) and when
    it arrives (:math:`x > 88.7`); the last two cost no penalty. The step that ends an episode
    returns its last observations. There is no time limit: use ``StepCounter``, as ``make_env``
    does.

    What differs from PettingZoo's own environment: the reward above (theirs cannot be set to it);
    every episode has a seed of its own, so that the walkers' first push is not the same in all of
    them (within one it is the same for all walkers); ``fell`` and ``dropped`` are reported.

    Entries besides those of :func:`~vm3ac_modules.envs.make_env`: ``"state"`` ``[B, 24N + 3]``, the
    bodies of all walkers, then the package's position and angle; ``("info", "package_distance")``,
    how far the package is from where it started, ``("info", "fell")`` and ``("info", "dropped")``,
    0 or 1, each ``[B, 1]``. Lengths are in units of the simulator; a walker is about 2.5 high.

    Box2D's Python binding loses about 16 kB per episode, which nothing here can give back.

    Args:
        num_agents: number of walkers, 2, 3 or 4.
        num_envs: number of rows simulated at once, ``B``.
        device: device of the entries; the simulation is on the CPU.
        seed: seed of the rows' streams; without one it is drawn from torch's default generator. A
            reset after construction is the same as one after ``set_seed(seed)``.
        num_workers: number of processes that share the rows, for machines of four or more cores
            and at least eight rows per process; 1 simulates in this process.
        forward_scale: :math:`R_1` per unit of length.
        fall_penalty: :math:`R_2`.
        angle_shaping: also take 5 times the growth of the tilt of the own hull from each reward, as
            PettingZoo does and the paper does not.

    Raises:
        ValueError: an option out of its range.
        ImportError: PettingZoo is not installed; names the extra to install.

    Example:
        >>> import pytest
        >>> _ = pytest.importorskip("Box2D")
        >>> from vm3ac_modules.envs import MultiwalkerEnv
        >>> env = MultiwalkerEnv(num_agents=3, num_envs=2, seed=0)
        >>> td = env.rollout(3)
        >>> td["agents", "observation"].shape, td["state"].shape, env.positions.shape
        (torch.Size([2, 3, 3, 31]), torch.Size([2, 3, 75]), torch.Size([2, 4, 2]))
    """

    def __init__(
        self,
        num_agents: int = 3,
        num_envs: int = 1,
        device: torch.device | str = "cpu",
        seed: int | None = None,
        *,
        num_workers: int = 1,
        forward_scale: float = 10.0,
        fall_penalty: float = 10.0,
        angle_shaping: bool = False,
    ) -> None:
        if num_agents not in (2, 3, 4):
            raise ValueError(f"MultiwalkerEnv: num_agents must be 2, 3 or 4, got {num_agents}")
        if fall_penalty < 0:
            raise ValueError(f"MultiwalkerEnv: fall_penalty must not be negative: {fall_penalty}")
        _simulator_class()
        bounds = np.ones((num_agents, ACTION_SIZE), np.float32)
        layout = Layout(
            num_agents=num_agents,
            observation_size=OBSERVATION_SIZE,
            low=-bounds,
            high=bounds,
            state_size=BODY_SIZE * num_agents + PACKAGE_SIZE,
            metrics=METRICS,
        )
        make = partial(_Simulator, num_agents, forward_scale, fall_penalty, angle_shaping)
        super().__init__(make, layout, num_envs, device, seed, num_workers)

    @property
    def positions(self) -> Tensor:
        """Positions of the walkers' hulls, then of the package, for pictures, ``[B, N + 1, 2]``."""
        return torch.from_numpy(self.ask("positions")).to(self.device)


class _Simulator:
    """One of PettingZoo's simulators, with the paper's reward."""

    def __init__(
        self, num_agents: int, forward_scale: float, fall_penalty: float, angle_shaping: bool
    ) -> None:
        # A fallen walker is kept: a fall ends the episode, whose last state needs all bodies.
        self.env = _simulator_class()(
            n_walkers=num_agents, terminate_on_fall=True, remove_on_fall=False
        )
        self.forward_scale, self.fall_penalty = forward_scale, fall_penalty
        self.angle_weight = ANGLE_WEIGHT if angle_shaping else 0.0

    def reset(self, seed: int, row: Row) -> None:
        # Reset alone would rebuild the walkers from the seed of the episode before.
        self.env._seed(seed)
        self.env.reset()
        self.start = self.env.package.position.x
        self._observe(row)

    def step(self, action: Floats, row: Row) -> None:
        env, last = self.env, len(action) - 1
        x, tilts = env.package.position.x, self._tilts()
        for i, own in enumerate(action):
            env.step(own, i, i == last)
        penalized = env.fallen_walkers | bool(env.game_over)
        row.reward[:] = (
            self.forward_scale * (env.package.position.x - x)
            - self.fall_penalty * penalized
            - self.angle_weight * (self._tilts() - tilts)
        )
        row.ends[0] = all(env.last_dones)
        self._observe(row)

    def _tilts(self) -> Floats:
        return np.array([abs(walker.hull.angle) for walker in self.env.walkers])

    def _observe(self, row: Row) -> None:
        env, package = self.env, self.env.package
        row.observation[:] = env.last_obs
        # The simulator's own state() casts every walker's rays again, at the price of a step.
        row.state[:-PACKAGE_SIZE] = row.observation[:, :BODY_SIZE].ravel()
        row.state[-PACKAGE_SIZE:] = *package.position, package.angle
        distance = package.position.x - self.start
        row.metrics[:] = distance, env.fallen_walkers.any(), env.game_over

    def positions(self) -> Floats:
        bodies = [*(walker.hull for walker in self.env.walkers), self.env.package]
        return np.array([tuple(body.position) for body in bodies], np.float32)
