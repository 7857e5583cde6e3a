"""Random streams: seeding, saving, restoring, borrowing."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from vm3ac_modules.learning import (
    LARGEST_SEED,
    evaluation_seed,
    fork_rng,
    rng_state,
    seed_everything,
    set_rng_state,
)
from vm3ac_modules.options import OptionsError
from vm3ac_modules.runs import Settings, load_checkpoint, save_checkpoint


def draw():
    # The Gaussian draws leave a cached second value behind, which the state must hold too.
    return (
        random.random(),
        random.gauss(0.0, 1.0),
        np.random.rand(),  # noqa: NPY002
        np.random.randn(),  # noqa: NPY002
        torch.rand(3).tolist(),
        torch.randn(1).item(),
    )


@pytest.fixture(autouse=True)
def _restore():
    state = rng_state()
    yield
    set_rng_state(state)


def differ_everywhere(left, right):
    return all(a != b for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize("seed", [0, 1_000_003, 2**32 + 5])
def test_seeding_fixes_every_stream(seed):
    seed_everything(seed)
    first = draw()
    second = draw()
    seed_everything(seed)
    assert draw() == first
    assert differ_everywhere(first, second)
    seed_everything(seed + 1)
    assert differ_everywhere(draw(), first)


def test_seeds_of_evaluations_are_no_seeds_of_training():
    assert evaluation_seed(0) > LARGEST_SEED
    assert evaluation_seed(7) - evaluation_seed(0) == 7
    named = {"algorithm": {"name": "ma_ac"}, "task": {"name": "predator_prey_2"}}
    assert Settings.of({**named, "seed": LARGEST_SEED}).training.seed == LARGEST_SEED
    with pytest.raises(OptionsError, match=r"seed must be an integer .*999999, got 1000000"):
        Settings.of({**named, "seed": LARGEST_SEED + 1})
    with pytest.raises(OptionsError, match="seeds must end at 999999"):
        Settings.of({**named, "seed": LARGEST_SEED, "seeds": 2})


def test_state_goes_through_a_checkpoint(tmp_path):
    seed_everything(0)
    draw()
    save_checkpoint(tmp_path, 1, {"rng": rng_state()}, config={})
    expected = [draw(), draw()]
    seed_everything(5)
    set_rng_state(load_checkpoint(tmp_path).state["rng"])
    assert [draw(), draw()] == expected


def test_reading_the_state_draws_nothing():
    seed_everything(0)
    rng_state()
    got = draw()
    seed_everything(0)
    assert got == draw()


def test_an_evaluation_does_not_move_training():
    seed_everything(0)
    before = draw()
    with fork_rng(9):
        inside = draw()
    after = draw()
    seed_everything(0)
    assert (draw(), draw()) == (before, after)
    seed_everything(9)
    assert draw() == inside


def test_fork_restores_after_an_error():
    seed_everything(0)
    expected = draw()
    seed_everything(0)

    def failing_evaluation():
        with fork_rng(9):
            draw()
            raise KeyError

    with pytest.raises(KeyError):
        failing_evaluation()
    assert draw() == expected


def test_evaluation_seeds_are_disjoint_from_training():
    assert evaluation_seed(0) == 1_000_000
    assert not {evaluation_seed(seed) for seed in range(100)} & set(range(100))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_streams():
    seed_everything(0)
    first = torch.rand(3, device="cuda")
    second = torch.rand(3, device="cuda")
    seed_everything(0)
    assert torch.equal(first, torch.rand(3, device="cuda"))
    with fork_rng(9):
        torch.rand(3, device="cuda")
    assert torch.equal(second, torch.rand(3, device="cuda"))
