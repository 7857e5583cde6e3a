"""Games with information worth bounding: strategies of what agents do who coordinate.

Policies drawn at random hardly depend on the latent, so their mutual information is next to nothing
and a bound that is wrong by a factor goes unnoticed. Here every agent follows the latent, all but
for a drawn amount of noise. As everywhere in this package games are made of small integers, so that
a falsifying one shrinks to something readable.

Shapes: ``N`` agents, ``A`` action, ``Z`` latent.
"""

from __future__ import annotations

import torch
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from torch import Tensor
from torch.nn.functional import one_hot

from vm3ac_modules.testing.oracles import Game, LinearGaussianGame
from vm3ac_modules.testing.strategies import linear_gaussian_games, tabular_games, tensors
from vm3ac_modules.testing.tabular import TabularGame

__all__ = ["coordinated_gaussian_games", "coordinated_tabular_games", "default_games"]

# Shares of noise in a policy. exp(-5) loses most where log q is clamped at -4; 1/256 is beside it.
_NOISE = (0.0, 1 / 256, 1 / 64, 1 / 16, 1 / 4, 1 / 2)
# How often an agent's own noise is halved, over all directions: about log 2 nats each.
_HALVINGS = 6


@st.composite
def coordinated_tabular_games(
    draw: DrawFn, *, num_agents: int | None = None, max_actions: int = 6, max_latents: int = 6
) -> TabularGame:
    r"""Draw tabular games whose agents do what the latent says, but for some noise.

    .. math:: \pi_i(a|z) = (1 - \epsilon_i) [a = f_i(z)] + \epsilon_i\, r_i(a)

    with a drawn map f, law of the noise r (which may leave actions out) and share of it: 0, 1/256,
    1/64, 1/16, 1/4 or 1/2.

    Args:
        draw: given by hypothesis.
        num_agents: number of agents N; None draws 2 to 4.
        max_actions: largest number of actions of an agent; agents may differ.
        max_latents: largest number of outcomes of the latent.

    Returns:
        A strategy of games.

    Example:
        >>> from hypothesis import find
        >>> from vm3ac_modules.testing import coordinated_tabular_games
        >>> game = find(coordinated_tabular_games(), lambda g: g.mutual_information(0, 1) > 0.6)
        >>> game.joint(0, 1).tolist()
        [[0.5, 0.0], [0.0, 0.5]]
    """
    agents = draw(st.integers(2, 4)) if num_agents is None else num_agents
    # One in three has as much information as its number of actions allows, but for little noise.
    close = draw(st.sampled_from((False, False, True)))
    # The largest ones often: only they have room for much.
    actions = draw(st.sampled_from((*range(2, max_actions + 1), max_actions, max_actions)))
    outcomes = min(actions, max_latents) if close else draw(st.integers(2, max_latents))

    def listed(least: int, most: int, length: int, longest: int) -> Tensor:
        # As many are drawn whatever the length, so that it shrinks by itself.
        entries = st.lists(st.integers(least, most), min_size=longest, max_size=longest)
        return torch.tensor(draw(entries)[:length])

    latent = torch.ones(outcomes)
    if not close and draw(st.booleans()):
        latent = listed(1, 4, outcomes, max_latents)
    policies = []
    for _ in range(agents):
        other_size = not close and draw(st.booleans())
        size = draw(st.integers(2, max_actions)) if other_size else actions
        # In order, different outcomes ask for different actions, as far as there are enough.
        asked = torch.arange(outcomes) % size
        if not close and draw(st.booleans()):
            asked = listed(0, max_actions - 1, outcomes, max_latents) % size
        policy = one_hot(asked, size).to(torch.float64)
        share = draw(st.sampled_from(_NOISE[:2] if close else _NOISE))
        if share:
            noise = listed(0, 16, size, max_actions).to(torch.float64)
            noise[0] = noise[0].clamp(min=1.0)
            policy = (1.0 - share) * policy + share * noise / noise.sum()
        policies.append(policy)
    latent = latent.to(torch.float64)
    return TabularGame(latent / latent.sum(), tuple(policies))


@st.composite
def coordinated_gaussian_games(
    draw: DrawFn, *, num_agents: int | None = None, max_dim: int = 4
) -> LinearGaussianGame:
    """Draw linear-Gaussian games whose agents' own noise is small beside the latent.

    Args:
        draw: given by hypothesis.
        num_agents: number of agents N; None draws 2 to 4.
        max_dim: largest size of an action or of the latent.

    Returns:
        A strategy of games.

    Example:
        >>> from hypothesis import find
        >>> from vm3ac_modules.testing import coordinated_gaussian_games
        >>> find(coordinated_gaussian_games(), lambda game: True).weights.shape
        torch.Size([2, 1, 1])
    """
    agents = draw(st.integers(2, 4)) if num_agents is None else num_agents
    game = draw(linear_gaussian_games(num_agents=agents, max_dim=max_dim))
    size, latent_dim = game.weights.shape[1:]
    # The same directions of the latent for everyone, and what each makes of them by itself.
    shared = draw(tensors(size, latent_dim, limit=1.0))
    halvings = draw(st.integers(0, _HALVINGS // min(size, latent_dim)))
    weights, noise = shared + 0.25 * game.weights, 0.25**halvings * game.noise
    # Around zero every other time: some mistakes only show there, others only elsewhere.
    offset = game.offset * draw(st.booleans())
    return LinearGaussianGame(weights, offset, noise, game.latent)


def default_games() -> list[SearchStrategy[Game]]:
    """Strategies of every kind of game: what :func:`assert_valid_lower_bound` searches by default.

    Returns:
        Coordinated tabular games, coordinated linear-Gaussian ones, and both kinds drawn at random.
        :func:`~vm3ac_modules.testing.covered_information` tells what they cover.

    Example:
        >>> len(default_games())
        3
    """
    at_random = st.one_of(tabular_games(allow_zeros=True), linear_gaussian_games())
    return [coordinated_tabular_games(), coordinated_gaussian_games(), at_random]
