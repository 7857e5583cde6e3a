"""A team's policy as one object that can be asked: who draws its latent, for whom, how large.

Shapes: ``*B`` batch, ``N`` agents, ``O`` observation, ``A`` action, ``Z`` latent.

Source: Kim et al. 2023, arXiv:2303.00451, Section 5.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, get_args

import torch
from tensordict import TensorDictBase
from tensordict.nn import (
    ProbabilisticTensorDictModule,
    ProbabilisticTensorDictSequential,
    TensorDictModuleBase,
    TensorDictSequential,
)
from torch import Tensor
from torchrl.modules import AdditiveGaussianModule

from vm3ac_modules.keys import Keys, require_dtypes
from vm3ac_modules.modules.latent import LatentMode, LatentSampler
from vm3ac_modules.modules.latent_policy import LatentPolicy, StoredLatent
from vm3ac_modules.modules.per_seed import PerSeed
from vm3ac_modules.modules.recurrent_actor import RecurrentActor
from vm3ac_modules.priors import CategoricalPrior, LatentPrior

__all__ = ["Policy", "Sizes", "policy_leaves"]

_DRAWING = (ProbabilisticTensorDictModule, AdditiveGaussianModule)


@dataclass(frozen=True)
class Sizes:
    """Sizes of a group of agents.

    Args:
        num_agents: number of agents N.
        obs_dim: size O of an agent's observation.
        action_dim: components A of a continuous action, or number of discrete actions.
        discrete: whether actions are discrete.
        state_dim: size of the state; None without one.
    """

    num_agents: int
    obs_dim: int
    action_dim: int
    discrete: bool = False
    state_dim: int | None = None


def policy_leaves(module: TensorDictModuleBase) -> Iterator[TensorDictModuleBase]:
    """Modules of a nested sequence in the order in which they run.

    Args:
        module: a sequence, or a single module.

    Example:
        >>> from torchrl.data import Bounded
        >>> from vm3ac_modules.modules.actors import make_actor
        >>> len(list(policy_leaves(make_actor(4, 0, Bounded(-1.0, 1.0, (3, 2))))))
        2
    """
    if isinstance(module, Policy):
        yield from policy_leaves(module.module)
    elif isinstance(module, TensorDictSequential):
        for child in module.module:
            yield from policy_leaves(child)
    else:
        yield module


class Policy(TensorDictModuleBase):
    """The policy of a team: a latent sampler (or none), the actor, and exploration.

    It describes itself: latent, prior, sizes, bounds. Calling it runs the sequence that it holds.

    Args:
        module: the sequence to collect with: an optional
            :class:`~vm3ac_modules.modules.LatentSampler` first, then the actor.
        seeds: number of independent seeds S whose parameters are stacked; rows are then
            ``[S * B]``, seed by seed.
        keys: the tensordict vocabulary.

    Example:
        >>> from torchrl.data import Bounded
        >>> import vm3ac_modules as vm
        >>> actor = vm.make_actor(4, 3, Bounded(-1.0, 1.0, (2, 1)))
        >>> policy = Policy(vm.make_policy(vm.LatentSampler(vm.GaussianPrior(3)), actor))
        >>> policy.sizes
        Sizes(num_agents=2, obs_dim=4, action_dim=1, discrete=False, state_dim=None)
        >>> policy.with_latent("mean").sampler.mode
        'mean'

    See Also:
        :func:`~vm3ac_modules.modules.make_policy` for the sequence itself, which stock TorchRL
        losses take.
    """

    def __init__(
        self, module: TensorDictModuleBase, *, seeds: int = 1, keys: Keys | None = None
    ) -> None:
        super().__init__()
        self.module = module
        self.player = module if seeds == 1 else PerSeed(module, seeds)
        self.seeds, self.keys = seeds, Keys() if keys is None else keys
        self.in_keys, self.out_keys = list(module.in_keys), list(module.out_keys)

    @classmethod
    def of(cls, policy: TensorDictModuleBase, keys: Keys | None = None) -> Policy:
        """The policy itself, or one around a sequence of a user's own.

        Args:
            policy: a policy, or any tensordict module that writes actions.
            keys: the tensordict vocabulary of a user's sequence.

        Raises:
            ValueError: if it is no tensordict module.
        """
        if isinstance(policy, Policy):
            return policy
        if isinstance(policy, PerSeed):
            return cls(policy.module, seeds=policy.seeds, keys=keys)
        if not isinstance(policy, TensorDictModuleBase):
            raise ValueError(
                f"a policy must be a tensordict module, got {type(policy).__name__}: wrap it in "
                "tensordict.nn.TensorDictModule."
            )
        return cls(policy, keys=keys)

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write the latent, if one is drawn, and the actions.

        Raises:
            ValueError: for an entry of another type than the networks'; names it.
        """
        try:
            return self.player(tensordict)
        except RuntimeError:
            # Asked only where it failed: this is every step's path.
            floats = (p.dtype for p in self.parameters() if p.is_floating_point())
            dtype = next(floats, torch.get_default_dtype())
            require_dtypes(tensordict, self.in_keys, "the policy", dtype)
            raise

    @property
    def sampler(self) -> LatentSampler | None:
        """The latent's sampler; None without a latent, or if the environment draws it (MAVEN)."""
        leaves = policy_leaves(self.module)
        return next((leaf for leaf in leaves if isinstance(leaf, LatentSampler)), None)

    @property
    def prior(self) -> LatentPrior | None:
        """The law of the latent that the sampler draws."""
        return None if self.sampler is None else self.sampler.prior

    @property
    def actor(self) -> TensorDictModuleBase:
        """The module that holds the network, :attr:`net`.

        Raises:
            ValueError: if no module of the sequence holds a network of this package.
        """
        for leaf in policy_leaves(self.module):
            if hasattr(getattr(leaf, "net", None), "obs_dim"):
                return leaf
        raise ValueError(
            "this policy holds no network of vm3ac_modules.nn, so its sizes are not known: build "
            "it with make_actor, make_deterministic_actor or a recurrent actor."
        )

    @property
    def net(self) -> Any:
        """The network of all agents."""
        return self.actor.net

    @property
    def sizes(self) -> Sizes:
        """Sizes of the group, as the network was built for them."""
        net = self.net
        discrete = hasattr(net, "num_actions")
        actions = net.num_actions if discrete else net.action_dim
        return Sizes(net.num_agents, net.obs_dim, actions, discrete)

    @property
    def latent_dim(self) -> int:
        """Size Z of the latent that the network reads; 0 for none."""
        dim: int = self.net.latent_dim
        return dim

    @property
    def reads_latent(self) -> bool:
        """Whether actions depend on a latent, drawn at every step or once per episode."""
        return self.latent_per_episode or self.sampler is not None

    @property
    def latent_per_episode(self) -> bool:
        """Whether a latent lives for an episode: one that is held, or MAVEN's."""
        if self.sampler is not None:
            return self.sampler.held
        return self.keys.latent in self.in_keys

    @property
    def recurrent(self) -> bool:
        """Whether the policy reads a memory, as those over whole episodes do."""
        return self.keys.hidden in self.in_keys

    @property
    def draws_actions(self) -> bool:
        """Whether actions are drawn, so that playing them and playing the likeliest ones differ.

        Not of deterministic actors and of utilities without exploration; a sequence of a user's own
        counts as drawing.
        """
        leaves = list(policy_leaves(self.module))
        if not any(hasattr(getattr(leaf, "net", None), "obs_dim") for leaf in leaves):
            return True
        if any(getattr(leaf, "deterministic", False) for leaf in leaves):
            return False
        return any(isinstance(leaf, _DRAWING) for leaf in leaves)

    @property
    def bounds(self) -> tuple[Tensor, Tensor] | None:
        """Lowest and highest actions, ``[N, A]`` each; None for discrete actions."""
        net = self.net
        if hasattr(net, "num_actions"):
            return None
        if hasattr(net, "half_range"):
            return net.center - net.half_range, net.center + net.half_range
        for leaf in policy_leaves(self.module):
            if isinstance(leaf, ProbabilisticTensorDictModule):
                options = leaf.distribution_kwargs
                return options["low"], options["high"]
        raise ValueError("the policy must be one of make_actor: it holds no distribution.")

    @property
    def latent_modes(self) -> tuple[LatentMode, ...]:
        """Modes in which the latent can be played; empty without a sampler.

        The mean of a categorical latent is none of its outcomes, so it is left out.
        """
        if self.sampler is None:
            return ()
        refused = ("mean",) if isinstance(self.prior, CategoricalPrior) else ()
        return tuple(mode for mode in get_args(LatentMode) if mode not in refused)

    def with_latent(self, mode: LatentMode, *, seed: int | None = None) -> Policy:
        """The same policy with another mode of its latent; networks and prior are shared.

        Args:
            mode: the mode.
            seed: seed of the synchronized latents; the sampler's own by default.

        Returns:
            A policy; this one itself if it holds no sampler.
        """
        if self.sampler is None:
            return self

        def choose(leaf: TensorDictModuleBase) -> TensorDictModuleBase:
            if not isinstance(leaf, LatentSampler):
                return leaf
            unknown = mode == "independent" and leaf.num_agents is None
            num_agents = self.sizes.num_agents if unknown else None
            return leaf.with_mode(mode, num_agents=num_agents, seed=seed)

        return self._around(_changed(self.module, choose))

    def replaying(self) -> TensorDictModuleBase:
        """The sequence for a loss that scores stored actions: it reads the latent that they had.

        See Also:
            :class:`~vm3ac_modules.modules.LatentPolicy`.
        """
        leaves = [StoredLatent.instead_of(leaf) for leaf in policy_leaves(self.module)]
        if isinstance(leaves[-1], ProbabilisticTensorDictModule):
            return ProbabilisticTensorDictSequential(*leaves)
        return TensorDictSequential(*leaves)

    def greedy(self) -> Policy:
        """The same policy without exploration: no floor of the actor, no Gaussian noise behind it.

        Under TorchRL's deterministic exploration type it plays the action at the mean, or the most
        probable one.
        """
        return self._around(_changed(self.module, _unexploring))

    def scores(self, tensordict: TensorDictBase) -> Tensor:
        """Log-probabilities of all actions of a recurrent policy, without exploration.

        Args:
            tensordict: what the actor reads, the latent included, ``[*B]``; not changed.

        Returns:
            Of utilities those of their softmax, nats, -1e9 where illegal, ``[*B, N, A]``.
        """
        actor = RecurrentActor(self.net, keys=self.keys, greedy=True)
        scores: Tensor = actor(tensordict.select(*actor.in_keys)).get(self.keys.logits)
        return scores

    def _around(self, module: TensorDictModuleBase) -> Policy:
        return Policy(module, seeds=self.seeds, keys=self.keys)


def _unexploring(leaf: TensorDictModuleBase) -> TensorDictModuleBase | None:
    """A module of a sequence without its exploration; None if it was nothing else."""
    if isinstance(leaf, AdditiveGaussianModule):
        return None
    without_floor = getattr(leaf, "without_floor", None)
    return leaf if without_floor is None else without_floor()


def _changed(
    module: TensorDictModuleBase,
    change: Callable[[TensorDictModuleBase], TensorDictModuleBase | None],
) -> TensorDictModuleBase:
    """The sequence with changed modules, without those changed to None; itself if all stay."""
    before = list(policy_leaves(module))
    after = [new for leaf in before if (new := change(leaf)) is not None]
    if len(after) == len(before) and all(map(operator.is_, after, before)):
        return module
    kinds = (LatentPolicy, ProbabilisticTensorDictSequential, TensorDictSequential)
    kind = next((kind for kind in kinds if isinstance(module, kind)), TensorDictSequential)
    if kind is TensorDictSequential and isinstance(after[-1], ProbabilisticTensorDictModule):
        # A distribution that noise stood behind.
        kind = ProbabilisticTensorDictSequential
    return kind(*after)
