"""Episodes of treasure collection: metrics, seeds, rows, checkpoints, known returns."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("vmas")

from contracts.seeds import check_seeds
from contracts.treasures import build, greedy, play, random_action


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def test_metrics_account_for_the_rewards():
    rewards, info = play(build(32, agents=5), greedy)
    events = {name: value.squeeze(-1) for name, value in info.items()}
    assert all(value.min() > 0 for value in (events["collected"], events["deposited"]))
    assert events["hunter_collisions"].sum() > 0
    per_hunter = sum(events[f"deposits_hunter_{i}"] for i in range(3))
    assert torch.equal(per_hunter, events["deposited"])
    team = 5 * (5 * events["deposited"] + 3 * events["collected"] - events["hunter_collisions"])
    torch.testing.assert_close(rewards.sum((0, 2)), team)


def test_seeds():
    check_seeds(build, lambda env: play(env, greedy, 40)[0])


def test_rows_do_not_depend_on_each_other():
    def first_row(sign):
        def policy(env, _):
            action = greedy(env)
            action[0] *= sign
            return action

        env = build(6)
        rewards, info = play(env, policy, 60)
        return rewards, env.simulator_state()["treasures"], info["collected"]

    (rewards, treasures, collected), (others, places, fewer) = first_row(1.0), first_row(-1.0)
    assert collected[0] > fewer[0]  # so that one row drew treasures that the other did not
    assert torch.equal(rewards[:, 1:], others[:, 1:])
    assert torch.equal(treasures[1:], places[1:])


def test_partial_reset_starts_one_row_anew():
    env = build(3)
    play(env, greedy, 60)
    before = env.simulator_state()
    assert (before["collected"] > 0).all()
    env.load_simulator_state(before)  # copied: the reset leaves it as it is
    env.reset(env.fake_tensordict().set("_reset", torch.tensor([[False], [True], [False]])))
    after = env.simulator_state()
    for name, value in after.items():
        assert torch.equal(value[[0, 2]], before[name][[0, 2]]), name
    for name in ("collected", "deposits", "hunter_collisions", "velocities", "env_steps"):
        assert after[name][1].abs().sum() == 0, name
    assert (after["hold"][1] == -1).all()
    for name in ("positions", "treasures"):
        assert (after[name][1] != before[name][1]).all(), name


def test_going_on_from_a_checkpoint():
    env = build(4)
    _, info = play(env, greedy, 30)
    state, stream = env.simulator_state(), env.get_rng_state()
    first, later = play(env, greedy, 40, td=env.fake_tensordict())
    # so that the restored stream is drawn from, and its treasures are fetched
    assert (later["collected"] > info["collected"] + 2).any()
    other = build(4, seed=9)
    other.reset()
    other.load_simulator_state(state)
    other.set_rng_state(stream)
    assert torch.equal(first, play(other, greedy, 40, td=other.fake_tensordict())[0])


@pytest.mark.parametrize(
    ("agents", "policy", "lowest", "highest"),
    [
        (4, random_action, -1.0, 3.0),
        (4, greedy, 50.0, 66.0),
        (5, random_action, -1.5, 4.0),
        (5, greedy, 68.0, 92.0),
    ],
)
def test_known_returns(agents, policy, lowest, highest):
    rewards, _ = play(build(256, agents), policy)
    assert lowest < rewards.sum(0).mean().item() < highest


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda():
    env = build(3, device="cuda", shaping=0.1)
    rewards, info = play(env, greedy, 40)
    assert rewards.device.type == info["collected"].device.type == "cuda"
    again = play(build(3, device="cuda", shaping=0.1), greedy, 40)[0]
    torch.testing.assert_close(rewards, again)
    assert play(env.to("cpu"), greedy, 3)[0].device.type == "cpu"
