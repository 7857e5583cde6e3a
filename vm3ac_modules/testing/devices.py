"""A device that is not there: tensors on the CPU which say that they lie on a GPU.

A program that runs here, and gives what it gives on the CPU, leaves no tensor behind on the host:
what would raise on a GPU raises here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

__all__ = ["pretended_device"]

HERE = torch.device("cpu")
DEVICE = torch.device("cuda", 0)
MEMORY = 2**36
aten = torch.ops.aten
COPIES = (aten._to_copy.default, aten.copy_.default, aten._foreach_copy_.default)
INDEXING = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default)
FILLING = (
    *(aten.fill.Tensor, aten.fill_.Tensor),
    *(aten.masked_fill.Tensor, aten.masked_fill_.Tensor),
)
BUILT_FROM_PYTHON = (torch.tensor, torch.as_tensor, torch.asarray)
"""These fill memory of the host first, and copy it."""


class DeviceTensor(torch.Tensor):
    """A tensor of the CPU that says it lies on the pretended device."""

    on_host: Tensor

    @staticmethod
    def __new__(cls: type[DeviceTensor], on_host: Tensor) -> DeviceTensor:
        """Wrap a tensor."""
        made: Any = torch.Tensor._make_wrapper_subclass(
            cls,
            on_host.size(),
            strides=on_host.stride(),
            storage_offset=on_host.storage_offset(),
            dtype=on_host.dtype,
            device=HERE,
        )
        made.on_host = on_host
        wrapped: DeviceTensor = made
        return wrapped

    # The mode below sees every function first.
    __torch_function__: Any = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return run_on_device(func, args, kwargs or {})

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """The pretended device."""
        return DEVICE

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        """True."""
        return True

    @property
    def is_cpu(self) -> bool:  # type: ignore[override]
        """False."""
        return False

    def get_device(self) -> int:
        """Index of the pretended device."""
        return 0

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        copy: Tensor = DeviceTensor(self.on_host.detach().clone())
        if isinstance(self, torch.nn.Parameter):
            copy = torch.nn.Parameter(copy, self.requires_grad)
        else:
            copy.requires_grad_(self.requires_grad)
        memo[id(self)] = copy
        return copy

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["on_host"], None

    @staticmethod
    def __tensor_unflatten__(parts: dict[str, Tensor], *rest: Any) -> DeviceTensor:
        return DeviceTensor(parts["on_host"])

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Saved as a tensor of the host, which is how files of a GPU are loaded without one."""
        return self.on_host.detach().__reduce_ex__(protocol)

    def __repr__(self) -> str:  # type: ignore[override]
        return f"DeviceTensor({self.on_host!r})"


