"""Hypothesis strategies: games, predictors and tensors in the shapes of this package.

Games and predictors are made of small integers, so that a falsifying example shrinks to something
readable (zero weights, uniform tables) and every matrix stays well conditioned. Large batches come
from one drawn seed.

Shapes: ``*B`` batch, ``N`` agents, ``A`` action, ``Z`` latent.
"""

from __future__ import annotations

import math

import torch
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from torch import Tensor

from vm3ac_modules.testing.oracles import LinearGaussianGame, LinearPredictor
from vm3ac_modules.testing.tabular import TabularGame

__all__ = [
    "conditional_tables",
    "linear_gaussian_games",
    "linear_predictors",
    "tabular_games",
    "tensor_batches",
    "tensors",
]

_GRID = 8
_LARGEST_WEIGHT = 16


@st.composite
def tensors(draw: DrawFn, *shape: int, limit: float = 2.0) -> Tensor:
    """Draw a small float64 tensor whose entries are multiples of 1/8 and shrink to zero.

    Args:
        draw: given by hypothesis.
        shape: its shape.
        limit: largest magnitude of an entry.

    Returns:
        A strategy of tensors of that shape.

    Example:
        >>> from hypothesis import find
        >>> from vm3ac_modules.testing import tensors
        >>> find(tensors(2), lambda x: x.sum() > 1.0).tolist()
        [0.0, 1.125]
    """
    count, bound = math.prod(shape), int(limit * _GRID)
    entries = draw(st.lists(st.integers(-bound, bound), min_size=count, max_size=count))
    return torch.tensor(entries, dtype=torch.float64).reshape(shape) / _GRID


@st.composite
def _covariances(draw: DrawFn, size: int) -> Tensor:
    # Eigenvalues between 1/4 and 1/4 + size^2.
    root = draw(tensors(size, size, limit=1.0))
    return 0.25 * torch.eye(size, dtype=torch.float64) + root @ root.mT


@st.composite
def linear_gaussian_games(
    draw: DrawFn, *, num_agents: int = 2, action_dim: int | None = None, max_dim: int = 3
) -> LinearGaussianGame:
    """Draw linear-Gaussian games with covariances bounded away from singular.

    Args:
        draw: given by hypothesis.
        num_agents: number of agents N.
        action_dim: size A of an action; None draws it.
        max_dim: largest size of an action or of the latent that is drawn.

    Returns:
        A strategy of games.

    Example:
        >>> from hypothesis import find
        >>> from vm3ac_modules.testing import linear_gaussian_games
        >>> find(linear_gaussian_games(), lambda game: True).mutual_information(0, 1).item()
        0.0
    """
    size = draw(st.integers(1, max_dim)) if action_dim is None else action_dim
    latent_dim = draw(st.integers(1, max_dim))
    return LinearGaussianGame(
        weights=draw(tensors(num_agents, size, latent_dim)),
        offset=draw(tensors(num_agents, size)),
        noise=torch.stack([draw(_covariances(size)) for _ in range(num_agents)]),
        latent=draw(_covariances(latent_dim)),
    )


@st.composite
def linear_predictors(draw: DrawFn, action_dim: int) -> LinearPredictor:
    """Draw linear-Gaussian conditional densities, unrelated to any game.

    Args:
        draw: given by hypothesis.
        action_dim: size A of an action.

    Returns:
        A strategy of predictors.

    Example:
        >>> from hypothesis import find
        >>> from vm3ac_modules.testing import linear_predictors
        >>> find(linear_predictors(1), lambda q: True).covariance.tolist()
        [[0.25]]
    """
    matrix, offset = draw(tensors(action_dim, action_dim)), draw(tensors(action_dim))
    return LinearPredictor(matrix, offset, draw(_covariances(action_dim)))


@st.composite
def conditional_tables(
    draw: DrawFn, rows: int, columns: int, *, allow_zeros: bool = False
) -> Tensor:
    """Draw tables of conditional probabilities.

    Args:
        draw: given by hypothesis.
        rows: number of conditions.
        columns: number of outcomes.
        allow_zeros: draw impossible outcomes too (the first of each row stays possible).

    Returns:
        A strategy of float64 tables ``[rows, columns]`` whose rows add up to one.

    Example:
        >>> from hypothesis import find
        >>> from vm3ac_modules.testing import conditional_tables
        >>> find(conditional_tables(1, 2), lambda q: q[0, 1] > 0.7).tolist()
        [[0.25, 0.75]]
    """
    count = rows * columns
    smallest = 0 if allow_zeros else 1
    entry = st.integers(smallest, _LARGEST_WEIGHT)
    weights = torch.tensor(draw(st.lists(entry, min_size=count, max_size=count)))
    table = weights.to(torch.float64).reshape(rows, columns)
    table[:, 0] = table[:, 0].clamp(min=1.0)
    return table / table.sum(-1, keepdim=True)


@st.composite
def tabular_games(
    draw: DrawFn,
    *,
    num_agents: int = 2,
    max_actions: int = 3,
    max_latents: int = 3,
    allow_zeros: bool = False,
) -> TabularGame:
    """Draw tabular games.

    Args:
        draw: given by hypothesis.
        num_agents: number of agents N.
        max_actions: largest number of actions of an agent; agents may differ.
        max_latents: largest number of outcomes of the latent.
        allow_zeros: draw impossible actions too, so that policies may be deterministic.

    Returns:
        A strategy of games.

    Example:
        >>> from hypothesis import find
        >>> from vm3ac_modules.testing import tabular_games
        >>> len(find(tabular_games(num_agents=3), lambda game: True).policies)
        3
    """
    outcomes = draw(st.integers(1, max_latents))
    latent = draw(conditional_tables(1, outcomes)).squeeze(0)
    sizes = [draw(st.integers(1, max_actions)) for _ in range(num_agents)]
    tables = [draw(conditional_tables(outcomes, size, allow_zeros=allow_zeros)) for size in sizes]
    return TabularGame(latent, tuple(tables))


@st.composite
def tensor_batches(
    draw: DrawFn,
    *layouts: str,
    min_agents: int = 1,
    max_agents: int = 4,
    dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, ...]:
    """Draw standard normal tensors that share their batch and their sizes.

    Args:
        draw: given by hypothesis.
        layouts: dimensions of each tensor, one letter each, after ``*`` for the batch: ``"*NA"``
            is a joint action ``[*B, N, A]``, ``"*NN"`` a pair matrix, ``"A"`` has no batch. Equal
            letters have equal sizes.
        min_agents: smallest N.
        max_agents: largest N.
        dtype: floating-point type.

    Returns:
        A strategy of tuples, one tensor per layout; ``*B`` has between 0 and 2 dimensions.

    Example:
        >>> from hypothesis import find
        >>> from vm3ac_modules.testing import tensor_batches
        >>> action, pairs = find(tensor_batches("*NA", "*NN"), lambda drawn: True)
        >>> action.shape, pairs.shape
        (torch.Size([1, 1]), torch.Size([1, 1]))
    """
    batch = draw(st.lists(st.integers(1, 3), max_size=2))
    letters = sorted({*"".join(layouts)} - {"*", "N"})
    sizes = {letter: [draw(st.integers(1, 3))] for letter in letters}
    sizes |= {"*": batch, "N": [draw(st.integers(min_agents, max_agents))]}
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))
    shapes = [[size for letter in layout for size in sizes[letter]] for layout in layouts]
    return tuple(torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes)
