"""Rules of cooperative navigation: hand-placed rows, and a loop that recomputes them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("vmas")

from contracts.navigation import ACTION, REWARD, act, build, greedy, random_action, still
from torchrl.envs import Compose, StepCounter, TransformedEnv
from torchrl.envs.utils import check_env_specs

from vm3ac_modules.envs import CooperativeNavigation, VMASEnv
from vm3ac_modules.envs.transforms import AgentInfoToRoot


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def place(env, positions, landmarks, velocities=0.0):
    """The same layout, ``[N, 2]`` each, in all rows."""
    env.reset()
    state = env.simulator_state()
    layout = {"positions": positions, "landmarks": landmarks, "velocities": velocities}
    for name, value in layout.items():
        state[name][:] = torch.as_tensor(value)
    env.load_simulator_state(state)


def judge(env):
    """What a step without motion pays, ``[B, N]``."""
    env.scenario.post_step()
    return torch.stack([env.scenario.reward(agent) for agent in env.scenario.world.agents], 1)


@pytest.mark.parametrize("agents", [1, 3, 5])
def test_specs_and_shapes(agents):
    base = build(6, agents)
    check_env_specs(base)
    env = TransformedEnv(base, Compose(AgentInfoToRoot("agents"), StepCounter(50)))
    check_env_specs(env)
    td = env.rollout(60)["next"]
    assert td.shape == (6, 50)
    assert td["agents", "observation"].shape == (6, 50, agents, 4 * agents + 2)
    assert td["state"].shape == (6, 50, 6 * agents)
    assert td[REWARD].shape == (6, 50, agents, 1)
    assert env.full_action_spec[ACTION].shape == (6, agents, 2)
    assert set(td["info"].keys()) == {"occupied", "dist", "all_occupied", "collisions"}
    for value in (td["state"], td["agents", "observation"], td[REWARD], *td["info"].values()):
        assert value.dtype is torch.float32
    assert td["truncated"][:, -1].all()
    assert not td["terminated"].any()


FAR = [[-0.5, 0.0], [0.0, 0.5], [0.5, 0.0]]


def test_three_agents_on_three_landmarks():
    env = build(2)
    place(env, FAR, [FAR[2], FAR[0], FAR[1]])
    assert judge(env).tolist() == [[1.0, 1.0, 1.0]] * 2
    # and still after a step of the simulator
    td = act(env, still(env))["next"]
    assert td[REWARD].flatten(1).tolist() == [[1.0, 1.0, 1.0]] * 2
    info = td["agents", "info"][:, 0]
    expected = {"occupied": 3.0, "dist": 0.0, "all_occupied": 1.0, "collisions": 0.0}
    assert {name: info[name][1].item() for name in expected} == expected


def test_every_landmark_has_to_be_occupied():
    env = build(1)
    # one agent on two landmarks is enough for both; the third decides
    close = [[-0.5, 0.05], [-0.5, -0.05]]
    place(env, FAR, [*close, [0.5, 0.099]])
    torch.testing.assert_close(judge(env), torch.full((1, 3), 1 - 0.199))
    place(env, FAR, [*close, [0.5, 0.101]])
    torch.testing.assert_close(judge(env), torch.full((1, 3), -0.201))
    assert env.scenario.occupied.item() == 2


def test_occupied_radius_and_amounts():
    env = build(1, occupied_radius=0.3, occupied_reward=4.0, collision_penalty=2.0)
    near = [[-0.5, 0.0], [-0.5, 0.25], [0.5, 0.0]]
    place(env, near, [[-0.5, 0.0], [-0.5, 0.25], [0.5, 0.29]])
    expected = torch.tensor([[4 - 0.29 - 2.0, 4 - 0.29 - 2.0, 4 - 0.29]])
    torch.testing.assert_close(judge(env), expected)


@pytest.mark.parametrize(("per_pair", "middle"), [(False, -10.0), (True, -20.0)])
def test_overlapping_agents_pay(per_pair, middle):
    env = build(1, per_pair=per_pair)
    pair = [[0.0, 0.0], [0.8, 0.0], [0.299, 0.0]]
    place(env, pair, pair)
    assert judge(env).tolist() == [[-9.0, 1.0, -9.0]]  # all landmarks are occupied
    apart = [[0.0, 0.0], [0.8, 0.0], [0.301, 0.0]]
    place(env, apart, apart)
    assert judge(env).tolist() == [[1.0, 1.0, 1.0]]
    # the one in the middle touches two
    row = [[0.0, 0.0], [0.2, 0.0], [0.4, 0.0]]
    place(env, row, row)
    assert judge(env).tolist() == [[-9.0, middle + 1, -9.0]]
    assert env.scenario.collisions.item() == 2  # pairs, whatever is paid


def test_agent_radius():
    env = build(1, agent_radius=0.05)
    row = [[0.0, 0.0], [0.2, 0.0], [0.299, 0.0]]
    place(env, row, row)
    assert judge(env).tolist() == [[1.0, -9.0, -9.0]]


def test_agents_collide_in_the_simulator():
    env = build(1)
    start = [[-0.2, 0.0], [0.2, 0.0], [0.0, 2.0]]
    place(env, start, start, velocities=[[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]])
    rewards = [act(env, still(env))["next", *REWARD].flatten() for _ in range(6)]
    # they meet at 0.25, near their landmarks still, and bounce off
    torch.testing.assert_close(rewards[0], torch.tensor([-9.15, -9.15, 0.85]))
    assert rewards[5].min() > -5


@pytest.mark.parametrize("force", [5.0, 1.0])
def test_motion_has_inertia_and_no_walls(force):
    env = build(1, u_multiplier=force)
    place(env, [[0.0, 0.0], [5.0, 5.0], [0.0, -5.0]], FAR)
    action = torch.tensor([[[1.0, -0.5], [1.0, 0.0], [0.0, 0.0]]])
    for _ in range(2):
        act(env, action)
    # v <- 0.75 v + 0.1 * force * u, twice; p <- p + 0.1 v
    velocity, way = 0.175 * force * action[0], 0.0275 * force * action[0]
    torch.testing.assert_close(env.scenario.velocities[0], velocity)
    start = torch.tensor([[0.0, 0.0], [5.0, 5.0], [0.0, -5.0]])
    torch.testing.assert_close(env.scenario.positions[0], start + way)


def test_observation_and_state():
    env = build(2)
    env.reset()
    td = act(env, random_action(env, torch.Generator().manual_seed(0)))["next"]
    s = {name: value[1] for name, value in env.simulator_state().items()}
    positions, velocities, landmarks = s["positions"], s["velocities"], s["landmarks"]
    for i in range(3):
        own = positions[i]
        others = [positions[j] - own for j in range(3) if j != i]
        row = [own, velocities[i], *(landmarks - own), *others]
        torch.testing.assert_close(td["agents", "observation"][1, i], torch.cat(row))
    row = [positions.flatten(), velocities.flatten(), landmarks.flatten()]
    torch.testing.assert_close(td["state"][1], torch.cat(row))
    assert velocities.abs().min() > 0


OPTIONS = [
    {},
    {"per_pair": True},
    {"occupied_radius": 0.3, "occupied_reward": 3.0, "collision_penalty": 2.0},
    {"agent_radius": 0.075},
]


def expected_rewards(positions, landmarks, options):
    """The rules of one row in float64: rewards, landmarks occupied, distance, pairs."""

    def far(a, b):
        return float(np.sqrt(((a - b) ** 2).sum()))

    nearest = [min(far(p, landmark) for p in positions) for landmark in landmarks]
    occupied = sum(d < options.get("occupied_radius", 0.1) for d in nearest)
    shared = -sum(nearest)
    if occupied == len(landmarks):
        shared += options.get("occupied_reward", 1.0)
    rewards, pairs = [], 0
    for i, own in enumerate(positions):
        reach = 2 * options.get("agent_radius", 0.15)
        touched = sum(far(own, p) < reach for j, p in enumerate(positions) if j != i)
        times = touched if options.get("per_pair", False) else min(touched, 1)
        rewards.append(shared - options.get("collision_penalty", 10.0) * times)
        pairs += touched / 2
    return rewards, occupied, sum(nearest), pairs


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("agents", [3, 5])
def test_rewards_against_a_loop(agents, options):
    rows = 300
    env = build(rows, agents, **options)
    env.reset()
    state = env.simulator_state()
    # crowded, so that every event happens
    state["positions"] *= 0.35
    state["landmarks"] *= torch.linspace(0.0, 0.3, rows)[:, None, None]
    env.load_simulator_state(state)
    td = act(env, random_action(env, torch.Generator().manual_seed(1)))["next"]
    positions = env.scenario.positions.double().numpy()
    info = {name: value[:, 0, 0].numpy() for name, value in td["agents", "info"].items()}
    full = 0
    for row in range(rows):
        landmarks = state["landmarks"][row].double().numpy()
        rewards, occupied, distance, pairs = expected_rewards(positions[row], landmarks, options)
        np.testing.assert_allclose(td[REWARD][row].flatten().numpy(), rewards, atol=1e-5)
        np.testing.assert_allclose(info["dist"][row], distance, atol=1e-5)
        assert info["occupied"][row] == occupied
        assert info["collisions"][row] == pairs
        assert info["all_occupied"][row] == (occupied == agents)
        full += occupied == agents
    assert full > 3
    assert info["collisions"].sum() > 30


def test_rates_are_means_over_the_steps_so_far():
    env = build(16)
    env.reset()
    full, pairs = [], []
    for _ in range(30):
        info = act(env, greedy(env))["next", "agents", "info"][:, 0]
        positions = env.scenario.positions
        full.append((info["occupied"] == 3).float())
        pairs.append((torch.cdist(positions, positions) < 0.3).triu(1).sum((1, 2)).float())
        torch.testing.assert_close(info["all_occupied"].flatten(), torch.cat(full, 1).mean(1))
        torch.testing.assert_close(info["collisions"].flatten(), torch.stack(pairs).mean(0))
    assert 0 < info["all_occupied"].mean() < 1
    assert info["collisions"].max() > 0
    assert env.reset()["agents", "info", "all_occupied"].abs().sum() == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_agents": 0}, "num_agents must be at least 1"),
        ({"per_pair": "yes"}, "per_pair is true or false"),
        ({"occupied_radius": 0.0}, "occupied_radius must be positive"),
        ({"agent_radius": -0.1}, "agent_radius must be positive"),
        ({"u_multiplier": 0}, "u_multiplier must be positive"),
        ({"collision_penalty": -10}, "collision_penalty must not be negative"),
        ({"min_landmark_dist": 0.6}, r"min_landmark_dist must be in \[0, 0.564\]"),
        ({"min_landmark_dist": -0.1}, "min_landmark_dist"),
        ({"num_landmarks": 4}, "num_landmarks"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        VMASEnv(CooperativeNavigation(), num_envs=1, **options)
