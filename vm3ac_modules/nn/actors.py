r"""Policy networks: latent-conditioned Gaussian and categorical ones, and a deterministic one.

Shapes: ``*S`` stacked copies, ``*B`` batch, ``N`` agents, ``O`` observation, ``Z`` latent, ``A``
action. Source: Kim et al. 2023, arXiv:2303.00451, Section 5 and Table 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from vm3ac_modules.nn.blocks import AgentLinear, AgentMLP, agent_linear

__all__ = ["LOG_STD_RANGE", "DeterministicNet", "LatentCategoricalNet", "LatentGaussianNet"]

LOG_STD_RANGE = {"clamp": (-5.0, 2.0), "paper": (-20.0, 2.0)}
"""Range of the log standard deviation under each parametrization."""


class _LatentNet(nn.Module):
    """Features of every agent given (o_i, z): what the policies with a latent have in common.

    The first layer is kept as a sum of an observation part and a latent part (the same function as
    one layer over the concatenation), so heads for many latents share the observation's part.
    """

    broadcasts_latent = True
    """Extra batch dimensions of the latent broadcast against the observation's."""

    def __init__(
        self,
        obs_dim: int,
        latent_dim: int,
        outputs: int,
        num_agents: int,
        *,
        hidden: Sequence[int] = (128, 128),
        share_params: bool = False,
        latent_gain: float = 1.0,
        stack_shape: Sequence[int] = (),
    ) -> None:
        super().__init__()
        if latent_dim < 0:
            raise ValueError(f"latent_dim must not be negative, got {latent_dim}.")
        if not hidden:
            raise ValueError("the policy network needs at least one hidden layer.")
        self.obs_dim, self.latent_dim, self.num_agents = obs_dim, latent_dim, num_agents
        fan_in = obs_dim + latent_dim
        self.observation_layer = AgentLinear(
            obs_dim,
            hidden[0],
            num_agents,
            share_params=share_params,
            fan_in=fan_in,
            stack_shape=stack_shape,
        )
        self.latent_layer = AgentLinear(
            latent_dim,
            hidden[0],
            num_agents,
            share_params=share_params,
            bias=False,
            fan_in=fan_in,
            stack_shape=stack_shape,
        )
        self.trunk = AgentMLP(
            hidden[0],
            outputs,
            num_agents,
            hidden=hidden[1:],
            share_params=share_params,
            stack_shape=stack_shape,
        )
        with torch.no_grad():
            self.latent_layer.weight.mul_(latent_gain)

    def outputs(self, observation: Tensor, latent: Tensor | None) -> Tensor:
        """Run the network: ``[*S, *B, N, outputs]``; see the subclasses for shapes."""
        if self.latent_dim == 0:
            hidden = self.observation_layer(observation)
        else:
            if latent is None or latent.shape[-1] != self.latent_dim:
                raise ValueError(
                    f"the policy was built for a latent of {self.latent_dim} entries, got "
                    f"{None if latent is None else tuple(latent.shape)}."
                )
            if latent.ndim == observation.ndim - 1:
                latent = latent.unsqueeze(-2).expand(*latent.shape[:-1], self.num_agents, -1)
            if latent.shape[:-1] == observation.shape[:-1]:
                hidden = self._joint_layer(observation, latent)
            else:
                hidden = self.observation_layer(observation) + self.latent_layer(latent)
        out: Tensor = self.trunk(hidden.relu())
        return out

    def _joint_layer(self, observation: Tensor, latent: Tensor) -> Tensor:
        """The sum of both parts as one product, where nothing broadcasts."""
        own, other = self.observation_layer, self.latent_layer
        weight = torch.cat((own.weight, other.weight), dim=-2)
        return agent_linear(torch.cat((observation, latent), dim=-1), weight, own.bias)


