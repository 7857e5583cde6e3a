r"""Recurrent policies over discrete actions as tensordict modules, one step at a time.

Shapes: ``*B`` rows, ``N`` agents, ``O`` observation, ``A`` actions, ``H`` memory, ``Z`` latent.
Losses unroll the same network over whole episodes; see :mod:`vm3ac_modules.objectives.episodic`.

Source: Kim et al. 2023, arXiv:2303.00451, Appendix G.
"""

from __future__ import annotations

from typing import Self

import torch
from tensordict import TensorDictBase
from tensordict.nn import (
    InteractionType,
    ProbabilisticTensorDictModule,
    TensorDictModule,
    TensorDictModuleBase,
    TensorDictSequential,
)
from torch import Tensor, nn
from torch.distributions import Categorical
from torchrl.data import Composite, Unbounded
from torchrl.envs import TensorDictPrimer

from vm3ac_modules.functional.categorical import epsilon_floor, masked_log_softmax
from vm3ac_modules.keys import Keys, require_keys
from vm3ac_modules.modules.latent import LatentSampler
from vm3ac_modules.nn.recurrent import RecurrentNet, one_hot_or_zeros

__all__ = ["RecurrentActor", "make_recurrent_policy", "playing_sequence"]


class RecurrentActor(TensorDictModuleBase):
    r"""One step of a recurrent policy: log-probabilities of legal actions, and the next memory.

    .. math:: \pi_\epsilon(a | \tau_i, z) = (1 - \epsilon)\,\mathrm{softmax}_{\mathrm{legal}}
        (\ell(\tau_i, z))_a + \epsilon / |A_{\mathrm{legal}}|

    Memory and previous action follow TorchRL's convention for recurrent policies: the actor reads
    them at the root and writes them under ``"next"``. :meth:`make_primer` makes the transform that
    sets them at a reset.

    Args:
        net: the network, a :class:`~vm3ac_modules.nn.RecurrentPolicyNet` or one with its methods.
        keys: the tensordict vocabulary.
        greedy: leave the exploration floor out, as in evaluation.

    Raises:
        MissingKeysError: in ``forward``, the tensordict lacks an entry of ``in_keys``.

    Example:
        >>> from tensordict import TensorDict
        >>> from vm3ac_modules.nn import RecurrentPolicyNet
        >>> actor = RecurrentActor(RecurrentPolicyNet(4, 5, num_agents=2))
        >>> agents = {"observation": torch.zeros(6, 2, 4), "hidden": torch.zeros(6, 2, 64),
        ...           "action_mask": torch.ones(6, 2, 5, dtype=torch.bool),
        ...           "last_action": -torch.ones(6, 2, dtype=torch.long)}
        >>> actor(TensorDict({"agents": agents}, [6]))["agents", "logits"].shape
        torch.Size([6, 2, 5])
    """

    epsilon: Tensor

    def __init__(
        self, net: RecurrentNet, *, keys: Keys | None = None, greedy: bool = False
    ) -> None:
        super().__init__()
        self.net, self.greedy = net, greedy
        self.keys = keys = Keys() if keys is None else keys
        self.register_buffer("epsilon", torch.zeros(()))
        latent = [keys.latent] if net.latent_dim else []
        carried = [keys.hidden, keys.last_action]
        self.in_keys = [keys.observation, keys.action_mask, *carried, *latent]
        self.out_keys = [keys.logits, ("next", *keys.hidden)]

    @property
    def num_agents(self) -> int:
        """Number of agents N."""
        return len(self.net.identity)

    def without_floor(self) -> Self:
        """The same network without exploration."""
        return type(self)(self.net, keys=self.keys, greedy=True)

    def explore(self, log_prob: Tensor) -> Tensor:
        """Add exploration to a policy: here the floor above, unless ``greedy``.

        Args:
            log_prob: log-softmax over legal actions of the scores (nats), ``[*B, A]``.

        Returns:
            Log-probabilities (nats), ``[*B, A]``.
        """
        return log_prob if self.greedy else epsilon_floor(log_prob, self.epsilon)

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write log-probabilities and the next memory.

        Args:
            tensordict: holds the entries of ``in_keys``, ``[*B]``.

        Returns:
            The same tensordict.
        """
        keys, net = self.keys, self.net
        require_keys(tensordict, self.in_keys, type(self).__name__)
        observation = tensordict.get(keys.observation)
        latent = tensordict.get(keys.latent) if net.latent_dim else None
        per_agent = latent is not None and latent.ndim == observation.ndim
        last = tensordict.get(keys.last_action)
        last = one_hot_or_zeros(last, net.num_actions, observation.dtype)
        along = (-2,) if latent is None or not per_agent else (-3,)
        memory, _ = net.unroll(
            observation.unsqueeze(-3),
            last.unsqueeze(-3),
            None if latent is None else latent.unsqueeze(*along),
            tensordict.get(keys.hidden),
            per_agent=per_agent,
        )
        memory = memory.squeeze(-3)
        mask = tensordict.get(keys.action_mask)
        tensordict.set(keys.logits, self.log_prob(memory, mask, latent, per_agent=per_agent))
        return tensordict.set(("next", *keys.hidden), memory)

    def log_prob(
        self,
        memory: Tensor,
        mask: Tensor,
        latent: Tensor | None = None,
        *,
        per_agent: bool = False,
    ) -> Tensor:
        """Log-probabilities of all actions, exploration included.

        Args:
            memory: ``[*B, N, H]``.
            mask: legal actions, bool ``[*B, N, A]``.
            latent: broadcastable to ``[*L, *B, Z]``; None without one.
            per_agent: every agent has a latent of its own, ``[*L, *B, N, Z]``.

        Returns:
            ``[*L, *B, N, A]``, nats.
        """
        scores = self.net.score(memory, latent, per_agent=per_agent)
        return self.explore(masked_log_softmax(scores, mask.expand(scores.shape)))

    def make_primer(self) -> TensorDictPrimer:
        """The transform that writes an empty memory and no previous action at every reset.

        Returns:
            A ``TensorDictPrimer`` for an environment whose rows are its batch.
        """
        size = (self.num_agents,)
        keys = self.keys
        specs = Composite(
            {
                keys.group: Composite(
                    {
                        keys.hidden[-1]: Unbounded((*size, self.net.hidden_size)),
                        keys.last_action[-1]: Unbounded(size, dtype=torch.int64),
                    },
                    shape=size,
                )
            }
        )
        start = {keys.group: {keys.hidden[-1]: 0.0, keys.last_action[-1]: -1}}
        return TensorDictPrimer(specs, default_value=start, expand_specs=True)


def make_recurrent_policy(
    actor: RecurrentActor, sampler: LatentSampler | None = None
) -> TensorDictSequential:
    """The policy to collect with: latent, log-probabilities, an action, and its memory of it.

    The action is drawn, or the most probable one under TorchRL's deterministic exploration type.

    Args:
        actor: the actor; with a latent it needs a sampler.
        sampler: writes the latent.

    Returns:
        The sequence.

    Raises:
        ValueError: if the actor reads a latent and there is no sampler, or the other way round.

    Example:
        >>> from vm3ac_modules.nn import RecurrentPolicyNet
        >>> actor = RecurrentActor(RecurrentPolicyNet(4, 5, num_agents=2))
        >>> make_recurrent_policy(actor).out_keys[-1]
        ('next', 'agents', 'last_action')
    """
    if (sampler is not None) != bool(actor.net.latent_dim):
        raise ValueError(
            f"the actor reads a latent of size {actor.net.latent_dim}, but the sampler is "
            f"{'missing' if sampler is None else 'given'}."
        )
    return playing_sequence(actor, *([] if sampler is None else [sampler]))


def playing_sequence(actor: RecurrentActor, *before: TensorDictModuleBase) -> TensorDictSequential:
    """A recurrent actor with the draw of its action and the memory of it.

    Args:
        actor: the actor.
        before: what runs before it.

    Returns:
        The sequence; under TorchRL's deterministic exploration type the most probable action is
        taken.

    Example:
        >>> from vm3ac_modules.nn import RecurrentPolicyNet
        >>> len(playing_sequence(RecurrentActor(RecurrentPolicyNet(4, 5, num_agents=2))))
        3
    """
    keys = actor.keys
    draw = ProbabilisticTensorDictModule(
        in_keys={"logits": keys.logits},
        out_keys=[keys.action],
        distribution_class=Categorical,
        distribution_kwargs={"validate_args": False},
        default_interaction_type=InteractionType.RANDOM,
    )
    remember = TensorDictModule(
        nn.Identity(), in_keys=[keys.action], out_keys=[("next", *keys.last_action)]
    )
    return TensorDictSequential(*before, actor, draw, remember)
