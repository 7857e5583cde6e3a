r"""A policy that draws its latent, and what losses are handed of it.

The latent that an action was drawn with is data, as the action is. A loss that draws actions of
its own (SAC, REDQ, the losses of this package) needs a *fresh* latent; a loss that scores stored
actions (PPO's ratio, V-trace, behavior cloning) needs the *stored* one: under another z the ratio

.. math:: \frac{\pi_\theta(a_t | s_t, z_t)}{\pi_{\mathrm{old}}(a_t | s_t, z_t)}

is not 1 even where nothing was learned. Shapes: ``*B`` batch, ``N`` agents, ``Z`` latent.

Source: Kim et al. 2023, arXiv:2303.00451, Section 4; Schulman et al. 2017, arXiv:1707.06347.
"""

from __future__ import annotations

from typing import Any

from tensordict import TensorDictBase
from tensordict.nn import (
    ProbabilisticTensorDictSequential,
    TensorDictModuleBase,
)
from tensordict.utils import NestedKey

from vm3ac_modules.keys import require_keys
from vm3ac_modules.modules.latent import LatentSampler
from vm3ac_modules.priors import LatentPrior

__all__ = ["LatentPolicy", "StoredLatent"]


class StoredLatent(TensorDictModuleBase):
    """Stand in for a sampler and use the latent that the tensordict holds.

    Args:
        prior: the law that the latent was drawn from, where a loss needs further latents of it.
        key: where the latent is, ``[*B, Z]``, or ``[*B, N, Z]`` of independent ones.

    Raises:
        MissingKeysError: in ``forward``, the tensordict holds no latent.

    Example:
        >>> from tensordict import TensorDict
        >>> td = TensorDict({"latent": torch.ones(5, 8)}, [5])
        >>> bool((StoredLatent()(td)["latent"] == 1).all())
        True

    See Also:
        :meth:`LatentPolicy.replaying`.
    """

    def __init__(self, prior: LatentPrior | None = None, key: NestedKey = "latent") -> None:
        super().__init__()
        self.prior = prior
        self.in_keys, self.out_keys = [key], [key]

    @classmethod
    def instead_of(cls, module: TensorDictModuleBase) -> TensorDictModuleBase:
        """A sampler's stand-in; every other module itself.

        Args:
            module: a module of a policy.
        """
        if isinstance(module, LatentSampler):
            return cls(module.prior, module.out_keys[0])
        return module

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Leave the tensordict as it is."""
        require_keys(tensordict, self.in_keys, "StoredLatent")
        return tensordict


class LatentPolicy(ProbabilisticTensorDictSequential):
    """A sampler and an actor in sequence; collectors call it, stock losses take parts of it.

    Called, it draws a latent and acts on it. Asked for a distribution it cannot know which latent
    is meant, so a stock loss is handed :meth:`fresh` or :meth:`replaying`; both share all
    parameters with this policy. The losses of this package take the policy itself.

    ===============================  ======================
    the host's loss                  takes
    ===============================  ======================
    draws its own actions (SAC,      ``policy.fresh()``
    CQL, CrossQ, REDQ, TD3)
    scores stored actions (PPO,      ``policy.replaying()``
    MAPPO, A2C, REINFORCE, V-trace,
    behavior cloning)
    losses of this package           ``policy``
    ===============================  ======================

    Args:
        modules: an optional :class:`~vm3ac_modules.modules.LatentSampler`, networks, and the
            distribution.

    Raises:
        RuntimeError: when asked for a distribution or log-probabilities although it draws a latent.

    Example:
        >>> from tensordict import TensorDict
        >>> from torchrl.data import Bounded
        >>> import vm3ac_modules as vm
        >>> actor = vm.make_actor(4, 3, Bounded(-1.0, 1.0, (2, 1)))
        >>> policy = vm.make_policy(vm.LatentSampler(vm.GaussianPrior(3)), actor)
        >>> td = policy(TensorDict({"agents": {"observation": torch.zeros(5, 2, 4)}}, [5]))
        >>> again = policy.replaying().get_dist(td).log_prob(td["agents", "action"])
        >>> bool(torch.allclose(again, td["agents", "action_log_prob"], atol=1e-5))
        True

    See Also:
        :func:`~vm3ac_modules.objectives.check_host`, which tells whether a host was handed the
        right one.
    """

    @property
    def draws_latent(self) -> bool:
        """Whether a latent is drawn at every call."""
        return any(isinstance(module, LatentSampler) for module in self.module)

    def fresh(self) -> ProbabilisticTensorDictSequential:
        """The policy for losses that draw actions themselves: each call draws a fresh latent."""
        return ProbabilisticTensorDictSequential(*self.module)

    def replaying(self) -> ProbabilisticTensorDictSequential:
        """The policy for a loss that scores stored actions: it reads the latent that they had."""
        return ProbabilisticTensorDictSequential(*map(StoredLatent.instead_of, self.module))

    def get_dist(self, tensordict: TensorDictBase, *args: Any, **kwargs: Any) -> Any:
        """The law of actions; refused where it would be that of a latent nobody asked for."""
        self._refuse()
        return super().get_dist(tensordict, *args, **kwargs)

    def log_prob(self, tensordict: TensorDictBase, *args: Any, **kwargs: Any) -> Any:
        """Log-probability of the actions; refused likewise."""
        self._refuse()
        return super().log_prob(tensordict, *args, **kwargs)

    def _refuse(self) -> None:
        if self.draws_latent:
            raise RuntimeError(
                "this policy draws a latent, so its distribution depends on which one is meant: "
                "hand the loss policy.fresh() if it draws actions of its own (SAC, REDQ), or "
                "policy.replaying() if it scores stored ones (PPO, A2C, V-trace)."
            )
