"""What an algorithm is: options, and what is built from them. One file per algorithm holds both.

A preset is an instance of an options class; a variant is another instance of the same class
(``dataclasses.replace(VM3AC(), num_latents=16)``).

Source: Kim et al. 2023, arXiv:2303.00451, Section 6, Tables 1 and 2, Appendix G.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from tensordict.nn import TensorDictModuleBase
from torchrl.data import TensorSpec

from vm3ac_modules.keys import Keys
from vm3ac_modules.learning.agent import Agent
from vm3ac_modules.modules.policy import Policy, Sizes
from vm3ac_modules.objectives import MultiAgentLoss
from vm3ac_modules.options import Options, option

__all__ = ["Algorithm", "Kind", "Plan", "Preset", "option"]

Kind = Literal["continuous", "discrete"]
"""Kind of actions. Continuous ones are trained on transitions, discrete ones on whole episodes."""


@dataclass(frozen=True)
class Plan:
    """What an algorithm is built for.

    Args:
        sizes: sizes of the group of agents.
        action_spec: leaf spec of the group's action.
        keys: the tensordict vocabulary.
        seeds: number of independent seeds S whose parameters are stacked.
        device: where the networks live.
    """

    sizes: Sizes
    action_spec: TensorSpec
    keys: Keys
    seeds: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def stack_shape(self) -> tuple[int, ...]:
        """Leading dimensions of stacked parameters: ``(S,)``, or none for one seed."""
        return () if self.seeds == 1 else (self.seeds,)


@dataclass(frozen=True, kw_only=True)
class Algorithm(Options, ABC):
    """Base of the options of an algorithm, which know how to build it."""

    kind: ClassVar[Kind]
    """Kind of actions."""

    @abstractmethod
    def build(self, plan: Plan) -> Agent:
        """Build networks, policy, loss and optimizers.

        Args:
            plan: what it is built for.
        """

    def _agent(
        self,
        plan: Plan,
        policy: TensorDictModuleBase,
        loss: MultiAgentLoss,
        optimizer: Callable[..., torch.optim.Optimizer],
        lr: float,
        *,
        rates: Mapping[str, float | None] | None = None,
        **data: Any,
    ) -> Agent:
        """The agent, with an optimizer for every loss; a rate that is None is ``lr``."""
        given = {name: rate for name, rate in (rates or {}).items() if rate is not None}
        loss.to(plan.device)
        optimizers = {
            name: optimizer(list(parameters), lr=given.get(name, lr))
            for name, parameters in loss.parameter_groups().items()
        }
        policy = Policy(policy.to(plan.device), seeds=plan.seeds, keys=plan.keys)
        return Agent(policy, loss, optimizers, self, seeds=plan.seeds, keys=plan.keys, **data)

    def pick(self, *names: str) -> dict[str, Any]:
        """Some options by name, as a loss takes them."""
        return {name: getattr(self, name) for name in names}


class Preset(NamedTuple):
    """An algorithm by name."""

    options: Algorithm
    about: str
    """One line on what it is, or what it changes."""
