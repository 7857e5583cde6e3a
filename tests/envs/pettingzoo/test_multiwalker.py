"""Multi-walker: the paper's reward on PettingZoo's simulator, and rows that do not disturb another.

Bodies are moved by hand where a fall, a drop or an arrival is wanted: random play takes its time.
"""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

pytest.importorskip("Box2D")

from tensordict import TensorDict
from torchrl.envs import StepCounter, TransformedEnv
from torchrl.envs.utils import check_env_specs

from vm3ac_modules.envs import MultiwalkerEnv, make_env
from vm3ac_modules.envs._rows import EpisodeSeeds, headless
from vm3ac_modules.evaluation import evaluate

ACTION, REWARD, SEEN = ("agents", "action"), ("agents", "reward"), ("agents", "observation")
GROUND = 3.4


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def actions(env, steps, seed=7):
    """Actions from a stream of their own, ``[steps, B, N, 4]``."""
    generator = torch.Generator().manual_seed(seed)
    shape = env.full_action_spec[ACTION].shape
    return torch.rand(steps, *shape, generator=generator) * 2 - 1


def step(env, action=None):
    action = torch.zeros(env.full_action_spec[ACTION].shape) if action is None else action
    return env.step(TensorDict({ACTION: action}, env.batch_size))["next"]


def play(env, joint):
    """The steps that these actions lead to, with resets, ``[B, steps]``."""
    td, seen = env.reset(), []
    for action in joint:
        full, td = env.step_and_maybe_reset(td.set(ACTION, action))
        seen.append(full)
    return torch.stack(seen, dim=1)


def bodies(env, row=0):
    simulator = env.simulators[row].env
    return simulator, simulator.package, [walker.hull for walker in simulator.walkers]


def pushes(env):
    """Speed that the first step, with motors off, gives each row's walkers, ``[B, N]``."""
    env.reset()
    step(env)
    rows = range(env.batch_size[0])
    return torch.tensor([[h.linearVelocity.x for h in bodies(env, b)[2]] for b in rows])


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


def test_seeds_determine_everything():
    def steps(seed, joint_seed=7):
        env = MultiwalkerEnv(2, num_envs=2, seed=seed)
        return play(env, actions(env, 10, joint_seed))

    first = steps(1)
    torch.rand(5)  # the caller's stream does not matter
    assert bool((first == steps(1)).all())
    assert not torch.equal(first["state"][:, 1], steps(2)["state"][:, 1])


def test_set_seed_equals_construction():
    env = MultiwalkerEnv(2, num_envs=2, seed=1)
    env.rollout(5)
    env.set_seed(3, static_seed=True)
    fresh = MultiwalkerEnv(2, num_envs=2, seed=3)
    for _ in range(2):
        assert torch.equal(env.reset()[SEEN], fresh.reset()[SEEN])


def test_unseeded_follows_the_callers_seed():
    torch.manual_seed(0)
    first, second = (MultiwalkerEnv(2).reset()[SEEN] for _ in range(2))
    assert not torch.equal(first, second)
    torch.manual_seed(0)
    assert torch.equal(MultiwalkerEnv(2).reset()[SEEN], first)


def test_a_second_environment_changes_nothing():
    def steps(disturb):
        env = MultiwalkerEnv(2, num_envs=2, seed=0)
        td, seen = env.reset(), []
        for action in actions(env, 8):
            disturb()
            td = env.step(td.set(ACTION, action))["next"]
            seen.append(td.clone())
        return torch.stack(seen)

    def second():
        MultiwalkerEnv(3, num_envs=1, seed=9).rollout(2)

    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    alone = steps(lambda: None)
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # noqa: NPY002
    assert bool((alone == steps(second)).all())


def test_rows_do_not_depend_on_each_other():
    def steps(num_envs, change):
        env = MultiwalkerEnv(2, num_envs=num_envs, seed=0)
        joint = actions(MultiwalkerEnv(2, num_envs=3), 12)[:, :num_envs].clone()
        joint[:, 0] += change
        return play(env, joint.clamp(-1, 1)).select("next", SEEN)

    plain, other, fewer = steps(3, 0.0), steps(3, 0.9), steps(2, 0.0)
    assert bool((plain[1:] == other[1:]).all())
    assert not torch.equal(plain[0]["next", *REWARD], other[0]["next", *REWARD])
    assert bool((plain[:2] == fewer).all())


