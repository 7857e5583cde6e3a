r"""Epsilon-greedy play from recurrent utilities, one step at a time, for value-based MAVEN.

Shapes: ``*B`` rows, ``N`` agents, ``O`` observation, ``A`` actions, ``H`` memory, ``K`` outcomes of
the latent. Source: Mahajan et al. 2019, "MAVEN: Multi-Agent Variational Exploration",
arXiv:1910.07483.
"""

from __future__ import annotations

import torch
from tensordict.nn import TensorDictSequential
from torch import Tensor, nn

from vm3ac_modules.functional.categorical import ILLEGAL
from vm3ac_modules.modules.recurrent_actor import RecurrentActor, playing_sequence

__all__ = ["EpsilonGreedyActor", "epsilon_greedy", "make_utility_policy"]

LARGEST_EPSILON = 1.0 - 1e-4


def epsilon_greedy(log_prob: Tensor, epsilon: Tensor | float) -> Tensor:
    r"""The policy that is greedy but for a share of uniform choices.

    .. math:: \pi_\epsilon(a) = (1 - \epsilon)\, 1[a = \arg\max_b u_b]
        + \epsilon / |A_{\mathrm{legal}}|

    Args:
        log_prob: log-softmax over legal actions of the utilities u, ``[*B, A]``, as of
            :func:`~vm3ac_modules.functional.masked_log_softmax`.
        epsilon: share of the uniform policy in [0, 1]; 1 counts as 0.9999, so that the most
            probable action is the greedy one in every case.

    Returns:
        Log-probabilities (nats), ``[*B, A]``; those of probability 0 are
        :data:`~vm3ac_modules.functional.ILLEGAL`.

    Example:
        >>> epsilon_greedy(torch.tensor([-0.4, -1.1, -1e9]), 0.5).exp()
        tensor([0.7500, 0.2500, 0.0000])
    """
    legal = (log_prob > 0.5 * ILLEGAL).to(log_prob.dtype)
    share = torch.as_tensor(epsilon, dtype=log_prob.dtype, device=log_prob.device)
    share = share.clamp_max(LARGEST_EPSILON)
    greedy = nn.functional.one_hot(log_prob.argmax(-1), log_prob.shape[-1]).to(log_prob.dtype)
    probability = (1.0 - share) * greedy + share * legal / legal.sum(-1, keepdim=True)
    return torch.where(probability > 0.0, probability.log(), torch.full_like(log_prob, ILLEGAL))


class EpsilonGreedyActor(RecurrentActor):
    r"""One step of epsilon-greedy play: log-probabilities of legal actions, and the next memory.

    A :class:`~vm3ac_modules.modules.RecurrentActor` with another law of exploration,
    :func:`epsilon_greedy`. It reads the latent that
    :class:`~vm3ac_modules.envs.EpisodeLatent` wrote at the episode's reset.

    References:
        Mahajan et al. 2019, "MAVEN: Multi-Agent Variational Exploration", arXiv:1910.07483.

    Args:
        net: the network of utilities, a :class:`~vm3ac_modules.nn.LatentUtilityNet`.
        keys: the tensordict vocabulary.
        greedy: without exploration, as in evaluation.

    Raises:
        MissingKeysError: in ``forward``, the tensordict lacks an entry of ``in_keys``.

    Example:
        >>> from tensordict import TensorDict
        >>> from vm3ac_modules.nn import LatentUtilityNet
        >>> actor = EpsilonGreedyActor(LatentUtilityNet(4, 5, num_agents=2, latent_dim=3))
        >>> agents = {"observation": torch.zeros(6, 2, 4), "hidden": torch.zeros(6, 2, 64),
        ...           "action_mask": torch.ones(6, 2, 5, dtype=torch.bool),
        ...           "last_action": -torch.ones(6, 2, dtype=torch.long)}
        >>> td = TensorDict({"agents": agents, "latent": torch.eye(3)[[0] * 6]}, [6])
        >>> actor(td)["agents", "logits"].exp().sum(-1)[0]
        tensor([1., 1.])
    """

    @property
    def deterministic(self) -> bool:
        """Whether it always takes the greedy action, so that nothing is drawn."""
        return self.greedy

    def explore(self, log_prob: Tensor) -> Tensor:
        """The greedy action, or any with probability epsilon unless ``greedy``.

        Args:
            log_prob: log-softmax over legal actions of the utilities (nats), ``[*B, A]``.

        Returns:
            Log-probabilities (nats), ``[*B, A]``.
        """
        return epsilon_greedy(log_prob, 0.0 if self.greedy else self.epsilon)


def make_utility_policy(actor: EpsilonGreedyActor) -> TensorDictSequential:
    """Build the policy that collects: log-probabilities, an action, and its memory.

    The action is drawn, or the greedy one under TorchRL's deterministic exploration type. The
    latent is in the tensordict already: the environment draws it once per episode.

    Args:
        actor: the actor.

    Returns:
        The sequence.

    Example:
        >>> from vm3ac_modules.nn import LatentUtilityNet
        >>> actor = EpsilonGreedyActor(LatentUtilityNet(4, 5, num_agents=2, latent_dim=3))
        >>> make_utility_policy(actor).out_keys[-1]
        ('next', 'agents', 'last_action')
    """
    return playing_sequence(actor)
