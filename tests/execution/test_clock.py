"""The clock without torch: torch's bits, in any process, of independent draws of the prior."""

from __future__ import annotations

import ast
import hashlib
import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from contracts.priors import prior_from
from hypothesis import assume, given
from hypothesis import strategies as st

import vm3ac_modules.execution
from vm3ac_modules.execution import clock
from vm3ac_modules.execution.clock import LatentClock, latent_at
from vm3ac_modules.modules.latent import latent_at as torch_latent_at
from vm3ac_modules.priors import CategoricalPrior, GaussianPrior, UniformPrior

GAUSSIAN = {"law": "gaussian", "dim": 4}
LAWS = [
    pytest.param({"law": "gaussian", "dim": 5}, id="gaussian"),
    pytest.param({"law": "uniform", "dim": 2, "low": -0.3, "high": 0.1}, id="uniform"),
    pytest.param({"law": "categorical", "probs": [0.57, 0.2300001, 0.0, 0.2]}, id="categorical"),
]
# What another process computes: 1,000,000 latents, episodes and steps of every size among them.
OTHER_PROCESS = """
import hashlib, sys
{block}
import numpy as np
from vm3ac_modules.execution.clock import latent_at
episode = np.concatenate([np.arange(990), 2 ** np.arange(53, 63)])[:, None]
step = np.concatenate([np.arange(990), 2 ** 32 - 1 - np.arange(10)])
z = latent_at(2**63 + 5, episode, step, {prior})
assert z.size == 1_000_000
print(hashlib.sha256(z.tobytes()).hexdigest(), "torch" in sys.modules)
"""
BLOCK_TORCH = """
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "tensordict", "torchrl"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refuse())
"""


def words(z):
    return np.asarray(z).view(np.uint32)


@pytest.mark.parametrize("prior", LAWS)
def test_equals_torch_to_the_bit(prior):
    generator = np.random.default_rng(0)
    drawn = generator.integers(2**64, size=4, dtype=np.uint64)
    for seed in [0, 2**63 + 17, 2**64 - 1, *map(int, drawn), 12345]:
        episode = generator.integers(2**63, size=42_000) >> generator.integers(63, size=42_000)
        step = generator.integers(2**32, size=42_000) >> generator.integers(32, size=42_000)
        z = latent_at(seed, episode, step, prior)
        pair = torch.from_numpy(episode), torch.from_numpy(step)
        expected = torch_latent_at(seed, *pair, prior_from(prior)).numpy()
        assert z.dtype == expected.dtype
        assert np.array_equal(words(z), words(expected))


@pytest.mark.parametrize("prior", LAWS)
def test_laws_equal_torch_before_the_rounding_that_hides_a_last_bit(prior):
    # Both ends of the grid of uniforms, its middle, and every piece of the table.
    grid = np.concatenate([np.arange(2000), 2**31 + np.arange(-1000, 1000), np.geomspace(1, 2**31)])
    word = np.concatenate([grid.astype(np.uint64), 2**32 - 1 - grid.astype(np.uint64)])
    u = (np.random.default_rng(0).permutation(word).astype(np.float64) + 0.5) * 2.0**-32
    theirs, ours = prior_from(prior), LatentClock(0, prior)._law
    u = u[: len(u) // ours.num_uniforms * ours.num_uniforms].reshape(-1, ours.num_uniforms)
    expected = theirs._transform(torch.from_numpy(u), theirs._numbers()).numpy()
    assert np.array_equal(ours.transform(u).view(np.uint64), expected.view(np.uint64))


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=12).filter(any), st.integers(-8, 8))
def test_outcomes_change_exactly_where_torchs_change(weights, excess):
    # The sum may miss 1 by a little, so that dividing by it counts.
    probs = [weight / sum(weights) for weight in weights]
    probs[-1] = abs(probs[-1] + excess * 1e-8)
    prior = CategoricalPrior(len(probs), probs)
    law = LatentClock(0, json.loads(json.dumps(prior.describe())))._law
    edges = torch.tensor([*prior.edges, 0.5], dtype=torch.float64).unsqueeze(-1)
    for toward in (0.0, 1.0):
        near = torch.nextafter(edges, torch.full((), toward, dtype=torch.float64))
        for points in (edges, near):
            expected = prior.from_uniforms(points).numpy()
            assert np.array_equal(law.transform(points.numpy()), expected)


