"""Rows of SMAX: seeds, resets and checkpoints, and none that disturbs another."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch

# importorskip would import it, with its greetings and before the settings of JAX are made
if find_spec("jaxmarl") is None:
    pytest.skip("needs the extra smax", allow_module_level=True)

from contracts.smax import ACTION, MAP, MASK, REWARD, ROWS, SEEN, STOP, play, same, step
from tensordict import TensorDict

from vm3ac_modules.envs import SMAXEnv, env_rng_state, set_env_rng_state


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def test_seeds(env):
    first = play(env, 15)
    env.set_seed(3)
    assert (first == play(env, 15)).all()
    env.set_seed(4)
    other = play(env, 15)
    assert not same(first["state"][:, 0], other["state"][:, 0])
    starts = first["state"][:, 0]
    assert len(starts.unique(dim=0)) == ROWS
    assert SMAXEnv(MAP, ROWS, seed=3).get_rng_state()["seed"] == 3
    # the default generator is not touched but for a seed that is not given
    torch.manual_seed(0)
    draw = torch.rand(1)
    torch.manual_seed(0)
    env.set_seed(3)
    env.reset()
    step(env, torch.full((ROWS, 3), STOP))
    assert torch.rand(1) == draw


def test_rows_do_not_disturb_another(env):
    def course(others, resets):
        env.set_seed(3)
        td, seen = env.reset(), []
        for t in range(12):
            action = torch.full((ROWS, 3), others)
            action[0] = 1
            td = step(env, action)
            seen.append(td.exclude(REWARD)[0].clone())
            if resets and t % 3 == 0:
                mask = torch.arange(ROWS).reshape(-1, 1) == 1 + t % 2
                env.reset(TensorDict({"_reset": mask}, env.batch_size))
        return torch.stack(seen)

    assert (course(STOP, False) == course(1, True)).all()


def test_partial_reset(env):
    env.reset()
    for _ in range(5):
        last = step(env, torch.full((ROWS, 3), 1))
    mask = torch.zeros(ROWS, 1, dtype=torch.bool)
    mask[[1, 4]] = True
    now = env.reset(last.exclude(REWARD).set("_reset", mask))
    kept = ~mask[:, 0]
    for key in (SEEN, "state", MASK, "done"):
        assert same(now[key][kept], last[key][kept])
    moved = (now["state"] != last["state"]).any(-1)
    assert same(moved, mask[:, 0])
    # the rows that went on go on from where they were
    env.set_seed(3)
    env.reset()
    for _ in range(6):
        undisturbed = step(env, torch.full((ROWS, 3), 1))
    env.set_seed(3)
    env.reset()
    for _ in range(5):
        last = step(env, torch.full((ROWS, 3), 1))
    env.reset(last.exclude(REWARD).set("_reset", mask))
    after = step(env, torch.full((ROWS, 3), 1))
    assert same(after["state"][kept], undisturbed["state"][kept])


def test_the_last_step_shows_the_end_and_not_the_next_start(env):
    td = env.rollout(150, break_when_any_done=False)
    ends = td["next", "done"][:, :-1, 0]
    assert ends.any()
    last, start = td["next"][:, :-1][ends], td[:, 1:][ends]
    assert (last["info", "dead_allies"] == 3).all()
    assert not start["info", "dead_allies"].any()
    assert (last["state"] != start["state"]).any(-1).all()


def test_what_is_handed_out_is_not_what_the_environment_keeps(env):
    clean = play(env, 6)
    env.set_seed(3)
    td = env.reset()
    for t in range(6):
        td = env.step(td.set(ACTION, clean[ACTION][:, t].clone()))["next"]
        assert same(td["state"], clean["next", "state"][:, t])
        for value in td.values(True, True):
            value.zero_()


def test_streams_go_on_from_a_checkpoint(env):
    env.reset()
    env.reset(TensorDict({"_reset": torch.arange(ROWS).reshape(-1, 1) < 2}, [ROWS]))
    state = {name: value.clone() for name, value in env_rng_state(env).items()}
    assert state["episodes"].tolist() == [2, 2, 1, 1, 1, 1]
    expected = play(env, 4)
    env.set_seed(8)
    env.reset()
    set_env_rng_state(env, state)
    assert (play(env, 4) == expected).all()
    with pytest.raises(ValueError, match="needs 'seed'"):
        env.set_rng_state({"seed": torch.tensor(0), "episodes": torch.zeros(2)})