def test_every_episode_has_its_own_push():
    env = MultiwalkerEnv(2, num_envs=3, seed=0)
    seen = torch.stack([pushes(env) for _ in range(3)])
    assert seen[..., 0].flatten().unique().numel() == 9
    # not because walkers of one episode differ: the library gives them the same push
    torch.testing.assert_close(seen[..., 0], seen[..., 1], atol=1e-3, rtol=1e-2)


def test_partial_reset():
    def steps(mask):
        env = MultiwalkerEnv(2, num_envs=3, seed=0)
        joint = actions(env, 10)
        td = env.reset()
        for action in joint[:5]:
            td = env.step(td.set(ACTION, action))["next"]
        before = td.clone()
        if mask is not None:
            td = env.reset(td.set("_reset", torch.tensor(mask).unsqueeze(-1)))
        after = td.clone()
        for action in joint[5:]:
            td = env.step(td.set(ACTION, action))["next"]
        return before, after, td

    _, _, plain = steps(None)
    before, after, last = steps([False, True, False])
    for kept in (0, 2):
        assert bool((before[kept].select("state", SEEN) == after[kept].select("state", SEEN)).all())
        assert bool((last[kept] == plain[kept]).all())
    assert after["info", "package_distance"][1] == 0
    assert not torch.equal(last["state"][1], plain["state"][1])
    # the row's second episode, as after a reset of all rows
    whole = MultiwalkerEnv(2, num_envs=3, seed=0)
    whole.reset()
    assert torch.equal(whole.reset()["state"][1], after["state"][1])


def test_a_row_that_is_over_waits():
    env = MultiwalkerEnv(2, num_envs=2, seed=0)
    env.reset()
    _, _, hulls = bodies(env)
    hulls[0].transform = ((hulls[0].position.x, GROUND), 0.0)
    over, later = step(env), step(env)
    assert over["done"].flatten().tolist() == later["done"].flatten().tolist() == [True, False]
    assert torch.equal(over["state"][0], later["state"][0])
    assert not later[REWARD][0].any()
    assert not torch.equal(over["state"][1], later["state"][1])
    # what a rollout that waits for all rows needs
    td = env.rollout(200, break_when_any_done=False, break_when_all_done=True)
    assert td["next", "done"].any(1).all()


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


def test_rng_state_goes_on_with_the_next_episodes():
    env = MultiwalkerEnv(2, num_envs=3, seed=0)
    td = env.reset()
    env.reset(td.set("_reset", torch.tensor([[True], [False], [False]])))
    state = env.get_rng_state()
    assert state["episodes"].tolist() == [2, 1, 1]
    joint = actions(env, 5)
    first = play(env, joint)
    other = MultiwalkerEnv(2, num_envs=3, seed=99)
    other.rollout(3)
    other.set_rng_state(state)
    assert bool((first == play(other, joint)).all())
    assert state["episodes"].tolist() == [2, 1, 1]  # a copy


def test_workers_give_the_same_transitions(monkeypatch):
    monkeypatch.setattr("torchrl._THREAD_POOL_INIT", 4)  # what TorchRL would restore at the end
    joint = actions(MultiwalkerEnv(2, num_envs=4), 90)
    runs, places, states, resets = [], [], [], []
    for num_workers in (1, 2):
        base = MultiwalkerEnv(2, num_envs=4, seed=3, num_workers=num_workers)
        env = TransformedEnv(base, StepCounter(70))
        runs.append(play(env, joint))
        places.append(base.positions)
        # a worker that resets no row answers with what its rows are like now
        env.reset()
        mask = torch.tensor([[True], [False], [False], [False]])
        resets.append(base._reset(TensorDict({"_reset": mask}, [4])))
        states.append(base.get_rng_state()["episodes"].tolist())
        if num_workers > 1:
            # so that a program that forgets to close can end
            assert all(process.daemon for process in base._rows.env._workers)
        env.close()
        assert torch.get_num_threads() == 1
    assert bool((runs[0] == runs[1]).all())
    # rows ended at different times, by falls and by the limit, so that resets were partial
    assert runs[0]["next", "terminated"].any()
    assert runs[0]["next", "truncated"].any()
    assert torch.equal(*places)
    assert bool((resets[0] == resets[1]).all())
    assert states[0] == states[1]


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
