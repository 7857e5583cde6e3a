r"""One agent of a team as a module of its own, in a form that ``torch.export`` can trace.

Shapes: ``R`` rows, ``O`` observation, ``Z`` latent, ``A`` action components (or actions), ``H``
memory. There is no dimension of agents: the weights of one agent are cut out of the team's.

Source: Kim et al. 2023, arXiv:2303.00451, Section 5 (decentralized execution) and Appendix H.
"""

from __future__ import annotations

import copy
from typing import Any, TypeVar, cast

from torch import Tensor, nn

from vm3ac_modules.execution.export.latent_source import LatentSource
from vm3ac_modules.functional.categorical import masked_log_softmax
from vm3ac_modules.nn import DeterministicNet, LatentGaussianNet
from vm3ac_modules.nn.blocks import AgentLinear
from vm3ac_modules.nn.recurrent import RecurrentNet, one_hot_or_zeros

__all__ = ["FeedForwardAgent", "RecurrentAgent", "cut_out_agent"]

_Net = TypeVar("_Net", bound=nn.Module)


def cut_out_agent(net: _Net, agent: int, num_agents: int) -> _Net:
    """Copy the network of one agent out of the team's.

    Args:
        net: a policy network of :mod:`vm3ac_modules.nn`, own weights per agent or shared ones.
        agent: which agent, from 0.
        num_agents: number of agents N of the team.

    Returns:
        The same kind of network for a single agent, with its own parameters.

    Raises:
        ValueError: if there is no such agent, or the network holds several seeds.

    Example:
        >>> net = LatentGaussianNet(6, 2, 3, num_agents=4)
        >>> alone = cut_out_agent(net, 1, 4)
        >>> observation, latent = torch.randn(5, 4, 6), torch.randn(5, 2)
        >>> team, own = net(observation, latent)[0], alone(observation[:, 1:2], latent)[0]
        >>> bool(torch.allclose(team[:, 1], own[:, 0], atol=1e-6))
        True
    """
    if not 0 <= agent < num_agents:
        raise ValueError(f"there is no agent {agent} in a team of {num_agents}.")
    alone = copy.deepcopy(net)
    for module in alone.modules():
        if isinstance(module, AgentLinear):
            _cut(module, "weight", agent, num_agents)
            _cut(module, "bias", agent, num_agents)
        if hasattr(module, "num_agents"):
            cast("Any", module).num_agents = 1
        for name in ("identity", "center", "half_range"):
            # One row per agent; what tells agents of shared weights apart is among them.
            if name in module._buffers:
                module.register_buffer(name, getattr(module, name)[agent : agent + 1].clone())
    return alone.requires_grad_(False).eval()


def _cut(layer: AgentLinear, name: str, agent: int, num_agents: int) -> None:
    value = getattr(layer, name)
    if value is None:
        return
    if value.ndim != 3:
        raise ValueError(
            "the network holds several seeds at once: load one seed's run directory instead."
        )
    if len(value) == num_agents:
        value = value[agent : agent + 1]
    setattr(layer, name, nn.Parameter(value.detach().clone()))


