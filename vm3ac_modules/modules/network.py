"""A plain network behind tensordict keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from tensordict.utils import NestedKey
from torch import Tensor, nn

from vm3ac_modules.keys import require_keys

__all__ = ["NetworkModule"]


class NetworkModule(TensorDictModuleBase):
    """Call a network with entries of a tensordict and write what it returns.

    ``TensorDictModule`` does the same for any callable. It converts the result at every call, which
    takes time. These networks return tensors, so nothing is converted here.

    Args:
        net: the network.
        in_keys: the network's argument name -> key of the entry it is given.
        out_keys: one key per tensor that the network returns.

    Example:
        >>> from tensordict import TensorDict
        >>> module = NetworkModule(torch.nn.Linear(2, 3), {"input": "x"}, ["y"])
        >>> module(TensorDict({"x": torch.zeros(5, 2)}, [5]))["y"].shape
        torch.Size([5, 3])
    """

    def __init__(
        self, net: nn.Module, in_keys: Mapping[str, NestedKey], out_keys: Sequence[NestedKey]
    ) -> None:
        super().__init__()
        self.net = net
        self.arguments = dict(in_keys)
        self.in_keys = list(in_keys.values())
        self.out_keys = list(out_keys)

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write the network's outputs into the tensordict.

        Args:
            tensordict: holds the entries of ``in_keys``.

        Returns:
            The same tensordict.

        Raises:
            MissingKeysError: if an entry is missing.
        """
        inputs = {key: tensordict.get(key, None) for key in self.in_keys}
        if any(value is None for value in inputs.values()):
            require_keys(tensordict, self.in_keys, type(self.net).__name__)
        for key, value in zip(self.out_keys, self.call(inputs), strict=True):
            tensordict.set(key, value)
        return tensordict

    def call(self, inputs: Mapping[NestedKey, Tensor]) -> tuple[Tensor, ...]:
        """Run the network on tensors, without a tensordict around them.

        Args:
            inputs: key of ``in_keys`` -> tensor.

        Returns:
            One tensor per key of ``out_keys``.
        """
        out = self.net(**{name: inputs[key] for name, key in self.arguments.items()})
        return out if isinstance(out, tuple) else (out,)
