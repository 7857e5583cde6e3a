r"""One agent of a team as a module of its own, in a form that ``torch.export`` can trace.

Shapes: ``R`` rows, ``O`` observation, ``Z`` latent, ``A`` action components (or actions), ``H``
memory. There is no dimension of agents: the weights of one agent are cut out of the team's.

Source: Kim et al. 2023, arXiv:2303.00451, Section 5 (decentralized execution) and Appendix H.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, TypeVar, cast

from torch import Tensor, nn

from vm3ac_modules.execution.export._latent_source import LatentSource
from vm3ac_modules.functional.categorical import masked_log_softmax
from vm3ac_modules.nn import DeterministicNet, LatentGaussianNet
from vm3ac_modules.nn.blocks import AgentLinear
from vm3ac_modules.nn.recurrent import RecurrentNet, one_hot_or_zeros

_Net = TypeVar("_Net", bound=nn.Module)


def cut_out_agent(net: _Net, agent: int, num_agents: int) -> _Net:
    """Copy one agent's network out of the team's; refused for several seeds at once."""
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


class _Normalizer(nn.Module):
    """``(o - loc) / scale`` with the frozen statistics of the training, ``[O]`` each."""

    loc: Tensor
    scale: Tensor

    def __init__(self, loc: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("loc", loc.float())
        self.register_buffer("scale", scale.float())

    def forward(self, observation: Tensor) -> Tensor:
        """Normalize ``[R, O]``."""
        return (observation - self.loc) / self.scale


class FeedForwardAgent(nn.Module):
    r"""A single agent's continuous policy: the action at the mean, and the Gaussian around it.

    .. math:: a = c + h \tanh(\mu), \qquad (\mu, \sigma) = f(o, z)

    Actions lie between ``low`` and ``high``, ``[A]``; the latent comes from ``source``. The
    training's normalizers, ``(loc, scale)`` each, come before all.
    """

    center: Tensor
    half_range: Tensor

    def __init__(
        self,
        net: LatentGaussianNet | DeterministicNet,
        source: LatentSource,
        low: Tensor,
        high: Tensor,
        normalization: Sequence[tuple[Tensor, Tensor]] = (),
    ) -> None:
        super().__init__()
        self.net, self.source = net, source
        self.normalizers = nn.ModuleList(_Normalizer(*one) for one in normalization)
        self.register_buffer("center", 0.5 * (low + high), persistent=False)
        self.register_buffer("half_range", 0.5 * (high - low), persistent=False)
        self.inputs = ("observation", *source.inputs)
        gaussian = () if isinstance(net, DeterministicNet) else ("loc", "scale")
        self.outputs = ("action", *gaussian, *source.outputs)

    def forward(self, observation: Tensor, *clock: Tensor) -> tuple[Tensor, ...]:
        """A tensor per name of ``outputs``, from ``[R, O]`` and what the source reads."""
        latent = self.source(observation.shape[0], *clock)
        for normalize in self.normalizers:
            observation = normalize(observation)
        if isinstance(self.net, DeterministicNet):
            return (self.net(observation.unsqueeze(1)).squeeze(1),)
        loc, scale = (out.squeeze(1) for out in self.net(observation.unsqueeze(1), latent))
        action = self.center + self.half_range * loc.tanh()
        return (action, loc, scale, *self.source.written(latent))


class RecurrentAgent(nn.Module):
    r"""A single agent's recurrent policy over discrete actions: the most probable legal one.

    .. math:: a = \arg\max_{\mathrm{legal}} \ell(\tau_i, z)

    Its memory and its previous action go in and come out: the program itself keeps nothing.
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
        """Act and remember: a tensor per name of ``outputs``.

        ``[R, O]``, legal actions ``[R, A]``, memory ``[R, H]`` (zeros at the start of an episode),
        the action before ``[R]`` (-1 at the start) and what the latent's source reads go in.
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
