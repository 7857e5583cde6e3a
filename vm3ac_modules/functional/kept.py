"""Constants of hot paths: made once, kept, and never a stand-in for a tensor."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import torch
from torch import Tensor

__all__ = ["kept"]

_Arguments = ParamSpec("_Arguments")
_MOST = 64


def kept(make: Callable[_Arguments, Tensor]) -> Callable[_Arguments, Tensor]:
    """Keep the constants that a function makes, one for each choice of its arguments.

    While a program is compiled, and wherever new tensors are stand-ins (fake tensors of a tracer),
    the constant is made anew: a stand-in is useless to whoever calls later, and so is a real tensor
    among stand-ins. Callers share what is kept: it is not for writing, nor for handing out.

    Args:
        make: of positional, hashable arguments, the device among them if there is a choice.

    Returns:
        The same function, which remembers.

    Example:
        >>> ones = kept(lambda size: torch.ones(size))
        >>> ones(3) is ones(3)
        True
    """
    found: dict[object, Tensor] = {}

    @wraps(make)
    def get(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> Tensor:
        if torch.compiler.is_compiling() or type(torch.empty(0, device="cpu")) is not Tensor:
            return make(*args, **kwargs)
        if args not in found:
            if len(found) >= _MOST:
                found.clear()
            # An inference tensor must not get in here: autograd could not save it later.
            with torch.inference_mode(False):
                found[args] = make(*args, **kwargs)
        return found[args]

    return get
