"""What agents are trained on: how it is made, played, drawn and judged."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from torchrl.envs import Compose, DTypeCastTransform, EnvBase, StepCounter, TransformedEnv

from vm3ac_modules.envs.battles.factory import time_limit
from vm3ac_modules.envs.carried import keep_untouched
from vm3ac_modules.envs.checks import check_homogeneous_continuous, wrong_dtypes
from vm3ac_modules.envs.rng import innermost
from vm3ac_modules.envs.transforms import AgentIndex, AgentInfoToRoot, EpisodeCounter
from vm3ac_modules.keys import Keys
from vm3ac_modules.options import OptionsError

__all__ = ["Plays", "Task"]

Plays = Literal["steps", "episodes"]
"""How rows play: on and on, or each one episode after which it waits."""
GIVEN = ("num_envs", "device", "seed")
"""What whoever makes an environment says, not the task's options."""


@dataclass(frozen=True)
class Task:
    """What agents are trained on.

    Args:
        name: its name; battles are ``battle/<backend>/<reward>/<map>``.
        build: makes the simulator: called with ``num_envs``, ``device``, ``seed`` and options.
        max_steps: time limit in steps; None for that of the simulator.
        options: options of the environment.
        agent_index: whether each agent sees its one-hot index besides, as agents that share
            parameters need it.
        plays: how it is played: rows go on by themselves (``"steps"``), or whole episodes, all rows
            from one reset (``"episodes"``).
        picture: how an episode is drawn: ``"rollout"`` or ``"battle"``.
        about: what a run's summary says of it besides its name.
        row_is_process: whether a row is a process of its own, so that few can be had.
        best_response: what a frozen policy is worth against an adversary that knows it, from the
            metrics of its episodes (``[E]`` each); None without an adversary. A task with one is
            built with ``num_teams``, since teams of other seeds must not share it.
        failures: algorithms that are known not to learn it, by name, with a sentence that says so
            and what to take instead; a run shows it at its start.
        info_per_agent: whether metrics of the environment are told of every agent, too.

    Raises:
        OptionsError: the options name rows, device or seed, which :meth:`make` is told.
    """

    name: str
    build: Callable[..., EnvBase]
    max_steps: int | None = 100
    options: Mapping[str, Any] = field(default_factory=dict)
    plays: Plays = "steps"
    picture: Literal["rollout", "battle"] = "rollout"
    about: Mapping[str, str] = field(default_factory=dict)
    row_is_process: bool = False
    best_response: Callable[[Mapping[str, Tensor]], float] | None = None
    failures: Mapping[str, str] = field(default_factory=dict)
    agent_index: bool = False
    info_per_agent: bool = False

    def __post_init__(self) -> None:
        given = [name for name in GIVEN if name in self.options]
        if given:
            name = given[0]
            raise OptionsError(
                f"{self.name}: {name} is no option of the environment, got {name}="
                f"{self.options[name]!r}: who makes the environment says it, a run by its own "
                f"{name}."
            )

    def make(
        self,
        rows: int,
        *,
        device: torch.device | str = "cpu",
        seed: int | None = None,
        teams: int = 1,
        training: bool = True,
    ) -> EnvBase:
        """Build the environment.

        Args:
            rows: rows B that are simulated at once.
            device: device of the entries, and of the simulation where that can be chosen.
            seed: seed of the environment's own streams; without one it is drawn from torch's
                default generator.
            teams: number of teams that play side by side, as many rows each; one per seed. Team
                k then starts where a team alone with ``seed + k`` would, if the environment has
                ``set_teams`` (all of the paper's tasks).
            training: whether agents are trained in it. Elsewhere rows that the option
                ``num_workers`` does not divide are shared by as many processes as divide them.

        Returns:
            The environment, ``[B]``.

        Raises:
            ValueError: fewer than one row or step, unknown options, or agents that are not alike.
            ImportError: the simulator is not installed; names the extra to install.
        """
        if rows < 1:
            raise ValueError(f"{self.name}: num_envs must be at least 1, got {rows}")
        if self.max_steps is not None and self.max_steps < 1:
            raise ValueError(f"{self.name}: max_steps must be at least 1, got {self.max_steps}")
        # The caller's options prevail, this one too.
        options = {**({"num_teams": teams} if self.best_response else {}), **self.options}
        if not training and "num_workers" in options:
            options["num_workers"] = math.gcd(rows, options["num_workers"])
        base = self.build(num_envs=rows, device=device, seed=seed, **options)
        simulator: Any = innermost(base)
        if teams > 1 and hasattr(type(simulator), "set_teams"):
            simulator.set_teams(teams)
        if self.plays == "episodes":
            return base
        assert self.max_steps is not None
        base = _cast(base, self.name)
        check_homogeneous_continuous(base, Keys().group)
        keep_untouched(base, Keys())
        indexed = [AgentIndex(Keys().group)] if self.agent_index else []
        transforms = Compose(
            *indexed,
            AgentInfoToRoot(Keys().group, per_agent=self.info_per_agent),
            StepCounter(self.max_steps),
            EpisodeCounter(base.batch_size),
        )
        # Unwrapped, so that base_env is the simulator also where the user has transforms too.
        return TransformedEnv(base, transforms.to(base.device), auto_unwrap=True)

    @property
    def title(self) -> str:
        """What people call it: its name, or the map of a battle."""
        return self.about.get("map", self.name)

    def rows(self, episodes: int, at_once: int) -> int:
        """Rows in which an evaluation is played: one per episode where rows are cheap.

        Args:
            episodes: episodes of the evaluation.
            at_once: processes that can be had.
        """
        return min(episodes, at_once) if self.row_is_process else episodes

    def judge(self, metrics: Mapping[str, Tensor]) -> dict[str, float]:
        """What is known of a policy besides its returns: ``best_response_value``, or nothing.

        Args:
            metrics: what the environment reported at each episode's end, ``[E]`` each.
        """
        if self.best_response is None:
            return {}
        return {"best_response_value": self.best_response(metrics)}

    def limit(self, env: EnvBase) -> int:
        """The longest that an episode can last, in steps.

        Args:
            env: an environment of :meth:`make`, transformed or not.
        """
        return self.max_steps if self.max_steps is not None else time_limit(env)


def _cast(env: EnvBase, name: str) -> EnvBase:
    """The environment with its entries and actions in torch's default float type."""
    wanted, found = torch.get_default_dtype(), wrong_dtypes(env)
    for key, dtype in found.items():
        warnings.warn(f"{name}: {key!r} is {dtype} and is cast to {wanted}.", stacklevel=3)
        # What the environment takes is cast on its way in.
        places = (
            {"in_keys": [], "in_keys_inv": [key]} if key == Keys().action else {"in_keys": [key]}
        )
        env = TransformedEnv(env, DTypeCastTransform(dtype, wanted, **places), auto_unwrap=True)
    return env
