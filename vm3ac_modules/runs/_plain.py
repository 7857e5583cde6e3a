"""Check that a checkpoint holds plain values and tensors alone, which load without running code."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch

_PLAIN = (str, bool, int, float, type(None), torch.Size, torch.dtype, torch.device)
_TENSORS = (torch.Tensor, torch.nn.Parameter)


def check_plain(value: Any, where: str) -> None:
    """Refuse what ``torch.load(weights_only=True)`` would refuse, by its place."""
    # Exact types: subclasses (memory maps, NumPy scalars) are what weights_only refuses.
    if type(value) in (dict, OrderedDict):
        for key, item in value.items():
            check_plain(key, f"the key {key!r} of {where}")
            check_plain(item, f"{where}[{key!r}]")
    elif type(value) in (list, tuple):
        for index, item in enumerate(value):
            check_plain(item, f"{where}[{index}]")
    elif type(value) not in (*_PLAIN, *_TENSORS):
        raise TypeError(
            f"{where} is a {type(value).__name__}; a checkpoint holds dicts, lists and tuples of "
            "tensors and plain Python values only, so that it loads with weights_only=True."
        )
