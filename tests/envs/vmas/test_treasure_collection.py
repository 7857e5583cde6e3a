"""Rules of treasure collection: hand-placed rows, and a loop that recomputes them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("vmas")

from contracts.treasures import ACTION, REWARD, act, build, random_action
from torchrl.envs import Compose, StepCounter, TransformedEnv
from torchrl.envs.utils import check_env_specs

from vm3ac_modules.envs import TreasureCollection, VMASEnv
from vm3ac_modules.envs.transforms import AgentInfoToRoot


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def quiet(env, **entries):
    """A state in which nothing happens, but for the entries: ``{index: value}`` in all rows."""
    env.reset()
    state = env.simulator_state()
    agents = state["positions"].shape[1]
    state["positions"][:, :, 0] = torch.linspace(-0.9, 0.9, agents)
    state["positions"][:, :, 1] = -0.9
    state["treasures"][:] = torch.tensor([0.0, 0.9])
    for name, values in entries.items():
        for i, value in values.items():
            state[name][:, i] = torch.as_tensor(value, dtype=state[name].dtype)
    env.load_simulator_state(state)


def judge(env):
    """What a step without motion pays, ``[B, N]``."""
    env.scenario.post_step()
    return torch.stack([env.scenario.reward(agent) for agent in env.scenario.world.agents], 1)


@pytest.mark.parametrize("agents", [4, 5])
def test_specs_and_shapes(agents):
    base = build(6, agents)
    check_env_specs(base)
    env = TransformedEnv(base, Compose(AgentInfoToRoot("agents"), StepCounter(100)))
    check_env_specs(env)
    td = env.rollout(120)["next"]
    assert td.shape == (6, 100)
    assert td["agents", "observation"].shape == (6, 100, agents, 8 * agents + 24)
    assert td["state"].shape == (6, 100, 8 * agents + 24)
    assert td[REWARD].shape == (6, 100, agents, 1)
    assert env.full_action_spec[ACTION].shape == (6, agents, 2)
    hunters = [f"deposits_hunter_{i}" for i in range(agents - 2)]
    assert set(td["info"].keys()) == {"collected", "deposited", "hunter_collisions", *hunters}
    for value in (td["state"], td["agents", "observation"], td[REWARD], *td["info"].values()):
        assert value.dtype is torch.float32
    assert td["truncated"][:, -1].all()
    assert not td["terminated"].any()


def test_two_hunters_on_one_treasure():
    env = build(3)
    quiet(env, positions={0: (-0.06, 0.0), 1: (0.06, 0.0)}, treasures={2: (0.0, 0.0)})
    env.scenario.colors[:, 2] = torch.tensor([0, 1, 1])
    assert judge(env).tolist() == [[5.0, 5.0, 0.0, 0.0]] * 3
    assert env.scenario.hold.tolist() == [[0, -1], [1, -1], [1, -1]]
    assert env.scenario.collected.tolist() == [1.0] * 3
    # it is gone, and hands are full: nothing more
    env.scenario.treasures[:, 2] = torch.tensor([-0.06, 0.0])
    assert judge(env).abs().sum() == 0


def test_a_hunter_takes_only_what_is_nearest():
    env = build(1)
    places = {0: (0.03, 0.0), 1: (-0.07, 0.0)}
    # the first is nearest to both hunters and goes to the first of them
    hunters = {0: (0.06, 0.0), 1: (-0.01, 0.0)}
    quiet(env, positions=hunters, treasures=places, colors={0: 0, 1: 1})
    before = env.scenario.treasures.clone()
    assert judge(env).tolist() == [[0.0, 0.0, 0.0, 0.0]]  # 5 for the treasure, -5 for touching
    assert env.scenario.hold.tolist() == [[0, -1]]
    moved = (env.scenario.treasures != before).any(-1)
    assert moved.tolist() == [[True, False, False, False, False, False]]


def test_collection_radius_and_own_reward():
    env = build(1, share_collect=False)
    quiet(env, positions={1: (0.0, 0.0)}, treasures={0: (0.0, 0.076)})
    assert judge(env).abs().sum() == 0
    quiet(env, positions={1: (0.0, 0.0)}, treasures={0: (0.0, 0.074)})
    assert judge(env).tolist() == [[0.0, 5.0, 0.0, 0.0]]


def test_deposits():
    env = build(4, agents=5)
    near = {0: (0.0, 0.0), 3: (0.124, 0.0)}
    quiet(env, positions=near)
    # nothing, the wrong color, the right one; and the right one from too far
    env.scenario.hold[:, 0] = torch.tensor([-1, 1, 0, 0])
    env.scenario.world.agents[3].state.pos[3, 0] = 0.126
    assert judge(env).tolist() == [[0.0] * 5, [0.0] * 5, [5.0] * 5, [0.0] * 5]
    assert env.scenario.hold[:, 0].tolist() == [-1, 1, -1, 0]
    assert env.scenario.deposits.tolist() == [[0.0] * 3, [0.0] * 3, [1.0, 0.0, 0.0], [0.0] * 3]


def test_two_deposits_at_once():
    env = build(1)
    pairs = {0: (0.0, 0.0), 2: (0.0, 0.1), 1: (0.5, 0.0), 3: (0.5, 0.1)}
    quiet(env, positions=pairs, hold={0: 0, 1: 1})
    assert judge(env).tolist() == [[10.0] * 4]


def test_hands_are_judged_as_they_were_before_the_step():
    env = build(1)
    quiet(env, positions={0: (0.0, 0.0), 2: (0.1, 0.0)}, treasures={0: (0.0, 0.05)}, hold={0: 0})
    env.scenario.colors[:] = 1
    # the hands that deposit do not take in the same step
    assert judge(env).tolist() == [[5.0] * 4]
    assert env.scenario.collected.item() == 0
    # and what is taken is not deposited in the same step
    env.scenario.colors[:] = 0
    assert judge(env).tolist() == [[5.0, 5.0, 0.0, 0.0]]
    assert env.scenario.hold.tolist() == [[0, -1]]
    assert judge(env).tolist() == [[5.0] * 4]


def test_collisions():
    env = build(1, agents=5)
    quiet(env, positions={0: (0.0, 0.0), 2: (0.099, 0.0)})
    assert judge(env).tolist() == [[-5.0, 0.0, -5.0, 0.0, 0.0]]
    quiet(env, positions={0: (0.0, 0.0), 2: (0.101, 0.0)})
    assert judge(env).abs().sum() == 0
    # once per step, however many are touched
    quiet(env, positions={0: (0.0, 0.0), 1: (0.0, 0.06), 2: (0.06, 0.0)})
    assert judge(env).tolist() == [[-5.0, -5.0, -5.0, 0.0, 0.0]]
    assert env.scenario.hunter_collisions.item() == 3


@pytest.mark.parametrize("counted", [False, True])
def test_touching_a_bank(counted):
    env = build(1, collide_with_banks=counted)
    quiet(env, positions={1: (0.0, 0.0), 2: (0.12, 0.0)})
    assert judge(env).tolist() == [[0.0, -5.0 * counted, 0.0, 0.0]]


def test_shaping():
    env = build(1, shaping=0.1)
    hunters = {0: (0.0, 0.0), 1: (0.0, 0.5)}
    quiet(env, positions=hunters, treasures={3: (0.3, 0.4)}, hold={1: 1})
    env.scenario.world.agents[3].state.pos[:] = torch.tensor([-0.4, 0.2])
    torch.testing.assert_close(judge(env), torch.tensor([[-0.05, -0.05, 0.0, 0.0]]))


def test_a_taken_treasure_reappears_anywhere_in_any_color():
    env = build(2000)
    quiet(env, positions={0: (0.0, 0.0)}, treasures={4: (0.0, 0.0)}, colors={4: 1})
    before = env.simulator_state()
    judge(env)
    after = env.simulator_state()
    others = [0, 1, 2, 3, 5]
    assert torch.equal(before["treasures"][:, others], after["treasures"][:, others])
    assert torch.equal(before["colors"][:, others], after["colors"][:, others])
    assert 0.45 < after["colors"][:, 4].float().mean() < 0.55
    place = after["treasures"][:, 4]
    assert 0.94 < place.abs().max() <= 0.95
    torch.testing.assert_close(place.std(0), torch.full((2,), 0.95 / 3**0.5), atol=0.02, rtol=0)
    # what was taken keeps its color
    assert (after["hold"][:, 0] == 1).all()


def test_starts():
    env = build(2000)
    env.reset()
    state = env.simulator_state()
    for name, half_width in (("positions", 1.0), ("treasures", 0.95)):
        points = state[name].flatten(0, 1)
        assert half_width - 0.01 < points.abs().max() <= half_width
        width = torch.full((2,), half_width / 3**0.5)
        torch.testing.assert_close(points.std(0), width, atol=0.01, rtol=0)
    assert 0.48 < state["colors"].float().mean() < 0.52
    assert (state["hold"] == -1).all()


def test_motion_and_walls():
    env = build(1)
    quiet(env, positions={0: (0.0, 0.0), 1: (0.99, 0.5), 2: (0.5, 0.0)})
    td = env.fake_tensordict()
    for _ in range(2):
        act(env, td, torch.tensor([[[1.0, -0.5], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]]))
    # v <- 0.75 v + 0.15 u / mass, twice; p <- p + 0.1 v
    velocities = torch.tensor([[0.2625, -0.13125], [0.2625, 0.0], [0.0, 0.2625 / 2.25], [0.0, 0.0]])
    torch.testing.assert_close(env.scenario.velocities[0], velocities)
    path = torch.tensor([[0.04125, -0.020625], [1.0, 0.5], [0.5, 0.04125 / 2.25], [0.9, -0.9]])
    torch.testing.assert_close(env.scenario.positions[0], path)


def one_hot(color):
    return [float(color == 0), float(color == 1)]


def test_observation_and_state():
    env = build(2, agents=5)
    quiet(env, hold={0: 1, 2: 0})
    action = random_action(env, torch.Generator().manual_seed(0))
    td = act(env, env.fake_tensordict(), action)["next"]
    s = {name: value[1] for name, value in env.simulator_state().items()}
    codes = [[0.0, 0.0, *one_hot(h)] for h in s["hold"].tolist()]
    codes += [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]
    colors = [x for color in s["colors"].tolist() for x in one_hot(color)]

    def seen(agent, origin):
        place = s["positions"][agent] - origin
        return [*place.tolist(), *s["velocities"][agent].tolist(), *codes[agent]]

    for i in range(5):
        own = s["positions"][i]
        row = seen(i, 0.0) + [x for j in range(5) if j != i for x in seen(j, own)]
        row += (s["treasures"] - own).flatten().tolist() + colors
        torch.testing.assert_close(td["agents", "observation"][1, i], torch.tensor(row))
    row = [x for j in range(5) for x in seen(j, 0.0)] + s["treasures"].flatten().tolist() + colors
    torch.testing.assert_close(td["state"][1], torch.tensor(row))


OPTIONS = [
    {},
    {"share_collect": False},
    {"collide_with_banks": True},
    {"shaping": 0.1},
    {"deposit_reward": 2, "collect_reward": 3, "collision_penalty": 7},
]


def expected_rewards(before, positions, hunters, options, after):
    """The rules of one row, one event at a time, in float64."""
    r1, r2 = options.get("deposit_reward", 5.0), options.get("collect_reward", 5.0)
    r3, shaping = options.get("collision_penalty", 5.0), options.get("shaping", 0.0)
    agents = len(positions)
    hold, rewards = before["hold"].copy(), np.zeros(agents)

    def far(a, b):
        return float(np.sqrt(((a - b) ** 2).sum()))

    for h in range(hunters):
        held = before["hold"][h]
        if held >= 0 and far(positions[h], positions[hunters + held]) < 0.125:
            hold[h] = -1
            rewards += r1
    taken = set()
    for h in range(hunters):
        distance = [far(positions[h], place) for place in before["treasures"]]
        best = int(np.argmin(distance))
        if before["hold"][h] == -1 and distance[best] < 0.075 and best not in taken:
            taken.add(best)
            hold[h] = before["colors"][best]
            paid = range(hunters) if options.get("share_collect", True) else [h]
            for i in paid:
                rewards[i] += r2
    for h in range(hunters):
        touched = any(far(positions[h], positions[i]) < 0.1 for i in range(hunters) if i != h)
        if options.get("collide_with_banks", False):
            touched |= any(far(positions[h], p) < 0.125 for p in positions[hunters:])
        rewards[h] -= r3 * touched
        to_go = min(far(positions[h], place) for place in after["treasures"])
        if hold[h] >= 0:
            to_go = far(positions[h], positions[hunters + hold[h]])
        rewards[h] -= shaping * to_go
    return rewards, hold, taken


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("agents", [4, 5])
def test_rewards_against_a_loop(agents, options):
    env, rows, hunters = build(300, agents, **options), 300, agents - 2
    td = env.reset()
    generator = torch.Generator().manual_seed(1)
    state = env.simulator_state()
    # crowded, so that every event happens
    state["positions"] *= 0.15
    state["treasures"] *= 0.2
    state["hold"] = torch.randint(-1, 2, (rows, hunters), generator=generator)
    env.load_simulator_state(state)
    reward = act(env, td, random_action(env, generator))["next", *REWARD].squeeze(-1)
    assert reward.dtype is torch.float32  # whole amounts make no whole rewards
    after = {name: value.numpy() for name, value in env.simulator_state().items()}
    happened = np.zeros(3)
    for row in range(rows):
        before = {name: state[name][row].numpy() for name in ("hold", "treasures", "colors")}
        now = {name: value[row] for name, value in after.items()}
        rewards, hold, taken = expected_rewards(
            before, now["positions"].astype(float), hunters, options, now
        )
        np.testing.assert_allclose(reward[row].numpy(), rewards, atol=1e-5)
        assert now["hold"].tolist() == hold.tolist()
        moved = (now["treasures"] != before["treasures"]).any(-1)
        assert set(np.flatnonzero(moved)) == taken
        assert now["collected"] == len(taken)
        happened += [len(taken), now["deposits"].sum(), now["hunter_collisions"]]
    assert (happened > 30).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_agents": 2}, "num_agents must be at least 3"),
        ({"shaping": -0.1}, "shaping must not be negative"),
        ({"collision_penalty": -5}, "collision_penalty must not be negative"),
        ({"share_collect": "no"}, "share_collect is true or false"),
        ({"collide_with_banks": None}, "collide_with_banks is true or false"),
        ({"num_treasures": 8}, "num_treasures"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        VMASEnv(TreasureCollection(), num_envs=1, **options)
