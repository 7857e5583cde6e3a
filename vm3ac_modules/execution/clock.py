r"""The synchronized latent without torch: NumPy and the standard library only.

A robot that executes a policy needs the latent of a step, not the framework that trained it.
:func:`latent_at` gives the bits of :func:`vm3ac_modules.modules.latent_at` by the same operations
in the same order: Philox4x32-10 in integers, float64 with ``+ - *`` only, one rounding.

A prior is described by a mapping that JSON can hold, as ``LatentPrior.describe()`` writes it:
``{"law": "gaussian", "dim": 8}``, ``{"law": "uniform", "dim": 2, "low": -1.0, "high": 1.0}`` or
``{"law": "categorical", "probs": [0.2, 0.5, 0.3]}``.

    python -m vm3ac_modules.execution.clock --seed 0 --episode 5 --step 7 \
        --prior '{"law": "gaussian", "dim": 8}'

prints a latent, for whoever carries the arithmetic to another language.

Source: Kim et al. 2023, arXiv:2303.00451, Appendix H; Salmon, Moraes, Dror and Shaw, "Parallel
random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vm3ac_modules.execution._laws import Floats, Law, law_of

__all__ = ["LatentClock", "latent_at", "main"]

Words = NDArray[np.uint64]

_ROUNDS: Final = 10
_MULTIPLIERS: Final = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_KEY_STEPS: Final = (0x9E3779B9, 0xBB67AE85)
_WORD: Final = np.uint64(0xFFFFFFFF)
_HIGH: Final = np.uint64(32)
_EXAMPLE: Final = '{"law": "gaussian", "dim": 8}'
# Latents computed at once: their intermediate words then fit a processor's cache.
_SLICE: Final = 1 << 14


def latent_at(
    seed: int, episode: ArrayLike, step: ArrayLike, prior: Mapping[str, Any]
) -> NDArray[np.float32]:
    """Compute the latent of one step of one episode, as torch's twin does to the bit.

    ``z = prior(Philox4x32-10(counter = (block, step, episode), key = seed))``.

    References:
        Kim et al. 2023, arXiv:2303.00451, Appendix H; Salmon et al. 2011.

    Args:
        seed: the run's seed, ``0 <= seed < 2^64``.
        episode: number of the episode, ``0 <= episode < 2^63``; an integer or an array of
            integers, broadcast with step to ``*B``.
        step: number of the step within the episode, ``0 <= step < 2^32``.
        prior: the description of a prior, see this module's first lines.

    Returns:
        float32 ``[*B, Z]``.

    Raises:
        ValueError: the seed, an episode or a step is outside its range, or the description is of
            no prior.
        TypeError: the seed, an episode or a step is no integer.

    Example:
        >>> from vm3ac_modules.execution.clock import latent_at
        >>> z = latent_at(0, episode=5, step=range(10), prior={"law": "gaussian", "dim": 8})
        >>> z.shape, z.dtype
        ((10, 8), dtype('float32'))

    See Also:
        :class:`LatentClock`.
    """
    return _latent_at(check_seed(seed), episode, step, law_of(prior))


@dataclass(frozen=True)
class LatentClock:
    """The latents of a run, computed from its seed and the time.

    Args:
        seed: the run's seed, ``0 <= seed < 2^64``.
        prior: the description of a prior, see this module's first lines; copied.

    Raises:
        ValueError: the seed is outside its range, or the description is of no prior.
        TypeError: the seed is no integer.

    Example:
        >>> from vm3ac_modules.execution.clock import LatentClock
        >>> clock = LatentClock(seed=0, prior={"law": "categorical", "probs": [0.25, 0.75]})
        >>> clock.at(episode=5, step=[0, 1, 2]).shape
        (3, 2)
        >>> clock.constant().tolist()
        [0.0, 1.0]

    See Also:
        :func:`latent_at`.
    """

    seed: int
    prior: Mapping[str, Any] = field(hash=False)
    _law: Law = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", check_seed(self.seed))
        object.__setattr__(self, "_law", law_of(self.prior))
        object.__setattr__(self, "prior", copy.deepcopy(dict(self.prior)))

    @property
    def dim(self) -> int:
        """Size of the latent, ``Z``."""
        return self._law.dim

    def at(self, episode: ArrayLike, step: ArrayLike) -> NDArray[np.float32]:
        """The latent of a step, ``[*B, Z]``; see :func:`latent_at`."""
        return _latent_at(self.seed, episode, step, self._law)

    def constant(self) -> NDArray[np.float32]:
        """One agreed outcome of the support, ``[Z]``."""
        return self._law.constant.astype(np.float32)

    def mean(self, *, force: bool = False) -> NDArray[np.float32]:
        """The expectation ``E[z]``, ``[Z]``; refused (ValueError) for one-hot unless forced."""
        if self.prior["law"] == "categorical" and not force:
            shown = ", ".join(f"{p:.3g}" for p in self._law.mean)
            raise ValueError(
                f"LatentClock: the mean ({shown}) is outside the support, which holds one-hot "
                "vectors only, so a policy never saw it in training and coordination breaks. Use "
                "at(...) or constant(), or force the mean."
            )
        return self._law.mean.astype(np.float32)


def _latent_at(seed: int, episode: ArrayLike, step: ArrayLike, law: Law) -> NDArray[np.float32]:
    episodes = check_count("episode", episode, 2**63).astype(np.uint64)
    steps = check_count("step", step, 2**32).astype(np.uint64)
    batch = np.broadcast_shapes(episodes.shape, steps.shape)
    episodes = np.broadcast_to(episodes, batch).reshape(-1, 1)
    steps = np.broadcast_to(steps, batch).reshape(-1, 1)
    latents = np.empty((len(steps), law.dim), np.float32)
    for start in range(0, len(steps), _SLICE):
        rows = slice(start, start + _SLICE)
        u = _uniforms(seed, episodes[rows], steps[rows], law.num_uniforms)
        latents[rows] = law.transform(u)
    return latents.reshape(*batch, law.dim)


def _uniforms(seed: int, episode: Words, step: Words, num_uniforms: int) -> Floats:
    """Uniforms in the open unit interval, ``[R, num_uniforms]``."""
    block = np.arange((num_uniforms + 3) // 4, dtype=np.uint64)
    c0, c1, c2, c3 = np.broadcast_arrays(block, step, episode & _WORD, episode >> _HIGH)
    keys = [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(_ROUNDS):
        # Factors below 2^32: their whole product fits a uint64.
        product0, product1 = _MULTIPLIERS[0] * c0, _MULTIPLIERS[1] * c2
        k0, k1 = (np.uint64(key) for key in keys)
        c0, c2 = (product1 >> _HIGH) ^ c1 ^ k0, (product0 >> _HIGH) ^ c3 ^ k1
        c1, c3 = product1 & _WORD, product0 & _WORD
        keys = [(key + more) % 2**32 for key, more in zip(keys, _KEY_STEPS, strict=True)]
    words = np.stack((c0, c1, c2, c3), -1).reshape(len(step), -1)[:, :num_uniforms]
    return (words.astype(np.float64) + 0.5) * 2.0**-32


def check_seed(seed: int) -> int:
    """Check a seed and return it as a Python integer."""
    if isinstance(seed, bool | np.bool_) or not isinstance(seed, int | np.integer):
        raise TypeError(f"seed must be an integer, got {seed!r}.")
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed must satisfy 0 <= seed < 2^64, got {seed}.")
    return int(seed)


def check_count(name: str, value: ArrayLike, limit: int) -> NDArray[np.int64]:
    """Check integers against a limit of at most 2^63 and return them as int64."""
    counts = np.asarray(value)
    if not _integral(counts):
        raise TypeError(f"{name} must be an integer or integers, got {counts.dtype}.")
    for count in (counts.min(), counts.max()) if counts.size else ():
        if not 0 <= count < limit:
            bound = f"2^{limit.bit_length() - 1}"
            raise ValueError(f"{name} must satisfy 0 <= {name} < {bound}, got {count}.")
    return counts.astype(np.int64)


def _integral(counts: NDArray[Any]) -> bool:
    if counts.dtype == object:
        # What Python's integers beyond 64 bits make.
        return all(type(count) is int for count in counts.flat)
    return np.issubdtype(counts.dtype, np.integer)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the latent of one step as a JSON list.

    Args:
        arguments: the command line; ``sys.argv`` by default.

    Example:
        >>> from vm3ac_modules.execution.clock import main
        >>> main(["--prior", '{"law": "gaussian", "dim": 1}'])
        [-0.2558159828186035]
    """
    parser = argparse.ArgumentParser(
        prog="python -m vm3ac_modules.execution.clock",
        description="Print the latent of one step of one episode as a JSON list.",
    )
    parser.add_argument("--seed", type=int, default=0, help="the run's seed")
    parser.add_argument("--episode", type=int, default=0, help="number of the episode")
    parser.add_argument("--step", type=int, default=0, help="number of the step within it")
    parser.add_argument("--prior", required=True, help="description of the prior, JSON")
    parser.add_argument("--hex", action="store_true", help="hexadecimal floating point")
    given = parser.parse_args(arguments)
    try:
        prior = json.loads(given.prior)
    except json.JSONDecodeError as error:
        parser.error(f"--prior is not JSON ({error}); give e.g. '{_EXAMPLE}'")
    try:
        z = latent_at(given.seed, given.episode, given.step, prior)
    except ValueError as error:
        parser.error(str(error))
    values = [float(x) for x in z]
    sys.stdout.write(json.dumps([x.hex() for x in values] if given.hex else values) + "\n")


if __name__ == "__main__":
    main()
