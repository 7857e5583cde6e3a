"""Counter-based numbers: published answers first, then the table, then the layout."""

from __future__ import annotations

import hashlib
import runpy
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import ndtri

from vm3ac_modules.functional.counter import normal_icdf, philox4x32, uniform_bits, uniforms_at

WORD = 0xFFFFFFFF
TABLE_SHA256 = "281fa6deecdbd61f2a270c0416f075ea342525fbaa537d42609a2a772365c173"


def words_on_the_whole_range() -> torch.Tensor:
    """Both ends, the middle, every piece of the table, and uniform draws."""
    generator = torch.Generator().manual_seed(0)
    ends = torch.arange(2000)
    octaves = 2.0 ** (torch.rand(100_000, generator=generator, dtype=torch.float64) * 32)
    return torch.cat(
        [
            ends,
            WORD - ends,
            ends + 2**31 - 1000,
            octaves.long().clamp(max=WORD),
            WORD - octaves.long().clamp(max=WORD),
            torch.randint(0, 2**32, (100_000,), generator=generator),
        ]
    )


@pytest.mark.parametrize(
    ("counter", "key", "answer"),
    [
        ("00000000 " * 4, "00000000 " * 2, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff " * 4, "ffffffff " * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            "243f6a88 85a308d3 13198a2e 03707344",
            "a4093822 299f31d0",
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_philox_gives_the_published_known_answers(counter, key, answer):
    def parse(text):
        return torch.tensor([int(word, 16) for word in text.split()])

    assert torch.equal(philox4x32(parse(counter), parse(key)), parse(answer))


def test_philox_equals_plain_integer_arithmetic():
    generator = torch.Generator().manual_seed(1)
    counters = torch.randint(0, 2**32, (64, 4), generator=generator)
    keys = torch.randint(0, 2**32, (64, 2), generator=generator)
    expected = []
    for (c0, c1, c2, c3), (k0, k1) in zip(counters.tolist(), keys.tolist(), strict=True):
        for _ in range(10):
            product0, product1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
            c0, c2 = (product1 >> 32) ^ c1 ^ k0, (product0 >> 32) ^ c3 ^ k1
            c1, c3 = product1 & WORD, product0 & WORD
            k0, k1 = (k0 + 0x9E3779B9) & WORD, (k1 + 0xBB67AE85) & WORD
        expected.append([c0, c1, c2, c3])
    assert philox4x32(counters, keys).tolist() == expected
    assert philox4x32(counters, keys[0]).shape == (64, 4)


def test_philox_refuses_other_dtypes_and_sizes():
    with pytest.raises(ValueError, match=r"counter must be int64 \[\*B, 4\], got torch.int32"):
        philox4x32(torch.zeros(4, dtype=torch.int32), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"key must be int64 \[\*B, 2\].*\[3\]"):
        philox4x32(torch.zeros(4, dtype=torch.int64), torch.zeros(3, dtype=torch.int64))


def test_uniforms_are_exact_symmetric_and_open():
    words = words_on_the_whole_range()
    u = uniform_bits(words)
    assert u.min().item() == 2.0**-33
    assert u.max().item() == 1 - 2.0**-33
    assert torch.equal(uniform_bits(WORD - words), 1 - u)
    assert torch.equal(u * 2**33, 2 * words.double() + 1)


def test_shipped_table_is_what_the_generator_writes():
    shipped = resources.files("vm3ac_modules").joinpath("functional", "normal_icdf.f64")
    assert hashlib.sha256(shipped.read_bytes()).hexdigest() == TABLE_SHA256
    recipe = Path(__file__).parents[2] / "recipes" / "make_normal_table.py"
    module = runpy.run_path(str(recipe))
    with module["mp"].workdps(50):
        rows = module["table_rows"]()
    assert np.array(rows, dtype="<f8").tobytes() == shipped.read_bytes()


def test_normal_icdf_is_the_normal_quantile():
    u = uniform_bits(words_on_the_whole_range())
    np.testing.assert_allclose(normal_icdf(u).numpy(), ndtri(u.numpy()), rtol=0, atol=1e-11)


def test_normal_icdf_is_odd_increasing_and_saturates():
    u = uniform_bits(words_on_the_whole_range()).sort().values.unique()
    z = normal_icdf(u)
    assert torch.equal(normal_icdf(1 - u), -z)
    assert bool((z.diff() > 0).all())
    beyond = normal_icdf(torch.tensor([0.0, 1e-30, 0.5, 1.0], dtype=torch.float64))
    assert beyond[0] == beyond[1] == z[0]
    assert beyond[3] == z[-1]
    assert abs(beyond[2].item()) < 1e-11
    assert normal_icdf(torch.tensor([torch.nan], dtype=torch.float64)).isnan().all()


def test_normal_icdf_equals_numpy_bit_for_bit():
    file = Path(resources.files("vm3ac_modules") / "functional" / "normal_icdf.f64")
    table = np.fromfile(file, dtype="<f8").reshape(-1, 11)
    u = uniform_bits(words_on_the_whole_range()).numpy()
    tail = np.minimum(u, 1.0 - u)
    row = table[np.searchsorted(table[:, 0], tail, side="right") - 1]
    t = (tail - row[:, 1]) * row[:, 2]
    value = row[:, -1]
    for column in range(9, 2, -1):
        value = value * t + row[:, column]
    expected = np.where(u < 0.5, -value, value)
    assert np.array_equal(normal_icdf(torch.from_numpy(u)).numpy(), expected)


def test_normal_icdf_refuses_single_precision():
    with pytest.raises(ValueError, match=r"u must be float64, got torch\.float32"):
        normal_icdf(torch.tensor([0.5]))


def test_counter_layout_is_block_step_episode():
    seed, episode, step = (7 << 32) | 9, (5 << 32) | 3, 11
    u = uniforms_at(seed, torch.tensor(episode), torch.tensor(step), 6)
    counters = torch.tensor([[0, step, 3, 5], [1, step, 3, 5]])
    words = philox4x32(counters, torch.tensor([9, 7])).flatten()
    assert torch.equal(u, uniform_bits(words)[:6])


@pytest.mark.parametrize("num_uniforms", [0, 1, 4, 5])
def test_uniforms_broadcast_episodes_and_steps(num_uniforms):
    episodes, steps = torch.arange(3)[:, None], torch.arange(4)
    u = uniforms_at(1, episodes, steps, num_uniforms)
    assert u.shape == (3, 4, num_uniforms)
    assert torch.equal(u[2, 1], uniforms_at(1, torch.tensor(2), torch.tensor(1), num_uniforms))
    assert u.unique().numel() == u.numel()


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_seed_outside_64_bits_is_refused(seed):
    with pytest.raises(ValueError, match=f"0 <= seed < 2\\^64, got {seed}"):
        uniforms_at(seed, torch.tensor(0), torch.tensor(0), 4)


def test_largest_seed_and_step_are_accepted():
    u = uniforms_at(2**64 - 1, torch.tensor(2**63 - 1), torch.tensor(WORD), 4)
    expected = philox4x32(torch.tensor([0, WORD, WORD, 0x7FFFFFFF]), torch.tensor([WORD, WORD]))
    assert torch.equal(u, uniform_bits(expected))


def test_a_compiled_caller_runs_the_numbers_eagerly_or_is_refused():
    u = torch.tensor([0.25], dtype=torch.float64)
    caller = torch.compile(lambda x: normal_icdf(x * 1.0), backend="eager")
    assert torch.equal(caller(u), normal_icdf(u))
    whole = torch.compile(lambda x: normal_icdf(x * 1.0), backend="eager", fullgraph=True)
    with pytest.raises(torch._dynamo.exc.Unsupported, match="disable"):
        whole(u)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_gives_the_same_bits():
    u = uniform_bits(words_on_the_whole_range())
    assert torch.equal(normal_icdf(u.cuda()).cpu(), normal_icdf(u))
    episode, step = torch.arange(100)[:, None], torch.arange(50)
    on_device = uniforms_at(2**40 + 1, episode.cuda(), step.cuda(), 6)
    assert torch.equal(on_device.cpu(), uniforms_at(2**40 + 1, episode, step, 6))
