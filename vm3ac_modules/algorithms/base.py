"""What an algorithm is: options, and what is built from them. One file per algorithm holds both.

A preset is an instance of an options class; a variant is another instance of the same class
(``dataclasses.replace(VM3AC(), num_latents=16)``). What an algorithm builds is data.

Source: Kim et al. 2023, arXiv:2303.00451, Section 6, Tables 1 and 2, Appendix G.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from tensordict.utils import NestedKey
from torch import nn
from torchrl.data import TensorSpec
from torchrl.envs import EnvBase, Transform
from torchrl.objectives import LossModule
from torchrl.objectives.utils import TargetNetUpdater

from vm3ac_modules.keys import Keys
from vm3ac_modules.learning.hooks import Hook
from vm3ac_modules.learning.sources import Replayed, Source
from vm3ac_modules.modules.policy import Policy, Sizes
from vm3ac_modules.options import Options, option

__all__ = ["Algorithm", "Built", "Kind", "Plan", "Preset", "option"]

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


def no_transforms(env: EnvBase) -> Sequence[Transform]:
    """No transforms."""
    return ()


@dataclass
class Built:
    """What an algorithm returns.

    Args:
        policy: the policy to collect with.
        loss: the loss over the same parameters, on its device.
        lr: learning rate of every group of parameters that ``rates`` does not name.
        rates: learning rate by name of the loss; None stands for ``lr``.
        optimizer: makes the optimizer of a group: ``optimizer(parameters, lr=...)``.
        target: what moves the target networks; None without any.
        env_transforms: the transforms that the policy needs of an environment.
        replay_transforms: transforms of the replay, in order.
        added_by_replay: entries that those add to what was collected.
        hooks: what is called while environments are stepped.
        source: where batches come from.
        clips_per_agent: whether gradients are clipped agent by agent, or loss by loss.
    """

    policy: Policy
    loss: LossModule
    lr: float
    rates: Mapping[str, float | None] = field(default_factory=dict)
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.Adam
    target: TargetNetUpdater | None = None
    env_transforms: Callable[[EnvBase], Sequence[Transform]] = no_transforms
    replay_transforms: Callable[[], Sequence[Transform]] = tuple
    added_by_replay: Sequence[NestedKey] = ()
    hooks: Sequence[Hook] = ()
    source: type[Source] = Replayed
    clips_per_agent: bool = True

    def make_optimizers(
        self, groups: Mapping[str, Iterable[nn.Parameter]]
    ) -> dict[str, torch.optim.Optimizer]:
        """An optimizer per group of parameters.

        Args:
            groups: parameters by name of the loss that trains them.
        """
        made = {}
        for name, parameters in groups.items():
            rate = self.rates.get(name)
            made[name] = self.optimizer(list(parameters), lr=self.lr if rate is None else rate)
        return made


@dataclass(frozen=True, kw_only=True)
class Algorithm(Options, ABC):
    """Base of the options of an algorithm, which know how to build it."""

    kind: ClassVar[Kind]
    """Kind of actions."""

    @abstractmethod
    def build(self, plan: Plan) -> Built:
        """Build networks, policy and loss.

        Args:
            plan: what it is built for.
        """

    def pick(self, *names: str) -> dict[str, Any]:
        """Some options by name, as a loss takes them."""
        return {name: getattr(self, name) for name in names}


class Preset(NamedTuple):
    """An algorithm by name."""

    options: Algorithm
    about: str
    """One line on what it is, or what it changes."""
