r"""FOP's critic: every agent's action values from its observation, mixed into those of the team.

Shapes: ``*B`` batch, ``N`` agents, ``A`` actions, ``K`` critics. Source: Zhang et al. 2021, "FOP:
Factorizing Optimal Joint Policy of Maximum-Entropy Multi-Agent Reinforcement Learning", ICML.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vm3ac_modules.nn.blocks import AgentMLP
from vm3ac_modules.nn.mixers import FOPMixer

__all__ = ["FactorizedCritic"]


class FactorizedCritic(nn.Module):
    r"""Individual action values of K critics, and the mixers that make them one value.

    The individual critics are feed-forward and see one observation and the agent's index; neither
    they nor the mixers see a latent.

    Args:
        obs_dim: size O of an observation.
        num_actions: number of actions A.
        num_agents: number of agents N.
        mixer: the mixer; its ``num_critics`` is K.
        hidden: widths of the individual critics' hidden layers.
        share_params: one set of weights for all agents.

    Example:
        >>> critic = FactorizedCritic(4, 5, 3, FOPMixer(7, num_agents=3, num_actions=5))
        >>> critic.individual(torch.zeros(6, 3, 4)).shape
        torch.Size([6, 2, 3, 5])
    """

    identity: Tensor

    def __init__(
        self,
        obs_dim: int,
        num_actions: int,
        num_agents: int,
        mixer: FOPMixer,
        *,
        hidden: Sequence[int] = (64, 64),
        share_params: bool = True,
    ) -> None:
        super().__init__()
        self.num_actions = num_actions
        self.mixer = mixer
        self.register_buffer("identity", torch.eye(num_agents))
        self.values = AgentMLP(
            obs_dim + num_agents,
            num_actions,
            num_agents,
            hidden=hidden,
            share_params=share_params,
            stack_shape=(mixer.num_critics,),
        )

    def individual(self, observation: Tensor) -> Tensor:
        """Action values of every agent by every critic.

        Args:
            observation: ``[*B, N, O]``.

        Returns:
            ``[*B, K, N, A]``.
        """
        index = self.identity.expand(*observation.shape[:-1], -1)
        x = torch.cat((observation, index), dim=-1)
        copies = x.unsqueeze(0).expand(self.mixer.num_critics, *x.shape)
        return self.values(copies).movedim(0, -3)

    def joint(self, values: Tensor, soft: Tensor, state: Tensor, action: Tensor) -> Tensor:
        """Value of the team for a joint action.

        Args:
            values: what :meth:`individual` returned, ``[*B, K, N, A]``.
            soft: soft values of the agents, ``[*B, K, N]``.
            state: ``[*B, S]``.
            action: int64 ``[*B, N]``.

        Returns:
            ``[*B, K]``.
        """
        index = action[..., None, :, None].expand(*values.shape[:-1], 1)
        chosen = values.gather(-1, index).squeeze(-1)
        one_hot = nn.functional.one_hot(action, self.num_actions).to(values.dtype)
        total: Tensor = self.mixer(chosen, soft, state, one_hot)
        return total

    def deviations(self, values: Tensor, soft: Tensor, state: Tensor, action: Tensor) -> Tensor:
        """Values of the team where one agent alone does something else.

        Args:
            values: what :meth:`individual` returned, ``[*B, K, N, A]``.
            soft: soft values of the agents, ``[*B, K, N]``.
            state: ``[*B, S]``.
            action: what the others do, int64 ``[*B, N]``.

        Returns:
            ``[*B, K, N, A]``: entry ``[i, a]`` is :meth:`joint` of ``action``, but a for agent i.
        """
        num_agents, num_actions = values.shape[-2:]
        own = torch.eye(num_agents, dtype=torch.bool, device=action.device).unsqueeze(1)
        number = torch.arange(num_actions, device=action.device).unsqueeze(-1)
        # Own agent, own action, everyone's action: [*B, N, A, N], in one dimension of all cases.
        joint = torch.where(own, number, action[..., None, None, :]).flatten(-3, -2)

        def cases(x: Tensor, dims: int) -> Tensor:
            return x.unsqueeze(-dims - 1).expand(
                *x.shape[:-dims], joint.shape[-2], *x.shape[-dims:]
            )

        found = self.joint(cases(values, 3), cases(soft, 2), cases(state, 1), joint)
        return found.movedim(-2, -1).unflatten(-1, (num_agents, num_actions))
