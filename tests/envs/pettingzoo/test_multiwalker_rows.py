"""Rows of multi-walker: seeds, resets, checkpoints and workers, and none that disturbs another."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("Box2D")

from contracts.multiwalker import ACTION, GROUND, REWARD, SEEN, actions, bodies, play, step
from tensordict import TensorDict
from torchrl.envs import StepCounter, TransformedEnv

from vm3ac_modules.envs import MultiwalkerEnv


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def pushes(env):
    """Speed that the first step, with motors off, gives each row's walkers, ``[B, N]``."""
    env.reset()
    step(env)
    rows = range(env.batch_size[0])
    return torch.tensor([[h.linearVelocity.x for h in bodies(env, b)[2]] for b in rows])


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
