"""Run a network on other tensors than its own parameters, at the price of a few assignments."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

from tensordict import TensorDictBase
from tensordict.utils import NestedKey
from torch import nn

__all__ = ["LossNetwork", "ParameterSlots"]


class ParameterSlots:
    """Where a network keeps its parameters and buffers, to put other tensors there for one call.

    ``params.to_module(network)`` does the same for every kind of module and mode; it walks the
    tree each time, several times per update, and cannot be compiled with detached parameters. The
    walk is done once here.

    Args:
        network: the network; modules are not added to or removed from it later.
        params: its parameters as ``TensorDict.from_module(network)`` lays them out.

    Example:
        >>> from tensordict import TensorDict
        >>> net = torch.nn.Linear(2, 1)
        >>> params = TensorDict.from_module(net)
        >>> slots = ParameterSlots(net, params)
        >>> with slots.filled(params.apply(torch.zeros_like)):
        ...     net(torch.ones(2)).item()
        0.0
    """

    def __init__(self, network: nn.Module, params: TensorDictBase) -> None:
        self.probe: tuple[NestedKey, int] | None = None
        self.buffers: list[tuple[NestedKey, int]] = []
        self.slots: list[tuple[dict[str, Any], str]] = []
        self.keys: list[NestedKey] = list(params.keys(True, True))
        for index, key in enumerate(self.keys):
            *path, name = key if isinstance(key, tuple) else (key,)
            owner = network.get_submodule(".".join(path))
            # torch's own tables: a parameter's place takes no plain tensor by public means.
            if name in owner._parameters:
                self.probe = (key, index)
                self.slots.append((owner._parameters, name))
            else:
                self.buffers.append((key, index))
                self.slots.append((owner._buffers, name))

    @contextmanager
    def filled(self, params: TensorDictBase, *, detach: bool = False) -> Iterator[None]:
        """Run the network on these tensors inside the block.

        Args:
            params: tensors by the names that the slots were built from, in any order.
            detach: treat them as constants.

        Raises:
            KeyError: if one of the names is missing.
        """
        own = [table[name] for table, name in self.slots]
        # All of a network is swapped or nothing of it, so one parameter tells which.
        is_own = self.probe is not None and params.get(self.probe[0]) is own[self.probe[1]]
        if is_own and not detach and not self.buffers:
            yield
            return
        values = own.copy() if is_own else [params[key] for key in self.keys]
        if is_own:
            # A loss that was moved or cast holds new buffers; the parameters are the same objects.
            for key, index in self.buffers:
                values[index] = params.get(key)
        try:
            for (table, name), value in zip(self.slots, values, strict=True):
                table[name] = value.detach() if detach else value
            yield
        finally:
            for (table, name), value in zip(self.slots, own, strict=True):
                table[name] = value


class LossNetwork(NamedTuple):
    """A network of a loss with the parameters that it runs on."""

    module: Any
    """The network."""
    slots: ParameterSlots
    """Where it keeps its parameters."""
    params: TensorDictBase
    """The parameters: its own or those of its target."""

    def filled(self, *, detach: bool = False) -> AbstractContextManager[None]:
        """Run the module on the parameters inside the block.

        Args:
            detach: treat them as constants.
        """
        return self.slots.filled(self.params, detach=detach)
