"""What BenchMARL's configuration of a model says of the networks here, or why it cannot."""

from __future__ import annotations

from typing import Any

from benchmarl.models import MlpConfig
from benchmarl.models.common import ModelConfig
from torch import nn

__all__ = ["hidden_widths"]


def hidden_widths(config: ModelConfig, whose: str, owner: str) -> list[int]:
    """Widths of the hidden layers of a multilayer perceptron with ReLU.

    The networks here are batched over agents, and over critics; they have ReLU between layers and
    no normalization. Another model is refused, since it would not be what runs.

    Args:
        config: BenchMARL's configuration of the model.
        whose: what the model is for, as BenchMARL's command line calls it.
        owner: name of the algorithm, for messages.

    Raises:
        ValueError: if it is no such perceptron; says what differs.
    """
    if type(config) is not MlpConfig:
        raise ValueError(
            f"{owner}: {whose} must be an MlpConfig (model=layers/mlp), got "
            f"{type(config).__name__}: the algorithm has networks of its own, of which BenchMARL "
            "chooses the widths."
        )
    wanted: dict[str, tuple[Any, ...]] = {
        "layer_class": (nn.Linear,),
        "activation_class": (nn.ReLU,),
        "activation_kwargs": (None, {}),
        "norm_class": (None,),
        "norm_kwargs": (None, {}),
        "num_feature_dims": (1,),
    }
    for name, allowed in wanted.items():
        value = getattr(config, name)
        if value not in allowed:
            first = allowed[0]
            said = f"torch.nn.{first.__name__}" if isinstance(first, type) else repr(first)
            shown = getattr(value, "__name__", repr(value))
            raise ValueError(
                f"{owner}: {whose}.{name} must be {said}, got {shown}: its networks are "
                "perceptrons with ReLU between linear layers."
            )
    cells = config.num_cells
    if isinstance(cells, int) or not cells:
        raise ValueError(
            f"{owner}: {whose}.num_cells must list the width of every hidden layer, got {cells!r}."
        )
    return [int(width) for width in cells]
