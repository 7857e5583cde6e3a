"""Episodes of cooperative navigation: starts, seeds, rows, checkpoints, known returns."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("vmas")

from contracts.navigation import build, greedy, play, random_action, still
from contracts.seeds import check_seeds


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def test_starts():
    env = build(2000)
    env.reset()
    for points in (env.scenario.positions.flatten(0, 1), env.scenario.landmarks.flatten(0, 1)):
        assert 0.99 < points.abs().max() <= 1.0
        torch.testing.assert_close(points.std(0), torch.full((2,), 3**-0.5), atol=0.02, rtol=0)
    assert env.scenario.velocities.abs().max() == 0


def nearest_landmarks(env):
    env.reset()
    return torch.stack([torch.pdist(row) for row in env.scenario.landmarks]).amin(-1)


@pytest.mark.parametrize(("agents", "spacing"), [(3, 0.3), (3, 0.56), (5, 0.3)])
def test_landmarks_keep_their_distance(agents, spacing):
    assert nearest_landmarks(build(500, agents)).min() < 0.1
    env = build(500, agents, min_landmark_dist=spacing)
    nearest = nearest_landmarks(env)
    assert spacing <= nearest.min() < spacing + 0.05
    assert 0.9 < env.scenario.landmarks.abs().max() <= 1.0


def test_seeds():
    check_seeds(build, lambda env: play(env, greedy, 10)[0])


def test_rows_do_not_depend_on_each_other():
    def first_row(sign):
        def policy(env, _):
            action = greedy(env)
            action[0] *= sign
            return action

        env = build(6)
        return play(env, policy)[0], env.reset()["state"]

    (rewards, start), (others, same_start) = first_row(1.0), first_row(-1.0)
    assert not torch.equal(rewards[:, 0], others[:, 0])
    assert torch.equal(rewards[:, 1:], others[:, 1:])
    assert torch.equal(start, same_start)


@pytest.mark.parametrize("spacing", [0.0, 0.3])
def test_partial_reset_starts_one_row_anew(spacing):
    env = build(3, min_landmark_dist=spacing)
    play(env, greedy)
    before = env.simulator_state()
    env.load_simulator_state(before)  # copied: the reset leaves it as it is
    env.reset(env.fake_tensordict().set("_reset", torch.tensor([[False], [True], [False]])))
    after = env.simulator_state()
    for name, value in after.items():
        assert torch.equal(value[[0, 2]], before[name][[0, 2]]), name
    zero = {"steps", "occupied", "distance", "full_steps", "collisions", "velocities", "env_steps"}
    assert set(after) == zero | {"positions", "landmarks"}
    for name in zero:
        assert after[name][1].abs().sum() == 0, name
    for name in ("positions", "landmarks"):
        assert (after[name][1] != before[name][1]).all(), name


def test_going_on_from_a_checkpoint():
    env = build(4)
    play(env, greedy, 5)
    state, stream = env.simulator_state(), env.get_rng_state()
    first, info = play(env, random_action, 5, fresh=False)
    start = env.reset()["state"]
    other = build(4, seed=9)
    other.reset()
    other.load_simulator_state(state)
    other.set_rng_state(stream)
    second, other_info = play(other, random_action, 5, fresh=False)
    assert torch.equal(first, second)
    assert bool((info == other_info).all())
    assert torch.equal(start, other.reset()["state"])


@pytest.mark.parametrize(
    ("policy", "options", "lowest", "highest"),
    [
        (random_action, {}, -132.0, -106.0),
        (still, {}, -106.0, -86.0),
        (greedy, {}, -32.0, -10.0),
        (greedy, {"agent_radius": 0.075}, 13.0, 25.0),
        (greedy, {"u_multiplier": 1.0}, -54.0, -32.0),
        (greedy, {"min_landmark_dist": 0.3}, 24.0, 33.0),
    ],
)
def test_known_returns(policy, options, lowest, highest):
    rewards, _ = play(build(256, **options), policy)
    assert lowest < rewards.sum(0).mean().item() < highest


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda():
    options = {"device": "cuda", "min_landmark_dist": 0.3}
    env = build(3, **options)
    rewards, info = play(env, greedy)
    assert rewards.device.type == info["dist"].device.type == "cuda"
    torch.testing.assert_close(rewards, play(build(3, **options), greedy)[0])
    assert play(env.to("cpu"), greedy, 3)[0].device.type == "cpu"
