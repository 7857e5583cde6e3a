"""Noise on the actions that are collected.

Shapes: ``*B`` batch, ``N`` agents, ``A`` action. Source: Lowe et al. 2017, arXiv:1706.02275.
"""

from __future__ import annotations

import torch
from tensordict import TensorDictBase
from tensordict.utils import NestedKey
from torch import Tensor
from torchrl.data import Bounded
from torchrl.envs.utils import ExplorationType, exploration_type
from torchrl.modules import AdditiveGaussianModule

__all__ = ["GaussianNoise"]


class GaussianNoise(AdditiveGaussianModule):
    r"""Add Gaussian noise of a fixed scale to actions; the host never waits for the device.

    .. math:: a \leftarrow \mathrm{clip}(a + \sigma h \epsilon, c - h, c + h)

    It is TorchRL's ``AdditiveGaussianModule`` with a constant standard deviation. It acts under the
    exploration type RANDOM, or if none is set.

    Args:
        low: lowest action, :math:`c - h`, ``[N, A]``.
        high: highest action, :math:`c + h`, ``[N, A]``.
        sigma: standard deviation, in half ranges, >= 0.
        action_key: entry of the actions, ``[*B, N, A]``.

    Example:
        >>> from tensordict import TensorDict
        >>> noise = GaussianNoise(-torch.ones(2, 1), torch.ones(2, 1), 0.1, "action")
        >>> noise(TensorDict({"action": torch.ones(5, 2, 1)}, [5]))["action"].max() <= 1.0
        tensor(True)
    """

    low: Tensor
    high: Tensor

    def __init__(self, low: Tensor, high: Tensor, sigma: float, action_key: NestedKey) -> None:
        fixed = {"sigma_init": float(sigma), "sigma_end": float(sigma)}
        super().__init__(Bounded(low, high, low.shape), action_key=action_key, **fixed)
        self.register_buffer("low", low)
        self.register_buffer("high", high)

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Add noise to the actions.

        Args:
            tensordict: holds the actions, ``[*B]``; changed in place.
        """
        if exploration_type() in (None, ExplorationType.RANDOM):
            action = tensordict.get(self.action_key)
            spread = 0.5 * (self.high - self.low)
            # Draws in the order of the entries, however they lie in memory.
            normal = torch.randn(action.shape, dtype=action.dtype, device=action.device)
            noisy = action + normal * spread * self.sigma
            tensordict.set(self.action_key, noisy.clamp(self.low, self.high))
        return tensordict