def test_golden_values():
    # The bits that test_latent.py pins for torch: a change breaks every exported agent.
    def bits(*arguments):
        return " ".join(f"{word:08x}" for word in words(latent_at(*arguments)).tolist())

    six, three = {"law": "gaussian", "dim": 6}, {"law": "categorical", "probs": [1 / 3] * 3}
    uniform = {"law": "uniform", "dim": 3, "low": -1.0, "high": 1.0}
    assert bits(0, 0, 0, GAUSSIAN) == "be82fa50 3f96bb4f 3f2153b7 3e88fdeb"
    expected = "3f51162b 3e36afdc bf8293a0 be20fc9e 3ebf1b9a bf16fb67"
    assert bits(2**63 + 5, 2**40 + 3, 99, six) == expected
    assert bits(7, 1, 2, uniform) == "3e3a0303 bf452519 bf46e946"
    outcomes = latent_at(7, 1, np.arange(12), three).argmax(-1)
    assert outcomes.tolist() == [1, 0, 1, 2, 0, 1, 0, 1, 0, 0, 2, 1]


@pytest.mark.parametrize("block", ["", BLOCK_TORCH], ids=["torch there", "torch not importable"])
def test_another_process_computes_the_same_bytes(block):
    prior = {"law": "gaussian", "dim": 1}
    code = OTHER_PROCESS.format(block=block, prior=prior)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    episode = np.concatenate([np.arange(990), 2 ** np.arange(53, 63)])[:, None]
    step = np.concatenate([np.arange(990), 2**32 - 1 - np.arange(10)])
    here = latent_at(2**63 + 5, episode, step, prior).tobytes()
    assert done.stdout.split() == [hashlib.sha256(here).hexdigest(), "False"]


# --- which numbers it depends on ------------------------------------------------------------

PLACES = st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**63 - 1), st.integers(0, 2**32 - 1))


@given(PLACES, PLACES, st.integers(0, 2))
def test_a_change_of_seed_episode_or_step_changes_the_latent(place, other, which):
    assume(place[which] != other[which])
    moved = [*place]
    moved[which] = other[which]
    assert not np.array_equal(latent_at(*place, GAUSSIAN), latent_at(*moved, GAUSSIAN))


def test_every_bit_of_the_place_counts():
    place = [0x0123456789ABCDEF, 0x3EDCBA9876543210, 0x6789ABCD]
    found = {latent_at(*place, GAUSSIAN).tobytes()}
    for which, bits in enumerate((64, 63, 32)):
        for bit in range(bits):
            moved = [*place]
            moved[which] ^= 1 << bit
            found.add(latent_at(*moved, GAUSSIAN).tobytes())
    assert len(found) == 1 + 64 + 63 + 32


def test_broadcasts_and_does_not_depend_on_what_else_is_asked_for():
    wide = {"law": "gaussian", "dim": 9}
    grid = latent_at(3, np.arange(300)[:, None], np.arange(100, dtype=np.uint8), wide)
    assert grid.shape == (300, 100, 9)
    assert np.array_equal(latent_at(3, 299, 99, wide), grid[299, 99])
    assert np.array_equal(latent_at(3, [4, 7], np.int64(5), wide), grid[[4, 7], 5])
    assert latent_at(0, np.arange(0), 1, wide).shape == (0, 9)
    assert latent_at(0, np.arange(3), 1, {"law": "gaussian", "dim": 0}).shape == (3, 0)


# --- the clock ------------------------------------------------------------------------------


