"""``VMASEnv``: environments that do not disturb each other, and their state in a checkpoint."""
# ruff: noqa: NPY002 - VMAS draws from the legacy global generator, so it is what is tested

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

pytest.importorskip("vmas")

from torchrl.envs.libs.vmas import VmasEnv
from torchrl.envs.utils import step_mdp

from vm3ac_modules.envs import PredatorPrey, VMASEnv, make_env
from vm3ac_modules.testing import pretended_device

NAMES = ["predator_prey_2", "vmas/simple_spread", "vmas/football"]


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def globals_now():
    return torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()


def assert_globals(before):
    now = globals_now()
    assert torch.equal(before[0], now[0])
    assert (before[1] == now[1]).all()
    assert before[2] == now[2]


def resets(env, between=lambda: None):
    seen = []
    for _ in range(3):
        seen.append(env.reset()["agents", "observation"])
        between()
    return torch.stack(seen)


@pytest.mark.parametrize("name", NAMES)
def test_a_second_environment_changes_nothing(name):
    alone = resets(make_env(name, num_envs=2, seed=0))

    def disturb():
        second = make_env(name, num_envs=3, seed=9)
        second.rollout(2)
        second.set_seed(4)
        VmasEnv("simple_spread", num_envs=2, seed=3).reset()

    assert torch.equal(alone, resets(make_env(name, num_envs=2, seed=0), disturb))
    # not because every reset is the same
    assert not torch.equal(alone[0], alone[1])


def test_others_are_not_disturbed():
    def plain():
        return VmasEnv("simple_spread", num_envs=2, seed=0)

    alone = resets(plain())

    def disturb():
        for name in NAMES:
            env = make_env(name, num_envs=2, seed=1)
            env.rollout(2)
            env.set_seed(2)

    assert torch.equal(alone, resets(plain(), disturb))


@pytest.mark.parametrize("name", NAMES)
def test_the_callers_streams_are_left_alone(name):
    before = globals_now()
    env = make_env(name, num_envs=2, seed=0)
    action = env.full_action_spec["agents", "action"].zero()
    env.step(env.reset().set(("agents", "action"), action))
    env.set_seed(3)
    assert_globals(before)


def test_streams_are_restored_after_an_error():
    env = VMASEnv("balance", num_envs=2, seed=0)
    td = env.reset()
    before = globals_now()
    with pytest.raises(AssertionError, match="out of its range"):
        env.step(td.set(("agents", "action"), torch.full((2, 3, 2), 9.0)))
    assert_globals(before)


@pytest.mark.parametrize("wrong", [1.5, -1.5, float("nan")])
def test_an_action_out_of_its_range_is_named(wrong):
    env = make_env("predator_prey_3", num_envs=4, seed=0)
    action = torch.zeros(4, 3, 2)
    action[2, 1, 0] = wrong
    with pytest.raises(ValueError, match=r"agent_1 in row 2 is \[(-?1\.5|nan), 0\.0\], out of"):
        env.step(env.reset().set(("agents", "action"), action))


def test_an_action_out_of_its_range_is_clamped_where_a_look_would_wait():
    rewards = []
    for size in (1.0, 9.0):
        with pretended_device() as device:
            env = make_env("predator_prey_3", num_envs=4, seed=0, device=device)
            action = torch.full((4, 3, 2), size, device=device)
            td = env.step(env.reset().set(("agents", "action"), action))
            rewards.append(td["next", "agents", "observation"].cpu())
    assert torch.equal(*rewards)


def play(env, td, steps, seed):
    """Scripted steps, and the last tensordict."""
    generator = torch.Generator().manual_seed(seed)
    spec = env.full_action_spec["agents", "action"]
    seen = []
    for _ in range(steps):
        unit = torch.rand(spec.shape, generator=generator)
        action = spec.space.low + unit * (spec.space.high - spec.space.low)
        full, td = env.step_and_maybe_reset(td.set(("agents", "action"), action))
        seen.append(full["next"].exclude("episode"))
    return torch.stack(seen), td


def test_going_on_from_a_checkpoint(tmp_path):
    env = make_env("predator_prey_3", num_envs=4, seed=0, max_steps=12)
    # two steps into the second episode: before the metric of step five is taken
    _, td = play(env, env.reset(), 14, seed=1)
    saved = {
        "simulator": env.simulator_state(),
        "rng": env.get_rng_state(),
        "transform": env.state_dict(),
        "td": td.clone(),
    }
    torch.save({k: v for k, v in saved.items() if k != "td"}, tmp_path / "env.pt")
    first, _ = play(env, td, 20, seed=2)
    # the run went on, and the copies did not
    assert not torch.equal(env.simulator_state()["positions"], saved["simulator"]["positions"])

    other = make_env("predator_prey_3", num_envs=4, seed=99, max_steps=12)
    other.reset()
    loaded = torch.load(tmp_path / "env.pt", weights_only=True)
    other.load_simulator_state(loaded["simulator"])
    other.set_rng_state(loaded["rng"])
    other.load_state_dict(loaded["transform"])
    second, _ = play(other, saved["td"], 20, seed=2)
    assert bool((first == second).all())
    assert first["done"].any()  # so that the restored stream was drawn from


