r"""What every loss shares: networks and what trains them, keys, options, masks, one ``forward``.

Shapes: ``*S`` seeds (absent in an ordinary run), ``*B`` batch. A loss of this package is its
formula, :meth:`MultiAgentLoss.compute`, and the networks that it adds.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Collection
from typing import Any, ClassVar, NamedTuple

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictParams
from tensordict.utils import NestedKey, unravel_key
from torch import Tensor, nn
from torchrl.objectives import LossModule
from torchrl.objectives.utils import ValueEstimators

from vm3ac_modules.keys import Keys, require_dtypes, require_keys
from vm3ac_modules.nn.blocks import LayerInputError
from vm3ac_modules.objectives.common import REDUCTIONS, reduce_loss, valid_mask, without_masked
from vm3ac_modules.objectives.options import check_choice, check_positive, check_shares
from vm3ac_modules.objectives.slots import LossNetwork, ParameterSlots

__all__ = ["MultiAgentLoss", "Transitions"]


OF_THE_DEVICE: tuple[type[Exception], ...] = (
    torch.OutOfMemoryError,
    # What a GPU fails with has a name of its own in newer versions of torch.
    getattr(torch, "AcceleratorError", torch.OutOfMemoryError),
)
"""Failures that say nothing of the batch."""


class Transitions(NamedTuple):
    """A batch of transitions, clean: what is masked is zeros."""

    tensordict: TensorDictBase
    """``[*S, *B]``."""
    mask: Tensor | None
    """Transitions that count, bool ``[*S, *B]``; None for all."""


# TensorDict before 0.12 enters batch sizes and devices in a module's state, and wants them back.
# Here a state holds tensors alone, so that every version reads what any other has saved.
_SIZES = ("__batch_size", "__device")


def _without_sizes(loss: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    for key in [key for key in state if key.startswith(prefix) and key.endswith(_SIZES)]:
        del state[key]


def _with_sizes(loss: nn.Module, state: dict[str, Any], prefix: str, *rest: Any) -> None:
    for name, child in loss.named_children():
        if isinstance(child, TensorDictParams):
            for key, value in child.state_dict(prefix=f"{prefix}{name}.").items():
                if key.endswith(_SIZES):
                    state.setdefault(key, value)


class MultiAgentLoss(LossModule):
    """Base of the losses.

    A subclass calls :meth:`add_network` for each of its networks, names its ``diagnostics`` and
    writes :meth:`compute`. From the networks follow the names of its losses, the parameters that
    each of them trains, and ``out_keys``.

    Args:
        gamma: discount per step in [0, 1], a buffer; None for a loss without one.
        reward_scale: multiplies rewards inside the loss, > 0.
        reduction: ``"mean"`` or ``"sum"`` over the batch, ``"none"`` for ``[*S, *B]``.
        seed_dims: number of leading seed dimensions of the networks and batches.
        keys: the tensordict vocabulary.

    Raises:
        ValueError: for options out of their range; when called, for an unknown loss in ``only``.
        MissingKeysError: when called with a tensordict that lacks an entry.

    Example:
        The squared value of a network's output, as a loss:

        >>> class Decay(MultiAgentLoss):
        ...     in_keys = ["x"]
        ...     def compute(self, batch, noise, wanted):
        ...         with self.network("net").filled():
        ...             y = self.net_network(batch.tensordict.get("x")).squeeze(-1)
        ...         return self.reduce({"loss_net": y.square()}, batch.mask)
        >>> loss = Decay()
        >>> loss.add_network("net", nn.Linear(3, 1))
        >>> loss.networks()
        {'loss_net': ('net_network',)}
        >>> loss(TensorDict({"x": torch.zeros(5, 3)}, [5])).keys()
        _StringKeys(dict_keys(['loss_net']))
    """

    default_value_estimator = ValueEstimators.TD0
    diagnostics: tuple[str, ...] | list[str] = ()
    """What ``forward`` returns beside the losses: detached means."""
    order: ClassVar[tuple[tuple[str, ...], ...]] = ()
    """Losses that are stepped together, one group after the other; all together if empty."""
    loss_mask_key: Any = "auto"
    """Entry that tells which transitions count; ``"auto"`` for those that TorchRL writes, None for
    no masking. TorchRL 0.14 has it of every loss; here it serves older versions too."""

    gamma: Any
    _dtype: torch.dtype | None = None

    def __init__(
        self,
        *,
        gamma: float | None = None,
        reward_scale: float = 1.0,
        reduction: str = "mean",
        seed_dims: int = 0,
        keys: Keys | None = None,
    ) -> None:
        super().__init__()
        self.register_state_dict_post_hook(_without_sizes)
        self.register_load_state_dict_pre_hook(_with_sizes)
        check_choice("reduction", reduction, REDUCTIONS)
        check_positive(reward_scale=reward_scale)
        self.reward_scale, self.reduction, self.seed_dims = reward_scale, reduction, seed_dims
        self.slots: dict[str, ParameterSlots] = {}
        self._trained: dict[str, tuple[str, ...]] = {}
        if gamma is not None:
            check_shares(gamma=gamma)
            self.register_buffer("gamma", torch.tensor(float(gamma)))
        if keys is not None:
            fields = self._AcceptedKeys.__dataclass_fields__
            self.set_keys(**{name: getattr(keys, name) for name in fields if hasattr(keys, name)})

    # --- networks ---------------------------------------------------------------------------

    def add_network(
        self, name: str, network: nn.Module, *, loss: str | None = "", target: bool = False
    ) -> None:
        """Take a network: ``<name>_network`` and its parameters, ``<name>_network_params``.

        Args:
            name: of the network.
            network: the network; the loss shares its parameters.
            loss: what trains it, ``loss_<name>`` by default; None for nothing that ``forward``
                returns.
            target: keep a target copy of the parameters, ``target_<name>_network_params``.
        """
        attribute = f"{name}_network"
        with warnings.catch_warnings():
            # Networks of terms cannot be declared in the class, as TorchRL would have it.
            warnings.filterwarnings("ignore", message=".*wasn't part of the annotations")
            self.convert_to_functional(network, attribute, create_target_params=target)
        self.slots[attribute] = ParameterSlots(network, getattr(self, f"{attribute}_params"))
        if loss is not None:
            loss = loss or f"loss_{name}"
            self._trained[loss] = (*self._trained.get(loss, ()), attribute)

    def network(self, name: str, *, target: bool = False) -> LossNetwork:
        """A network with the parameters that it runs on.

        Args:
            name: as in :meth:`add_network`.
            target: run on the target copy.
        """
        attribute = f"{name}_network"
        params = getattr(self, f"target_{attribute}_params" if target else f"{attribute}_params")
        return LossNetwork(getattr(self, attribute), self.slots[attribute], params)

    def networks(self) -> dict[str, tuple[str, ...]]:
        """Name of every loss -> names of the networks that it trains."""
        return dict(self._trained)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters that each loss trains: disjoint groups, one optimizer each."""
        return {
            loss: [p for name in names for p in getattr(self, f"{name}_params").parameters()]
            for loss, names in self.networks().items()
        }

    @property
    def phases(self) -> tuple[tuple[str, ...], ...]:
        """Names of the losses, in the order in which they are stepped."""
        return self.order or (tuple(self.networks()),)

    @property
    def out_keys(self) -> list[str]:
        """Entries that ``forward`` returns."""
        return [*self.networks(), *self.diagnostics]

    # --- TorchRL's conventions --------------------------------------------------------------

    def _forward_value_estimator_keys(self, **kwargs: Any) -> None:
        # TorchRL calls it. Keys are read where they are used; there is no estimator to inform.
        return None

    def make_value_estimator(
        self, value_type: ValueEstimators | None = None, **hyperparams: Any
    ) -> None:
        """Set the discount.

        Args:
            value_type: only the loss's ``default_value_estimator``; None means the same.
            hyperparams: ``gamma``.

        Raises:
            ValueError: for another estimator, another hyper-parameter, or a loss without discount.
        """
        known, own = self.default_value_estimator, getattr(self, "gamma", None)
        if own is None:
            raise ValueError(f"{type(self).__name__} estimates no values: it has no discount.")
        if value_type not in (None, known):
            raise ValueError(
                f"{type(self).__name__}: only {known.name} is known, got {value_type}."
            )
        gamma = hyperparams.pop("gamma", float(own))
        if hyperparams or not 0.0 <= gamma <= 1.0:
            raise ValueError(f"expected gamma in [0, 1] alone, got {gamma} and {hyperparams}.")
        if isinstance(own, Tensor):
            own.fill_(gamma)
        else:
            self.gamma = gamma

    # --- a call -----------------------------------------------------------------------------

    def draw_noise(self, tensordict: TensorDictBase) -> TensorDict:
        """Draw all that one call needs: noise is data. Here nothing is drawn.

        Args:
            tensordict: the batch.

        Returns:
            The noise by name, with the batch's size.
        """
        return TensorDict({}, tensordict.batch_size)

    def forward(
        self,
        tensordict: TensorDictBase,
        noise: TensorDictBase | None = None,
        *,
        only: Collection[str] | None = None,
    ) -> TensorDict:
        """Compute the losses; the input is not changed.

        Args:
            tensordict: the batch, with the entries of ``in_keys``.
            noise: what :meth:`draw_noise` returns; drawn if None.
            only: names of the losses that are wanted; all if None.

        Returns:
            The losses that are wanted, and diagnostics, see the class.

        Raises:
            ValueError: for another name in ``only``; for an entry of another type than the
                networks', which it names; for entries of shapes that do not fit together.
        """
        known = self.networks()
        wanted = set(known if only is None else only)
        if not wanted <= set(known):
            raise ValueError(f"only= takes names of {sorted(known)}, got {sorted(wanted)}.")
        self.require_dtypes(tensordict)
        try:
            batch = self.read(tensordict)
            noise = self.draw_noise(tensordict) if noise is None else noise
            found = self.compute(batch, noise, wanted)
        except OF_THE_DEVICE:
            raise
        except (RuntimeError, TypeError, IndexError, LayerInputError) as error:
            raise self._unfit(tensordict, error) from error
        return TensorDict({k: x for k, x in found.items() if k in wanted or k not in known}, [])

    def _unfit(self, tensordict: TensorDictBase, error: Exception) -> ValueError:
        """What torch said of a batch, with the shapes and types of all that was read."""
        found = [(key, tensordict.get(key, None)) for key in self.in_keys]
        entries = ", ".join(
            f"{unravel_key(key)!r} {list(value.shape)} {str(value.dtype).removeprefix('torch.')}"
            for key, value in found
            if isinstance(value, Tensor)
        )
        return ValueError(
            f"{type(self).__name__} cannot compute on this batch: {error}. It has {entries}, with "
            f"batch size {list(tensordict.batch_size)}: compare with the environment's specs that "
            "the networks were built for."
        )

    def read(self, tensordict: TensorDictBase) -> Any:
        """Check a batch and clean it of what is masked.

        Args:
            tensordict: transitions ``[*S, *B]``; not changed.

        Returns:
            :class:`Transitions` here; what :meth:`compute` takes.
        """
        keys: list[NestedKey] = list(self.in_keys)
        require_keys(tensordict, keys, type(self).__name__)
        mask = valid_mask(tensordict, self.loss_mask_key)
        return Transitions(without_masked(tensordict, mask, keys), mask)

    def require_dtypes(self, tensordict: TensorDictBase) -> None:
        """Refuse entries of another type than the networks', in a sentence that names them."""
        if self._dtype is None:
            floats = (p.dtype for p in self.parameters() if p.is_floating_point())
            self._dtype = next(floats, torch.get_default_dtype())
        require_dtypes(tensordict, self.in_keys, type(self).__name__, self._dtype)

    def _apply(self, *args: Any, **kwargs: Any) -> Any:
        # Moved or cast: what the networks compute in is asked again.
        self._dtype = None
        return super()._apply(*args, **kwargs)

    @abstractmethod
    def compute(self, batch: Any, noise: TensorDictBase, wanted: set[str]) -> dict[str, Tensor]:
        """The formula: losses and diagnostics.

        Args:
            batch: what :meth:`read` returned.
            noise: what :meth:`draw_noise` returned.
            wanted: names of the losses that are wanted; others may be returned too.

        Returns:
            A tensor per name of ``out_keys``; diagnostics detached.
        """

    def reduce(self, losses: dict[str, Tensor], mask: Tensor | None) -> dict[str, Tensor]:
        """Reduce losses over the batch as ``reduction`` says.

        Args:
            losses: ``[*S, *B]`` by name.
            mask: bool ``[*S, *B]``, or None.

        Returns:
            ``[*S]`` by name, or ``[*S, *B]`` for ``"none"``.
        """
        return {
            name: reduce_loss(values, mask, self.seed_dims, self.reduction)
            for name, values in losses.items()
        }