def run_on_device(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run an operation on the host's memory, after what a GPU would refuse is refused."""
    target = kwargs.get("device")
    leaves = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    on_device = [leaf for leaf in leaves if isinstance(leaf, DeviceTensor)]
    if target is not None:
        kwargs = {**kwargs, "device": HERE}
        stays = torch.device(target).type == DEVICE.type
    else:
        stays = bool(on_device)
    if func in COPIES and target is None:
        stays = isinstance(args[0] if func is not COPIES[2] else args[0][0], DeviceTensor)
    elif func not in COPIES:
        _refuse_mixed(func, args, leaves, on_device)
    plain_args, plain_kwargs = tree_map(_host, (args, kwargs))
    found = func(*plain_args, **plain_kwargs)
    if func is aten._to_copy.default and found is plain_args[0]:
        found = found.clone()
    if not stays:
        return found
    found = tree_map(_wrapped, found)
    return return_and_correct_aliasing(func, args, kwargs, found) if on_device else found


def _refuse_mixed(
    func: Any, args: Any, leaves: Sequence[Tensor], on_device: Sequence[Tensor]
) -> None:
    if not on_device or len(on_device) == len(leaves):
        return
    if func in INDEXING and isinstance(args[0], DeviceTensor):
        # Indices of the host are copied to the device.
        leaves = [args[0], *args[2:3]]
    left = [leaf for leaf in leaves if not isinstance(leaf, DeviceTensor)]
    scalars_pass = torch.Tag.pointwise in func.tags or func in (*INDEXING, *FILLING)
    left = [leaf for leaf in left if leaf.ndim or not scalars_pass]
    if left:
        shapes = ", ".join(str(list(leaf.shape)) for leaf in left)
        raise RuntimeError(
            f"{func}: expected all tensors to be on the same device, but those of shape {shapes} "
            f"are on {HERE} and others on {DEVICE}."
        )


def _host(leaf: Any) -> Any:
    return leaf.on_host if isinstance(leaf, DeviceTensor) else leaf


def _wrapped(leaf: Any) -> Any:
    plain = isinstance(leaf, Tensor) and not isinstance(leaf, DeviceTensor)
    return DeviceTensor(leaf) if plain else leaf


class _Operations(TorchDispatchMode):
    """Runs what is asked of the device."""

    def __init__(self) -> None:
        super().__init__()
        self.of_device = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        made = run_on_device(func, args, kwargs)
        # What torch makes on its own account while it works on tensors of the device lies there.
        ours = self.of_device and "device" in kwargs and func not in COPIES
        return tree_map(_wrapped, made) if ours else made


class _Calls(TorchFunctionMode):
    """Takes calls that name the device, which torch would refuse where no GPU is built in."""

    def __init__(self, operations: _Operations) -> None:
        super().__init__()
        self.operations = operations

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        special = SPECIAL.get(func)
        if special is not None:
            return special(*args, **kwargs)
        foreign = [kind for kind in types if not issubclass(kind, Tensor)]
        if foreign:
            # A tensordict or a spec does it in Python, by further calls that name the device.
            with self:
                return foreign[0].__torch_function__(func, types, args, kwargs)
        here = any(isinstance(leaf, DeviceTensor) for leaf in tree_leaves((args, kwargs)))
        if _names_device(kwargs.get("device")):
            if func in BUILT_FROM_PYTHON:
                return _built(func, args, kwargs)
            wants_grad = kwargs.pop("requires_grad", False)
            kwargs["device"] = HERE
            if here:
                del kwargs["device"]
            return _on_device(func(*args, **kwargs)).requires_grad_(wants_grad)
        before, self.operations.of_device = self.operations.of_device, here
        try:
            return func(*args, **kwargs)
        finally:
            self.operations.of_device = before


def _on_device(made: Tensor) -> Tensor:
    return made if isinstance(made, DeviceTensor) else DeviceTensor(made.detach())


def _built(func: Any, args: Any, kwargs: dict[str, Any]) -> Tensor:
    data = args[0] if args else kwargs["data"]
    if isinstance(data, DeviceTensor):
        return func(*args, **{k: v for k, v in kwargs.items() if k != "device"})
    return _moved(func(*args, **{**kwargs, "device": HERE}), DEVICE)


def _names_device(device: Any) -> bool:
    return (
        device is not None
        and not isinstance(device, int)
        and (torch.device(device).type == DEVICE.type)
    )


def _moved(tensor: Tensor, device: Any = None, dtype: Any = None, *, copy: bool = False) -> Tensor:
    """What ``Tensor.to`` does."""
    if device is None or torch.device(device).type == tensor.device.type:
        if dtype is None or dtype == tensor.dtype:
            return tensor.clone() if copy else tensor
        return aten._to_copy.default(tensor, dtype=dtype)
    return aten._to_copy.default(tensor, dtype=dtype, device=torch.device(device))


def _to(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    device, dtype = kwargs.get("device"), kwargs.get("dtype")
    copy = kwargs.get("copy", False)
    for given in (*args, kwargs.get("other")):
        if isinstance(given, Tensor):
            device, dtype = given.device, given.dtype
        elif isinstance(given, torch.dtype):
            dtype = given
        elif isinstance(given, (torch.device, str)):
            device = given
    return _moved(tensor, device, dtype, copy=copy)


def _numpy(tensor: Tensor, **kwargs: Any) -> Any:
    if isinstance(tensor, DeviceTensor):
        raise TypeError("can't convert a tensor of a device to numpy: copy it to the host first.")
    return torch.Tensor.numpy(tensor, **kwargs)


def _set_data(tensor: Tensor, data: Tensor) -> None:
    """Parameters stay the same objects when their module is moved."""
    if type(tensor.data) is type(data) is torch.Tensor:
        torch.Tensor.data.__set__(tensor, data)  # type: ignore[attr-defined]
        return
    new = torch.Tensor.detach(data).requires_grad_(tensor.requires_grad)
    if isinstance(tensor, torch.nn.Parameter):
        new = torch.nn.Parameter(new, tensor.requires_grad)
    torch.utils.swap_tensors(tensor, new)


SPECIAL: dict[Any, Callable[..., Any]] = {
    torch.Tensor.to: _to,
    torch.Tensor.cuda: lambda tensor, *args, **kwargs: _moved(tensor, DEVICE),
    torch.Tensor.cpu: lambda tensor, *args, **kwargs: _moved(tensor, HERE),
    torch.Tensor.tolist: lambda tensor: torch.Tensor.tolist(_moved(tensor, HERE)),
    torch.Tensor.numpy: _numpy,
    torch.Tensor.data.__set__: _set_data,  # type: ignore[attr-defined]
}


class _Generator(torch.Generator):
    """A generator that may say it is the pretended device's."""

    on_device: bool

    def __new__(cls, device: Any = HERE) -> _Generator:
        made = super().__new__(cls)
        made.on_device = _names_device(device)
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return DEVICE if self.on_device else HERE


def _synchronize(device: Any = None) -> None:
    """Nothing waits to be done."""


@contextmanager
def pretended_device() -> Iterator[torch.device]:
    """Pretend that there is a GPU.

    Inside the block tensors can be made on ``cuda:0`` and moved there. They lie in the host's
    memory and have the values that they would have on the CPU, but an operation that mixes them
    with tensors of the host raises as it does on a GPU. Autograd, optimizers and generators work.

    Yields:
        The device.

    Example:
        >>> with pretended_device() as device:
        ...     x = torch.ones(2, device=device)
        ...     print((2 * x).device, x.sum().item())
        ...     x + torch.ones(2)
        Traceback (most recent call last):
        ...
        RuntimeError: aten.add.Tensor: expected all tensors to be on the same device...
    """
    operations = _Operations()
    # Its generator is the host's: what is drawn is what the CPU draws.
    cuda: dict[str, Any] = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "get_device_name": lambda device=None: "pretended device",
        "get_rng_state": lambda device=DEVICE: torch.random.get_rng_state(),
        "set_rng_state": lambda state, device=DEVICE: torch.random.set_rng_state(state),
        "is_current_stream_capturing": lambda: False,
        "synchronize": _synchronize,
        "mem_get_info": lambda device=None: (MEMORY, MEMORY),
    }
    with (
        mock.patch.object(torch, "Generator", _Generator),
        mock.patch.multiple(torch.cuda, **cuda),
        # Optimizers ask it for its stream, which only a driver has.
        mock.patch.object(torch.accelerator, "current_accelerator", return_value=None),
        operations,
        _Calls(operations),
    ):
        yield DEVICE