class LatentGaussianNet(_LatentNet):
    r"""Pre-squash mean and standard deviation of every agent's action given (o_i, z).

    .. math:: \pi_i(\cdot|o_i, z): \quad (\mu_i, \log\sigma_i) = f_{\phi_i}(o_i, z)

    Args:
        obs_dim: size O of an agent's observation.
        latent_dim: size Z of the latent; 0 for a policy without one.
        action_dim: size A of an agent's action.
        num_agents: number of agents N >= 1.
        log_std: ``"clamp"``: clamp(x, -5, 2) with the last layer's bias at ``initial_log_std``;
            ``"paper"``: tanh-squashed linearly into [-20, 2], as in the reference SAC (starts at a
            standard deviation of 1e-4).
        initial_log_std: bias of the log standard deviation under ``"clamp"``.
        net_options: ``hidden``: widths of the hidden layers, at least one; ``share_params``: one
            network for all agents instead of one each; ``latent_gain``: factor on the latent's
            initial weights, 3 starts a policy inside the basin where the tight bound rewards
            coordination (docs/readings.md); ``stack_shape``: leading dimensions ``*S`` of
            independently initialized copies.

    Raises:
        ValueError: for a negative ``latent_dim``, no hidden layer, or an unknown ``log_std``.

    Example:
        >>> net = LatentGaussianNet(obs_dim=6, latent_dim=2, action_dim=3, num_agents=4)
        >>> loc, scale = net(torch.zeros(5, 4, 6), torch.zeros(5, 2))
        >>> loc.shape, scale.shape
        (torch.Size([5, 4, 3]), torch.Size([5, 4, 3]))
    """

    def __init__(
        self,
        obs_dim: int,
        latent_dim: int,
        action_dim: int,
        num_agents: int,
        *,
        log_std: Literal["clamp", "paper"] = "clamp",
        initial_log_std: float = -2.0,
        **net_options: Any,
    ) -> None:
        if log_std not in LOG_STD_RANGE:
            raise ValueError(f"log_std must be one of {sorted(LOG_STD_RANGE)}, got {log_std!r}.")
        super().__init__(obs_dim, latent_dim, 2 * action_dim, num_agents, **net_options)
        self.log_std, self.action_dim = log_std, action_dim
        if log_std == "clamp":
            with torch.no_grad():
                head = self.trunk.layers[-1]
                cast("Tensor", head.bias)[..., action_dim:] = initial_log_std

    def forward(self, observation: Tensor, latent: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Compute the parameters of every agent's pre-squash Gaussian.

        Args:
            observation: ``[*S, *B, N, O]``.
            latent: one for all agents, ``[*S, *B, Z]``, or one per agent, ``[*S, *B, N, Z]``. Its
                batch dimensions broadcast against the observation's: ``[B, 1, N, O]`` with
                ``[B, K, Z]`` gives K heads per observation. Ignored if ``latent_dim`` is 0.

        Returns:
            ``loc`` and ``scale``, each ``[*S, *B, N, A]``.

        Raises:
            ValueError: if the latent is missing, or does not have ``latent_dim`` entries.
        """
        loc, raw = self.outputs(observation, latent).chunk(2, dim=-1)
        low, high = LOG_STD_RANGE[self.log_std]
        if self.log_std == "clamp":
            return loc, raw.clamp(low, high).exp()
        return loc, (low + 0.5 * (high - low) * (raw.tanh() + 1.0)).exp()


class LatentCategoricalNet(_LatentNet):
    r"""Logits of every agent's discrete actions given (o_i, z).

    .. math:: \pi_i(\cdot|o_i, z) = \mathrm{softmax}\, f_{\phi_i}(o_i, z)

    Args:
        obs_dim: size O of an agent's observation.
        latent_dim: size Z of the latent; 0 for a policy without one.
        num_actions: number of actions A.
        num_agents: number of agents N >= 1.
        net_options: those of :class:`LatentGaussianNet`.

    Raises:
        ValueError: for a negative ``latent_dim`` or no hidden layer.

    Example:
        >>> net = LatentCategoricalNet(obs_dim=6, latent_dim=2, num_actions=3, num_agents=4)
        >>> net(torch.zeros(5, 4, 6), torch.zeros(5, 2)).shape
        torch.Size([5, 4, 3])
    """

    def __init__(
        self, obs_dim: int, latent_dim: int, num_actions: int, num_agents: int, **net_options: Any
    ) -> None:
        super().__init__(obs_dim, latent_dim, num_actions, num_agents, **net_options)
        self.num_actions = num_actions

    def forward(self, observation: Tensor, latent: Tensor | None = None) -> Tensor:
        """Compute logits.

        Args:
            observation: ``[*S, *B, N, O]``.
            latent: as of :meth:`LatentGaussianNet.forward`.

        Returns:
            ``[*S, *B, N, A]``.

        Raises:
            ValueError: if the latent is missing, or does not have ``latent_dim`` entries.
        """
        return self.outputs(observation, latent)


class DeterministicNet(nn.Module):
    r"""Every agent's action given its observation, squashed into its range.

    .. math:: a_i = c_i + h_i \tanh f_{\phi_i}(o_i)

    Args:
        obs_dim: size O of an agent's observation.
        low: lowest actions, ``[N, A]``.
        high: highest actions, ``[N, A]``.
        hidden: widths of the hidden layers.
        share_params: one network for all agents instead of one each.
        stack_shape: leading dimensions ``*S`` of independently initialized copies.

    Example:
        >>> net = DeterministicNet(6, -torch.ones(4, 3), torch.ones(4, 3))
        >>> net(torch.zeros(5, 4, 6)).shape
        torch.Size([5, 4, 3])
    """

    center: Tensor
    half_range: Tensor

    def __init__(
        self,
        obs_dim: int,
        low: Tensor,
        high: Tensor,
        *,
        hidden: Sequence[int] = (128, 128),
        share_params: bool = False,
        stack_shape: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.register_buffer("center", 0.5 * (low + high))
        self.register_buffer("half_range", 0.5 * (high - low))
        self.obs_dim, (self.num_agents, self.action_dim) = obs_dim, low.shape
        self.latent_dim = 0
        self.net = AgentMLP(
            obs_dim,
            self.action_dim,
            self.num_agents,
            hidden=hidden,
            share_params=share_params,
            stack_shape=stack_shape,
        )

    def forward(self, observation: Tensor) -> Tensor:
        """Map ``[*S, *B, N, O]`` to actions ``[*S, *B, N, A]``."""
        squashed: Tensor = self.net(observation).tanh()
        return self.center + self.half_range * squashed