def test_partial_reset_leaves_a_saved_state_alone():
    env = make_env("predator_prey_2", num_envs=2, seed=0)
    td = env.reset()
    state = env.simulator_state()
    kept = {key: value.clone() for key, value in state.items()}
    env.load_simulator_state(state)
    td = env.reset(td.set("_reset", torch.tensor([[True], [False]])))
    play(env, td, 3, seed=0)
    for key, value in kept.items():
        assert torch.equal(state[key], value), key


@pytest.mark.parametrize("name", ["vmas/simple_spread", "vmas/transport"])
def test_stock_simulator_state(name):
    env = make_env(name, num_envs=3, seed=0)
    _, td = play(env, env.reset(), 5, seed=1)
    state, rng = env.simulator_state(), env.get_rng_state()
    assert set(state) == {"pos", "vel", "rot", "ang_vel", "env_steps"}
    first, _ = play(env, td.clone(), 4, seed=2)
    other = make_env(name, num_envs=3, seed=8)
    other.reset()
    other.load_simulator_state(state)
    other.set_rng_state(rng)
    second, _ = play(other, td.clone(), 4, seed=2)
    key = ("agents", "observation")
    torch.testing.assert_close(first[key], second[key])
    assert torch.equal(env.reset()[key], other.reset()[key])


@pytest.mark.parametrize("name", NAMES)
def test_rng_state_round_trip(name):
    env = make_env(name, num_envs=2, seed=0)
    state = env.get_rng_state()
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    first = resets(env)
    env.set_rng_state(state)
    assert torch.equal(first, resets(env))


def test_numpy_and_python_streams_round_trip():
    from vm3ac_modules.envs.vmas._streams import RandomStreams

    device = torch.device("cpu")
    caller = RandomStreams.current(device)
    try:
        RandomStreams.seeded(3, device).install(device)
        np.random.standard_normal(), random.gauss(0, 1)  # one normal draw waits in each
        state = RandomStreams.current(device).to_tensors()
        draws = [
            (torch.rand(2).tolist(), np.random.standard_normal(3).tolist(), random.gauss(0, 1))
            for _ in range(2)
            if RandomStreams.from_tensors(state).install(device) is None
        ]
    finally:
        caller.install(device)
    assert draws[0] == draws[1]


def test_seeding_is_that_of_the_libraries():
    from vm3ac_modules.envs.vmas._streams import RandomStreams

    device = torch.device("cpu")
    seeded = RandomStreams.seeded(11, device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        assert torch.equal(seeded.torch_state, torch.get_rng_state())
    assert seeded.python_state == random.Random(11).getstate()
    assert (seeded.numpy_state[1] == np.random.RandomState(11).get_state()[1]).all()


def test_states_that_do_not_fit():
    env = make_env("predator_prey_2", num_envs=2, seed=0)
    stock = make_env("vmas/simple_spread", num_envs=2, seed=0)
    with pytest.raises(ValueError, match=r"load_simulator_state.*alive"):
        env.load_simulator_state(stock.simulator_state())
    with pytest.raises(ValueError, match=r"'positions' has shape .*num_envs"):
        env.load_simulator_state(make_env("predator_prey_2", num_envs=3).simulator_state())
    with pytest.raises(ValueError, match=r"set_rng_state.*generator"):
        env.set_rng_state(stock.get_rng_state())


def test_max_steps_is_refused():
    with pytest.raises(ValueError, match="StepCounter"):
        VMASEnv("balance", num_envs=1, max_steps=10)
    with pytest.raises(ValueError, match="num_envs"):
        VMASEnv("balance", num_envs=0)


def test_moving_keeps_the_stream():
    env = VMASEnv(PredatorPrey(), num_envs=2, seed=0)
    env.reset()
    expected = VMASEnv(PredatorPrey(), num_envs=2, seed=0)
    expected.reset()
    assert torch.equal(env.to("cpu").reset()["state"], expected.reset()["state"])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", NAMES)
def test_on_cuda(name):
    torch.manual_seed(0)
    before = torch.cuda.get_rng_state()
    env = make_env(name, num_envs=3, device="cuda", seed=0)
    alone = resets(env)
    state = env.get_rng_state()
    after = resets(env)
    env.set_rng_state(state)
    assert torch.equal(after, resets(env))
    again = make_env(name, num_envs=3, device="cuda", seed=0)
    assert torch.equal(alone, resets(again, lambda: make_env(name, num_envs=2, device="cuda")))
    action = env.full_action_spec["agents", "action"].zero()
    td = step_mdp(env.step(env.reset().set(("agents", "action"), action)))
    assert td["agents", "observation"].device.type == "cuda"
    env.to("cpu").reset()
    assert env.reset()["agents", "observation"].device.type == "cpu"
    assert torch.equal(before, torch.cuda.get_rng_state())