@pytest.mark.parametrize("prior", LAWS)
def test_clock_is_latent_at_with_the_priors_constants(prior):
    theirs, ours = prior_from(prior), LatentClock(7, prior)
    assert ours.dim == theirs.dim
    assert np.array_equal(ours.at(3, [4, 5]), latent_at(7, 3, [4, 5], prior))
    for ours_value, value in (
        (ours.constant(), theirs.constant()),
        (ours.mean(force=True), theirs.mean(force=True)),
    ):
        assert ours_value.dtype == np.float32
        assert np.array_equal(ours_value, value.numpy())
    if prior["law"] == "categorical":
        with pytest.raises(ValueError, match="outside the support"):
            ours.mean()
    else:
        assert np.array_equal(ours.mean(), theirs.mean().numpy())


def test_clock_keeps_a_copy_and_its_constants_are_the_callers():
    given = {"law": "categorical", "probs": [0.5, 0.5]}
    ours = LatentClock(0, given)
    given["probs"][0] = 7.0
    assert ours.prior["probs"] == [0.5, 0.5]
    ours.constant()[:] = 7.0
    assert ours.constant().tolist() == [1.0, 0.0]
    assert json.loads(json.dumps(ours.prior)) == ours.prior
    assert ours == LatentClock(0, {"law": "categorical", "probs": [0.5, 0.5]})
    assert hash(ours) == hash(LatentClock(0, ours.prior))
    with pytest.raises(AttributeError):
        ours.seed = 1


def test_priors_of_latents_describe_what_the_clock_takes():
    for prior in (GaussianPrior(3), UniformPrior(2, low=0, high=1), CategoricalPrior(3)):
        assert LatentClock(0, prior.describe()).dim == prior.dim


# --- the command line, and what is imported -------------------------------------------------


def test_command_line_prints_the_latent(capsys):
    place = ["--seed", str(2**63 + 5), "--episode", str(2**40 + 3), "--step", "99"]
    prior = ["--prior", '{"law": "gaussian", "dim": 6}']
    expected = latent_at(2**63 + 5, 2**40 + 3, 99, json.loads(prior[1])).tolist()
    clock.main([*place, *prior])
    assert json.loads(capsys.readouterr().out) == expected
    clock.main([*place, *prior, "--hex"])
    assert [*map(float.fromhex, json.loads(capsys.readouterr().out))] == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prior", "{"], "--prior is not JSON"),
        (["--prior", "[3]"], "described by a mapping"),
        (["--prior", '{"law": "gaussian", "dim": 2}', "--step", "-1"], "0 <= step < 2^32"),
    ],
)
def test_command_line_refuses_in_one_sentence(arguments, message, capsys):
    with pytest.raises(SystemExit):
        clock.main(arguments)
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_command_line_runs_where_torch_is_not_importable():
    code = (
        f"import runpy, sys\n{BLOCK_TORCH}\nsys.argv[1:] = ['--prior', {json.dumps(GAUSSIAN)!r}]\n"
        "runpy.run_module('vm3ac_modules.execution.clock', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == latent_at(0, 0, 0, GAUSSIAN).tolist()


def test_imports_numpy_and_the_standard_library_only():
    folder = Path(clock.__file__).parent
    allowed = {
        *sys.stdlib_module_names,
        "numpy",
        "vm3ac_modules.execution._laws",
        "vm3ac_modules._lazy",
        "vm3ac_modules.extras",
    }
    for file in (
        folder / "clock.py",
        folder / "_laws.py",
        folder / "__init__.py",
        folder.parent / "_lazy.py",
        folder.parent / "extras.py",
    ):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                assert {alias.name for alias in node.names} <= allowed
            elif isinstance(node, ast.ImportFrom):
                assert {node.module, str(node.module).partition(".")[0]} & allowed


def test_the_package_gives_the_clock_and_what_its_modules_define():
    package = vm3ac_modules.execution
    assert package.latent_at is latent_at
    assert package.LatentClock is LatentClock
    assert {"latent_at", "LatentClock"} <= {*dir(package)}
    for name in package.__all__:
        found = getattr(package, name)
        home = importlib.import_module(found.__module__)
        assert home.__name__.startswith("vm3ac_modules.execution.")
        assert name in home.__all__
        assert getattr(home, name) is found
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = package.nothing
