"""Multi-walker: the paper's reward on PettingZoo's simulator.

Bodies are moved by hand where a fall, a drop or an arrival is wanted: random play takes its time.
"""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

pytest.importorskip("Box2D")

from contracts.multiwalker import ACTION, GROUND, REWARD, SEEN, actions, bodies, play, step
from torchrl.envs.utils import check_env_specs

from vm3ac_modules.envs import MultiwalkerEnv, make_env
from vm3ac_modules.envs._rows import EpisodeSeeds, headless
from vm3ac_modules.evaluation import evaluate


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.mark.parametrize("num_agents", [2, 3, 4])
def test_specs_and_sizes(num_agents):
    env = make_env(f"multiwalker_{num_agents}", num_envs=2, seed=0)
    check_env_specs(env)
    td = env.rollout(2)
    for part in (td, td["next"]):
        assert part[SEEN].shape == (2, 2, num_agents, 31)
        assert part["state"].shape == (2, 2, 24 * num_agents + 3)
        assert {*part["info"].keys()} == {"package_distance", "fell", "dropped"}
        for name in ("done", "terminated", "truncated"):
            assert part[name].shape == (2, 2, 1)
    assert td["next"][REWARD].shape == (2, 2, num_agents, 1)
    action = env.full_action_spec[ACTION]
    assert action.shape == (2, num_agents, 4)
    assert (action.space.low == -1).all()
    assert (action.space.high == 1).all()


def test_it_is_pettingzoos_simulator():
    with headless():
        from pettingzoo.sisl import multiwalker_v9

        theirs = multiwalker_v9.parallel_env(
            n_walkers=3, remove_on_fall=False, shared_reward=False, forward_reward=30 / 13
        )
    seeds, env = EpisodeSeeds(4, num_envs=2), MultiwalkerEnv(3, num_envs=2, seed=4)
    ours, row = play(env, actions(env, 25)), 1
    seen, _ = theirs.reset(seed=seeds.draw(row))
    for t in range(25):
        joint = ours[ACTION][row, t].numpy()
        for i, name in enumerate(theirs.agents):
            assert np.array_equal(ours[SEEN][row, t, i], seen[name])
        seen, reward, *_ = theirs.step(dict(zip(theirs.agents, joint, strict=True)))
        assert np.array_equal(ours["next", "state"][row, t], theirs.state())
        # their reward at 10 per unit, less their shaping by the growth of the hull's angle
        tilt = ours["next"][SEEN][row, t, :, 0].abs() - ours[SEEN][row, t, :, 0].abs()
        torch.testing.assert_close(
            torch.tensor(list(reward.values()), dtype=torch.float32) + 5 * tilt,
            ours["next"][REWARD][row, t, :, 0],
            atol=1e-4,
            rtol=0,
        )


