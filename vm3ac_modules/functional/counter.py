"""Counter-based random numbers: the same numbers wherever and whenever they are asked for.

Agents that execute without communication compute the shared latent from (seed, episode, step)
alone, so every operation here must round alike in torch and in NumPy. Words are kept in int64
tensors; floating-point work is float64 and uses ``+ - *`` only, because ``log``, ``sqrt`` and
``cos`` differ between libraries in the last bit, and so would a fused multiply-add.

Source: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import resources
from operator import index
from typing import Final, ParamSpec, TypeVar, cast

import torch
from torch import Tensor

from vm3ac_modules.functional.kept import kept

__all__ = ["normal_icdf", "normal_table", "philox4x32", "uniform_bits", "uniforms_at"]

_ROUNDS: Final = 10
_MULTIPLIERS: Final = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS: Final = (0x9E3779B9, 0xBB67AE85)
_WORD: Final = 0xFFFFFFFF
_HALF: Final = 0xFFFF
# Columns of the table: low edge, center, 1 / half width, then the coefficients c_0 ... c_7.
_TABLE_COLUMNS: Final = 11
_SMALLEST_TAIL: Final = 2.0**-33

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def _eager_only(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    # A compiler may fuse a product with a sum and round once instead of twice.
    return cast("Callable[_Arguments, _Result]", torch.compiler.disable(function))  # type: ignore[no-untyped-call]


def _pair(numbers: tuple[int, int], device: torch.device) -> Tensor:
    """Two words as a tensor ``[2]``, made on its device: nothing is copied from the host."""
    first, second = numbers
    return torch.arange(2, device=device) * (second - first) + first


def _multiply(constants: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
    """High and low words of 32 x 32-bit products."""
    # A whole product needs 64 bits and int64 has 63: with 16-bit halves of the word both partial
    # products stay under 2^48, and so does their sum with the carry under 2^49.
    low_product = (words & _HALF) * constants
    carried = (words >> 16) * constants + (low_product >> 16)
    return carried >> 16, ((carried & _HALF) << 16) | (low_product & _HALF)


@_eager_only
def philox4x32(counter: Tensor, key: Tensor) -> Tensor:
    r"""Encrypt counters by Philox4x32-10.

    Each of the 10 rounds maps :math:`(c_0, c_1, c_2, c_3)` to
    :math:`(hi(M_1 c_2) \oplus c_1 \oplus k_0,\; lo(M_1 c_2),\; hi(M_0 c_0) \oplus c_3 \oplus k_1,\;
    lo(M_0 c_0))` and then adds the Weyl constants to the key, modulo :math:`2^{32}`.

    References:
        Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", SC '11.

    Args:
        counter: four 32-bit words, int64 ``[*B, 4]``.
        key: two 32-bit words, int64 ``[*B, 2]`` (or broadcastable to it).

    Returns:
        Four pseudo-random 32-bit words in int64, ``[*B, 4]``.

    Raises:
        ValueError: a trailing dimension is not 4 or 2, or a dtype is not int64.

    Example:
        >>> import torch
        >>> from vm3ac_modules.functional.counter import philox4x32
        >>> words = philox4x32(torch.zeros(4, dtype=torch.int64), torch.zeros(2, dtype=torch.int64))
        >>> [f"{word:08x}" for word in words.tolist()]
        ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']

    See Also:
        :func:`uniforms_at`, which lays out the counter of a latent.
    """
    for name, value, size in (("counter", counter, 4), ("key", key, 2)):
        if value.dtype != torch.int64 or value.shape[-1:] != (size,):
            raise ValueError(
                f"philox4x32: {name} must be int64 [*B, {size}], "
                f"got {value.dtype} {list(value.shape)}."
            )
    # Both products of a round at once: half as many operations, in exported programs too.
    multipliers, steps = (_pair(pair, counter.device) for pair in (_MULTIPLIERS, _KEY_STEPS))
    rounds = torch.arange(_ROUNDS, device=counter.device)[:, None]
    keys = (key[..., None, :] + rounds * steps) & _WORD
    even, odd = counter[..., 0::2], counter[..., 1::2]
    for round_key in keys.unbind(-2):
        high, low = _multiply(multipliers, even)
        even, odd = high.flip(-1) ^ odd ^ round_key, low.flip(-1)
    return torch.stack((even, odd), -1).flatten(-2)


@_eager_only
def uniform_bits(words: Tensor) -> Tensor:
    """Map 32-bit words to uniforms in the open unit interval, ``(word + 1/2) 2^-32``.

    Exact in float64, and symmetric: neither 0, 1/2 nor 1 is ever returned.

    Args:
        words: 32-bit words in int64, ``[*B]``.

    Returns:
        float64 in ``[2^-33, 1 - 2^-33]``, ``[*B]``.

    Example:
        >>> import torch
        >>> from vm3ac_modules.functional.counter import uniform_bits
        >>> uniform_bits(torch.tensor([2**31])).item() - 0.5 == 2.0**-33
        True

    See Also:
        :func:`normal_icdf`.
    """
    return (words.to(torch.float64) + 0.5) * 2.0**-32


@cache
def _table_bytes() -> bytearray:
    file = resources.files("vm3ac_modules").joinpath("functional", "normal_icdf.f64")
    return bytearray(file.read_bytes())


def normal_table(device: torch.device | str = "cpu") -> Tensor:
    """The table of :func:`normal_icdf`, for a module that must carry it along.

    Args:
        device: where it shall live.

    Returns:
        float64 ``[256, 11]``: low edge, center, 1 / half width and 8 coefficients of each piece.

    Example:
        >>> from vm3ac_modules.functional.counter import normal_table
        >>> normal_table().shape
        torch.Size([256, 11])
    """
    # A table first read in inference mode would otherwise stay an inference tensor for ever.
    with torch.inference_mode(False):
        raw = torch.frombuffer(_table_bytes(), dtype=torch.float64)
        return raw.reshape(-1, _TABLE_COLUMNS).clone().to(device)


_kept_table = kept(normal_table)


@_eager_only
def normal_icdf(u: Tensor, table: Tensor | None = None) -> Tensor:
    r"""Invert the standard normal distribution function, rounding alike in torch and NumPy.

    .. math:: \Phi^{-1}(u) = \mp \sum_k c_k t^k, \qquad p = \min(u, 1 - u)

    with one polynomial per eighth of an octave of :math:`p`, by Horner in separate multiplications
    and additions. Within 1e-11 of the exact value on the 32-bit grid of :func:`uniform_bits`; the
    table is made by ``recipes/make_normal_table.py``.

    Args:
        u: probabilities, float64 ``[*B]``; beyond ``[2^-33, 1 - 2^-33]`` the nearest end is taken.
        table: :func:`normal_table` on the device of u. If given, pieces are found by comparisons
            alone, which exported programs can express; the numbers are the same.

    Returns:
        Standard normal quantiles, float64 ``[*B]``.

    Raises:
        ValueError: u is not float64.

    Example:
        >>> import torch
        >>> from vm3ac_modules.functional.counter import normal_icdf
        >>> [round(x, 6) for x in normal_icdf(torch.tensor([0.025, 0.975]).double()).tolist()]
        [-1.959964, 1.959964]

    See Also:
        :func:`uniform_bits`.
    """
    if u.dtype != torch.float64:
        raise ValueError(f"normal_icdf: u must be float64, got {u.dtype}.")
    tail = torch.minimum(u, 1.0 - u).clamp(min=_SMALLEST_TAIL)
    if table is None:
        table = _kept_table(u.device)
        edges = table[:, 0].contiguous()
        row = torch.searchsorted(edges, tail.contiguous(), right=True).clamp(1, len(edges)) - 1
    else:
        row = (table[:, 0] <= tail.unsqueeze(-1)).sum(-1).clamp(1, len(table)) - 1
    center, inverse_half_width, *coefficients = table[row][..., 1:].unbind(-1)
    t = (tail - center) * inverse_half_width
    magnitude = coefficients[-1]
    # Not torch.addcmul, which is free to skip the rounding of the product.
    for coefficient in reversed(coefficients[:-1]):
        magnitude = magnitude * t
        magnitude = magnitude + coefficient
    return torch.where(u < 0.5, -magnitude, magnitude)


@_eager_only
def uniforms_at(seed: int | Tensor, episode: Tensor, step: Tensor, num_uniforms: int) -> Tensor:
    """Draw the uniforms that belong to one step of one episode.

    ``key = (seed_lo, seed_hi)``, ``counter = (block, step, episode_lo, episode_hi)``: the block has
    a word of its own, so no step repeats a part of another.

    References:
        Kim et al. 2023, arXiv:2303.00451, Appendix H (synchronized latents); Salmon et al. 2011.

    Args:
        seed: the run's seed, ``0 <= seed < 2^64``; or an int64 scalar with its 64 bits, as programs
            that are exported read it.
        episode: number of the episode, int64, broadcast with step to ``[*B]``.
        step: number of the step within it, below ``2^32``, int64.
        num_uniforms: how many uniforms each step needs.

    Returns:
        float64 uniforms in the open unit interval, ``[*B, num_uniforms]``.

    Raises:
        ValueError: the seed is outside its range.
        TypeError: the seed is no integer.

    Example:
        >>> import torch
        >>> from vm3ac_modules.functional.counter import uniforms_at
        >>> uniforms_at(0, torch.tensor(3), torch.arange(5), 6).shape
        torch.Size([5, 6])

    See Also:
        :func:`vm3ac_modules.modules.latent_at`.
    """
    if not isinstance(seed, Tensor):
        seed = index(seed)  # a small integer type of NumPy's would overflow
        if not 0 <= seed < 2**64:
            raise ValueError(f"seed must satisfy 0 <= seed < 2^64, got {seed}.")
    num_blocks = (num_uniforms + 3) // 4
    batch = torch.broadcast_shapes(episode.shape, step.shape)  # type: ignore[no-untyped-call]
    step, episode = step[..., None], episode[..., None]
    words = (torch.arange(num_blocks, device=step.device), step, episode & _WORD, episode >> 32)
    counter = torch.stack([word.expand(*batch, num_blocks) for word in words], -1)
    # The mask after the shift is for a tensor, whose sign is carried along.
    low, high = seed & _WORD, (seed >> 32) & _WORD
    if isinstance(low, Tensor) and isinstance(high, Tensor):
        key = torch.stack((low, high))
    else:
        key = torch.tensor([low, high], device=step.device)
    return uniform_bits(philox4x32(counter, key)).flatten(-2)[..., :num_uniforms]
