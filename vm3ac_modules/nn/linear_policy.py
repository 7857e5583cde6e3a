r"""The linear stochastic policies of the paper's toy example, and the covariance that z gives them.

Shapes: ``*B`` batch, ``N`` agents, ``O`` observation, ``A`` action, ``Z`` latent. Source: Kim et
al. 2023, arXiv:2303.00451, Appendix A.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["LinearLatentPolicy", "action_covariance"]


def action_covariance(first: Tensor, second: Tensor, latent_covariance: Tensor) -> Tensor:
    r"""Covariance of two agents' actions given the state, Eq. (18).

    .. math:: E[(a^1 - E a^1)(a^2 - E a^2)^T | s] = W^1 C_z (W^2)^T

    whatever the law of z and of the agents' own noise, as long as all three are independent.

    References:
        Kim et al. 2023, arXiv:2303.00451, Appendix A.

    Args:
        first: :math:`W^1`, ``[*B, A, Z]``.
        second: :math:`W^2`, ``[*B, A, Z]``.
        latent_covariance: :math:`C_z`, ``[Z, Z]``.

    Returns:
        ``[*B, A, A]``.

    Raises:
        ValueError: the last dimensions do not fit.

    Example:
        >>> from vm3ac_modules.nn.linear_policy import action_covariance
        >>> toward, away = torch.tensor([[1.0, 1.0]]), torch.tensor([[-1.0, -1.0]])
        >>> action_covariance(toward, away, torch.eye(2)).tolist()
        [[-2.0]]
    """
    shapes = [list(tensor.shape) for tensor in (first, second, latent_covariance)]
    if not shapes[0][-1:] == shapes[1][-1:] == shapes[2][-1:] == shapes[2][-2:-1]:
        raise ValueError(
            "action_covariance: needs weights [*B, A, Z] and a covariance [Z, Z], got "
            f"{shapes[0]}, {shapes[1]} and {shapes[2]}."
        )
    return first @ latent_covariance @ second.mT


class LinearLatentPolicy(nn.Module):
    r"""Actions that are linear in the own observation and in the shared latent, Eqs. (16), (17).

    .. math:: a_i = A\,o_i + W_i z + n_i, \qquad n_i \sim N(0, \sigma^2 I)

    The weights of the observation are fixed, :math:`W_i` is learned. The noise is drawn from the
    default generator at every call; in evaluation mode (``.eval()``) there is none.

    References:
        Kim et al. 2023, arXiv:2303.00451, Appendix A.

    Args:
        weights: the first :math:`W`, ``[N, A, Z]``; copied.
        observation_weights: :math:`A`, ``[A, O]``; by default the paper's
            ``[[0, 0], [0, 0.1]]``, by which agents go upward.
        noise_std: :math:`\sigma`; the paper gives no number.

    Raises:
        ValueError: weights are not ``[N, A, Z]``, the observation's weights do not fit them, or
            noise_std is negative.

    Example:
        >>> from vm3ac_modules.nn.linear_policy import LinearLatentPolicy
        >>> policy = LinearLatentPolicy(torch.zeros(2, 2, 2), noise_std=0.0)
        >>> policy(torch.ones(5, 2, 2), torch.zeros(5, 2))[0].tolist()
        [[0.0, 0.10000000149011612], [0.0, 0.10000000149011612]]

    See Also:
        :func:`action_covariance`.
    """

    observation_weights: Tensor

    def __init__(
        self,
        weights: Tensor,
        *,
        observation_weights: Tensor | None = None,
        noise_std: float = 0.0,
    ) -> None:
        super().__init__()
        if observation_weights is None:
            observation_weights = torch.tensor([[0.0, 0.0], [0.0, 0.1]])
        if weights.ndim != 3 or observation_weights.shape[:-1] != weights.shape[1:2]:
            raise ValueError(
                "LinearLatentPolicy: needs weights [N, A, Z] and observation_weights [A, O], got "
                f"{list(weights.shape)} and {list(observation_weights.shape)}."
            )
        if not noise_std >= 0:
            raise ValueError(f"LinearLatentPolicy: noise_std must be >= 0, got {noise_std}.")
        self.noise_std = noise_std
        self.weights = nn.Parameter(weights.detach().clone())
        self.register_buffer("observation_weights", observation_weights.to(weights).clone())

    def forward(self, observation: Tensor, latent: Tensor) -> Tensor:
        """Draw actions.

        Args:
            observation: ``[*B, N, O]``.
            latent: one z for all agents ``[*B, Z]``, or one for each ``[*B, N, Z]``.

        Returns:
            ``[*B, N, A]``, differentiable in ``weights``.
        """
        if latent.ndim < observation.ndim:
            latent = latent.unsqueeze(-2)
        action = observation @ self.observation_weights.mT
        action = action + (self.weights @ latent.unsqueeze(-1)).squeeze(-1)
        return action + self.noise_std * torch.randn_like(action) if self.training else action