@pytest.mark.parametrize("scale", [10.0, 3.0])
def test_reward_is_the_packages_way(scale):
    env = MultiwalkerEnv(3, num_envs=2, seed=0, forward_scale=scale)
    env.reset()
    start = x = torch.tensor([bodies(env, b)[1].position.x for b in range(2)])
    moved = torch.zeros(2)
    for action in actions(env, 25):
        td = step(env, action)
        now = torch.tensor([bodies(env, b)[1].position.x for b in range(2)])
        expected = (scale * (now - x)).reshape(2, 1, 1).expand(2, 3, 1)
        torch.testing.assert_close(td[REWARD], expected, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(td["info", "package_distance"][:, 0], now - start)
        moved, x = moved + (now - x).abs(), now
    assert (moved > 0.01).all()


@pytest.mark.parametrize("penalty", [10.0, 4.0])
def test_a_fall_costs_the_faller(penalty):
    env = MultiwalkerEnv(3, num_envs=2, seed=0, fall_penalty=penalty)
    env.reset()
    simulator, package, hulls = bodies(env)
    hulls[1].transform = ((hulls[1].position.x, GROUND), 0.0)
    x = package.position.x
    td = step(env)
    forward = 10 * (package.position.x - x)
    expected = torch.tensor([forward, forward - penalty, forward])
    torch.testing.assert_close(td[REWARD][0, :, 0], expected)
    assert td["terminated"].flatten().tolist() == [True, False]
    assert not td["truncated"].any()
    assert td["info", "fell"].flatten().tolist() == [1.0, 0.0]
    assert not td["info", "dropped"].any()
    # the step of a fall has a state and observations: those after the fall
    assert np.array_equal(td["state"][0], simulator.state())
    assert td["state"][0, -3] == pytest.approx(package.position.x)
    assert td[SEEN].isfinite().all()


@pytest.mark.parametrize("fallen", [False, True])
def test_a_drop_costs_all_once(fallen):
    env = MultiwalkerEnv(3, num_envs=2, seed=0)
    env.reset()
    simulator, package, hulls = bodies(env)
    package.transform = ((package.position.x, GROUND), 0.0)
    if fallen:
        hulls[2].transform = ((hulls[2].position.x, GROUND), 0.0)
    x = package.position.x
    td = step(env)
    assert simulator.fallen_walkers.any() == fallen
    expected = torch.full((3,), 10 * (package.position.x - x) - 10)
    torch.testing.assert_close(td[REWARD][0, :, 0], expected)
    assert td["terminated"].flatten().tolist() == [True, False]
    assert td["info", "dropped"].flatten().tolist() == [1.0, 0.0]
    assert td["info", "fell"].flatten().tolist() == [float(fallen), 0.0]


@pytest.mark.parametrize(("x", "ends"), [(88.8, True), (88.5, False), (-0.1, True)])
def test_arrival_and_the_left_edge_cost_nothing(x, ends):
    env = MultiwalkerEnv(2, num_envs=1, seed=0)
    env.reset()
    _, package, _ = bodies(env)
    package.position = (x, 20.0)
    td = step(env)
    assert td["terminated"].item() == ends
    assert td[REWARD].abs().max() < 1


def test_angle_shaping():
    plain, shaped = (MultiwalkerEnv(2, num_envs=2, seed=0, angle_shaping=s) for s in (False, True))
    joint = actions(plain, 20)
    first, second = play(plain, joint), play(shaped, joint)
    growth = first["next"][SEEN][..., :1].abs() - first[SEEN][..., :1].abs()
    assert growth.abs().max() > 0.01
    assert torch.equal(first["next"][SEEN], second["next"][SEEN])
    torch.testing.assert_close(
        second["next"][REWARD], first["next"][REWARD] - 5 * growth, atol=1e-5, rtol=0
    )


def test_the_time_limit_truncates():
    env = make_env("multiwalker_2", num_envs=2, seed=0, max_steps=6)
    td = play(env, actions(env, 7))["next"]
    assert td["truncated"][0, :, 0].tolist() == [False] * 5 + [True, False]
    assert torch.equal(td["done"], td["truncated"])
    assert not td["terminated"].any()


def test_random_play_lasts_a_second_or_two():
    env = MultiwalkerEnv(2, num_envs=12, seed=0)
    env.reset()
    lengths = torch.ones(12)
    for action in actions(env, 150):
        td = step(env, action)
        lengths += (~td["done"].squeeze(-1)).float()
    # the median: now and then a pair sits down in a heap that holds
    assert 50 < lengths.median() < 95
    ended, info = td["done"], td["info"]
    assert ended.float().mean() > 0.7
    assert torch.equal(ended, (info["fell"] + info["dropped"]) > 0)
    assert 0 < info["package_distance"].abs().max() < 5


def test_evaluations_repeat_their_starts():
    env = make_env("multiwalker_3", num_envs=3, seed=0, max_steps=12)
    options = {"max_steps": 12, "seed": 5, "observer": lambda env: env.base_env.positions}
    first, second = (evaluate(None, env, **options) for _ in range(2))
    assert torch.equal(first.returns, second.returns)
    assert first.trace.shape[2:] == (4, 2)
    assert (first.trace[:, 0, :2, 0].diff() > 0).all()
    assert torch.equal(first.trace, second.trace)


def test_positions_are_the_hulls_and_the_packages():
    env = MultiwalkerEnv(3, num_envs=2, seed=0)
    env.reset()
    step(env, actions(env, 1)[0])
    for b in range(2):
        _, package, hulls = bodies(env, b)
        expected = [tuple(body.position) for body in (*hulls, package)]
        torch.testing.assert_close(env.positions[b], torch.tensor(expected))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_agents": 1}, "num_agents must be 2, 3 or 4, got 1"),
        ({"num_agents": 5}, "num_agents must be 2, 3 or 4, got 5"),
        ({"num_envs": 0}, "num_envs must be at least 1"),
        ({"num_envs": 3, "num_workers": 2}, "divide num_envs=3, got 2"),
        ({"num_workers": 0}, "num_workers must be at least 1"),
        ({"fall_penalty": -1.0}, "fall_penalty must not be negative"),
        ({"seed": -1}, "seed must be in"),
    ],
)
def test_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MultiwalkerEnv(**options)


def test_misuse_is_reported():
    env = MultiwalkerEnv(2, num_envs=2, seed=0)
    with pytest.raises(RuntimeError, match="reset every row"):
        step(env)
    env.reset()
    with pytest.raises(ValueError, match="not finite"):
        step(env, torch.full((2, 2, 4), float("nan")))
    with pytest.raises(ValueError, match=r"set_rng_state.*'episodes' \[2\]"):
        env.set_rng_state(MultiwalkerEnv(2, num_envs=3).get_rng_state())
    with pytest.raises(ValueError, match="set_rng_state"):
        env.set_rng_state({"torch": torch.zeros(3)})


def test_missing_pettingzoo_names_the_extra(monkeypatch):
    from vm3ac_modules.envs.pettingzoo.multiwalker import _simulator_class

    _simulator_class.cache_clear()
    monkeypatch.setattr("vm3ac_modules.extras.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"vm3ac-modules\[pettingzoo\]"):
        make_env("multiwalker_2", num_envs=1)


def test_the_import_is_lazy_quiet_and_survives_warnings_as_errors():
    code = (
        "import sys, vm3ac_modules.envs as e; e.MultiwalkerEnv, e.BatchedPettingZooEnv\n"
        "assert not {'pettingzoo', 'Box2D', 'pygame'} & set(sys.modules)\n"
        "e.MultiwalkerEnv(2).reset()\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda():
    env = make_env("multiwalker_3", num_envs=2, device="cuda", seed=0)
    check_env_specs(env)
    td = env.rollout(3)
    assert td["next"][REWARD].device.type == env.base_env.positions.device.type == "cuda"
