"""The target network's update in one fused call."""

from __future__ import annotations

import torch
from tensordict import TensorDictBase
from torchrl.objectives import SoftUpdate

__all__ = ["FusedSoftUpdate"]


class FusedSoftUpdate(SoftUpdate):
    r"""TorchRL's ``SoftUpdate`` as one fused call, faster where networks are small.

    .. math:: \bar\psi \leftarrow (1 - \tau) \bar\psi + \tau \psi

    Args:
        loss_module: a loss with target parameters.
        eps: share of the target that stays, 1 - tau.
        tau: share of the source that enters; give one of both.

    Example:
        >>> from torchrl.data import Bounded
        >>> import vm3ac_modules as vm
        >>> actor = vm.make_actor(4, 0, Bounded(-1.0, 1.0, (2, 1)))
        >>> loss = vm.MAACLoss(actor, vm.make_action_value(4, 1, 2), vm.make_state_value(4, 2))
        >>> FusedSoftUpdate(loss, tau=0.005).step()
    """

    @torch.no_grad()
    def _step(self, p_source: TensorDictBase, p_target: TensorDictBase) -> None:
        # Locked tensordicts keep the order in which both were selected, so the pairs match.
        sources = list(p_source.values(True, True))
        targets = [target.data for target in p_target.values(True, True)]
        torch._foreach_lerp_(targets, sources, 1.0 - self.eps)