class FeedForwardAgent(nn.Module):
    r"""A single agent's continuous policy: the action at the mean, and the Gaussian around it.

    .. math:: a = c + h \tanh(\mu), \qquad (\mu, \sigma) = f(o, z)

    Args:
        net: the agent's network, see :func:`cut_out_agent`.
        source: where its latent comes from.
        low: lowest action ``[A]``; not read by a :class:`~vm3ac_modules.nn.DeterministicNet`.
        high: highest action ``[A]``.

    Example:
        >>> net = cut_out_agent(LatentGaussianNet(6, 2, 3, num_agents=4), 0, 4)
        >>> from vm3ac_modules.priors import GaussianPrior
        >>> source = LatentSource("mean", GaussianPrior(2))
        >>> agent = FeedForwardAgent(net, source, -torch.ones(3), torch.ones(3))
        >>> agent.outputs
        ('action', 'loc', 'scale', 'used_latent')
        >>> agent(torch.zeros(5, 6))[0].shape
        torch.Size([5, 3])
    """

    center: Tensor
    half_range: Tensor

    def __init__(
        self,
        net: LatentGaussianNet | DeterministicNet,
        source: LatentSource,
        low: Tensor,
        high: Tensor,
    ) -> None:
        super().__init__()
        self.net, self.source = net, source
        self.register_buffer("center", 0.5 * (low + high), persistent=False)
        self.register_buffer("half_range", 0.5 * (high - low), persistent=False)
        self.inputs = ("observation", *source.inputs)
        gaussian = () if isinstance(net, DeterministicNet) else ("loc", "scale")
        self.outputs = ("action", *gaussian, *source.outputs)

    def forward(self, observation: Tensor, *clock: Tensor) -> tuple[Tensor, ...]:
        """Act.

        Args:
            observation: ``[R, O]``.
            clock: what the latent's source reads.

        Returns:
            A tensor per name of ``outputs``: action ``[R, A]``, loc and scale before squashing
            ``[R, A]``, latent ``[R, Z]``.
        """
        latent = self.source(observation.shape[0], *clock)
        if isinstance(self.net, DeterministicNet):
            return (self.net(observation.unsqueeze(1)).squeeze(1),)
        loc, scale = (out.squeeze(1) for out in self.net(observation.unsqueeze(1), latent))
        action = self.center + self.half_range * loc.tanh()
        return (action, loc, scale, *self.source.written(latent))


class RecurrentAgent(nn.Module):
    r"""A single agent's recurrent policy over discrete actions: the most probable legal one.

    .. math:: a = \arg\max_{\mathrm{legal}} \ell(\tau_i, z)

    Its memory and its previous action go in and come out: the program itself keeps nothing.

    Args:
        net: the agent's network, see :func:`cut_out_agent`.
        source: where its latent comes from.

    Example:
        >>> net = cut_out_agent(RecurrentPolicyNet(4, 5, num_agents=2), 0, 2)
        >>> agent = RecurrentAgent(net, LatentSource("none", None))
        >>> legal, memory = torch.ones(3, 5, dtype=torch.bool), torch.zeros(3, 64)
        >>> start = torch.full((3,), -1)
        >>> [out.shape for out in agent(torch.zeros(3, 4), legal, memory, start)]
        [torch.Size([3]), torch.Size([3, 5]), torch.Size([3, 64])]
    """

    def __init__(self, net: RecurrentNet, source: LatentSource) -> None:
        super().__init__()
        self.net, self.source = net, source
        self.inputs = ("observation", "action_mask", "hidden", "last_action", *source.inputs)
        self.outputs = ("action", "logits", "next_hidden", *source.outputs)

    def forward(
        self,
        observation: Tensor,
        action_mask: Tensor,
        hidden: Tensor,
        last_action: Tensor,
        *clock: Tensor,
    ) -> tuple[Tensor, ...]:
        """Act and remember.

        Args:
            observation: ``[R, O]``.
            action_mask: legal actions, bool ``[R, A]``.
            hidden: the memory, ``[R, H]``; zeros at the start of an episode.
            last_action: the action of the step before, int64 ``[R]``; -1 at the start.
            clock: what the latent's source reads.

        Returns:
            A tensor per name of ``outputs``: action int64 ``[R]``, log-probabilities (nats; of
            utilities: of their softmax) ``[R, A]``, memory ``[R, H]``, latent ``[R, Z]``.
        """
        latent = self.source(observation.shape[0], *clock)
        last = one_hot_or_zeros(last_action, self.net.num_actions, observation.dtype)
        # One step of one agent.
        along: Any = (slice(None), None, None)
        memory, _ = self.net.unroll(
            observation[along],
            last[along],
            None if latent is None else latent.unsqueeze(1),
            hidden.unsqueeze(1),
        )
        memory = memory.squeeze(1)
        scores = self.net.score(memory, latent).squeeze(1)
        logits = masked_log_softmax(scores, action_mask)
        return (logits.argmax(-1), logits, memory.squeeze(1), *self.source.written(latent))
