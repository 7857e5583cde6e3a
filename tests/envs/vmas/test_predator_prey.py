"""Rules of predator-prey on hand-placed rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("vmas")

from torchrl.envs.utils import check_env_specs, step_mdp

from vm3ac_modules.envs import ExpandDone, PredatorPrey, VMASEnv, make_env

CASES = {
    "predator_prey_2": (2, 1),
    "predator_prey_3": (3, 1),
    "predator_prey_4": (4, 2),
}
AXIS = torch.tensor([-0.4, -0.4 + 0.8 / 3, 0.4 - 0.8 / 3, 0.4])
LATTICE = torch.cartesian_prod(AXIS, AXIS)
FAR = (0.0, 0.0)  # farther than 0.125 from every prey


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def place(env, positions):
    """Put the predators of all rows at ``positions`` [B, N, 2]."""
    positions = torch.as_tensor(positions, dtype=torch.float32)
    for i, agent in enumerate(env.scenario.world.agents):
        agent.set_pos(positions[:, i].clone(), batch_index=None)


def step(env, td, action=None):
    """One step; ``action`` [B, N, 2] defaults to standing still."""
    zero = torch.zeros_like(env.full_action_spec["agents", "action"].zero())
    td = td.clone().set(("agents", "action"), zero if action is None else action)
    return env.step(td)["next"]


def small(rows, agents, needed, **kwargs):
    env = VMASEnv(
        PredatorPrey(), num_envs=rows, num_agents=agents, captures_needed=needed, seed=0, **kwargs
    )
    return env, env.reset()


@pytest.mark.parametrize("name", CASES)
def test_specs_and_shapes(name):
    agents, _ = CASES[name]
    env = make_env(name, num_envs=5, seed=0)
    check_env_specs(env)
    td = env.rollout(3)
    assert td["agents", "observation"].shape == (5, 3, agents, 2 * agents + 49)
    assert td["agents", "action"].shape == (5, 3, agents, 2)
    assert td["next", "agents", "reward"].shape == (5, 3, agents, 1)
    assert td["next", "state"].shape == (5, 3, 2 * agents + 17)
    for key in ("done", "terminated", "truncated"):
        assert td["next", key].shape == (5, 3, 1)
        assert td["next", key].dtype is torch.bool
        assert ("agents", key) not in td.keys(True)
    for key in ("captures", "waves", "distance_after_5"):
        assert td["next", "info", key].shape == (5, 3, 1)
    assert ("agents", "info") not in td.keys(True)
    spec = env.full_action_spec["agents", "action"]
    assert (spec.space.low == -1).all()
    assert (spec.space.high == 1).all()


def test_specs_with_expanded_done():
    check_env_specs(make_env("predator_prey_2", num_envs=3, seed=0).append_transform(ExpandDone()))


def test_motion_and_wall():
    env, td = small(1, 2, 1)
    place(env, [[[0.0, 0.0], [0.48, -0.49]]])
    action = torch.tensor([[[1.0, -0.5], [1.0, -1.0]]])
    env.step(td.clone().set(("agents", "action"), action))
    torch.testing.assert_close(
        env.scenario.positions, torch.tensor([[[0.05, -0.025], [0.5, -0.5]]])
    )
    # kinematic: nothing of the last velocity is left
    step(env, td)
    torch.testing.assert_close(env.scenario.positions[0, 0], torch.tensor([0.05, -0.025]))


def test_captures_need_enough_predators():
    env, td = small(3, 4, 2)
    prey = LATTICE[5].tolist()
    near = [prey[0] + 0.12, prey[1]]
    place(env, [[near, FAR, FAR, FAR], [near, prey, FAR, FAR], [near, prey, prey, FAR]])
    out = step(env, td)
    reward = out["agents", "reward"].squeeze(-1)
    # one is too few; two are paid once; a third changes nothing
    assert reward.tolist() == [[0.0] * 4, [10.0] * 4, [10.0] * 4]
    assert env.scenario.alive[0].all()
    assert not env.scenario.alive[1, 5]
    assert env.scenario.alive[1].sum() == 15
    # a caught prey pays no more
    assert step(env, td)["agents", "reward"].abs().sum() == 0


def test_capture_radius():
    env, td = small(2, 1, 1)
    prey = LATTICE[0]
    place(env, [[(prey + torch.tensor([0.124, 0.0])).tolist()], [(prey + 0.09).tolist()]])
    # 0.09 * sqrt(2) = 0.127 is too far
    assert step(env, td)["agents", "reward"].flatten().tolist() == [10.0, 0.0]


def leave_one(env, levels):
    """Rows with one prey left, number 15, at the given levels."""
    state = env.simulator_state()
    state["alive"][:] = False
    state["alive"][:, 15] = True
    state["level"] = torch.tensor(levels)
    env.load_simulator_state(state)


@pytest.mark.parametrize(
    ("options", "levels"),
    [
        ({}, [2.0, 4.0]),
        ({"growth": "linear", "growth_increment": 0.5}, [1.5, 3.5]),
        ({"growth": "double"}, [2.0, 6.0]),
        ({"growth": "none"}, [1.0, 3.0]),
    ],
)
def test_last_prey_is_paid_at_the_old_level(options, levels):
    env, td = small(2, 2, 1, **options)
    leave_one(env, [1.0, 3.0])
    prey = LATTICE[15].tolist()
    place(env, [[prey, FAR], [prey, FAR]])
    out = step(env, td)
    assert out["agents", "reward"].squeeze(-1).tolist() == [[10.0, 10.0], [30.0, 30.0]]
    assert env.scenario.level.tolist() == levels
    assert env.scenario.alive.all()
    assert out["agents", "info", "waves"][:, 0].flatten().tolist() == [1.0, 1.0]
    # respawned preys can be caught from the next step on, at the new level
    paid = step(env, td)["agents", "reward"][:, 0, 0]
    assert paid.tolist() == [10 * level for level in levels]


def test_rows_of_different_waves():
    env, td = small(2, 2, 1)
    leave_one(env, [1.0, 1.0])
    prey = LATTICE[15].tolist()
    place(env, [[prey, FAR], [FAR, FAR]])
    out = step(env, td)
    assert out["agents", "reward"][:, 0, 0].tolist() == [10.0, 0.0]
    assert env.scenario.level.tolist() == [2.0, 1.0]
    assert env.scenario.alive.sum(-1).tolist() == [16, 1]


def test_observation_and_state():
    env, td = small(1, 3, 1)
    place(env, [[LATTICE[2].tolist(), FAR, [0.0, -0.5]]])
    out = step(env, td)
    own, others, preys, alive, level = out["agents", "observation"][0, 1].split([2, 4, 32, 16, 1])
    mask = torch.ones(16)
    mask[2] = 0
    torch.testing.assert_close(own, torch.tensor(FAR))
    torch.testing.assert_close(others, torch.tensor([*LATTICE[2].tolist(), 0.0, -0.5]))
    torch.testing.assert_close(preys.reshape(16, 2), LATTICE * mask[:, None])
    torch.testing.assert_close(alive, mask)
    assert level.item() == 0.25
    expected = torch.cat([env.scenario.positions[0].flatten(), mask, torch.tensor([0.25])])
    torch.testing.assert_close(out["state"][0], expected)


@pytest.mark.parametrize("start", ["auto", "independent", "shared", "center"])
@pytest.mark.parametrize("name", ["predator_prey_2", "predator_prey_4"])
def test_starts(name, start):
    env = make_env(name, num_envs=500, seed=0, start=start)
    env.reset()
    positions = env.scenario.positions
    same = bool((positions == positions[:, :1]).all())
    shared = start in ("shared", "center") or (start == "auto" and name == "predator_prey_2")
    assert same is shared
    assert torch.cdist(positions, LATTICE).min() > 0.15
    assert positions.abs().max() <= 0.5
    if start == "center":
        assert positions.abs().max() == 0
    else:
        assert positions.flatten(0, 1).std(0).min() > 0.2


def test_starts_are_uniform_where_they_may_be():
    env = make_env("predator_prey_4", num_envs=1000, seed=0)
    env.reset()
    anywhere = torch.rand(400_000, 2, generator=torch.Generator().manual_seed(1)) - 0.5
    clearances = [torch.cdist(x, LATTICE).amin(-1) for x in (env.scenario.positions, anywhere)]
    found, expected = (x[x > 0.15].numpy() for x in clearances)
    # The median has a standard error of 0.0006; the farthest candidates would be at 0.188.
    assert np.median(found) == pytest.approx(np.median(expected), abs=0.003)
    assert (found > 0.17).mean() == pytest.approx((expected > 0.17).mean(), abs=0.03)


def test_a_start_without_a_candidate_far_enough_is_the_farthest(monkeypatch):
    """The clearance by hand: every candidate's distance to the sixteen preys."""
    drawn = {}

    def draw(self, shape, half_width, env_index=None):
        generator = torch.Generator().manual_seed(0)
        # Close to one prey each, so that none is far enough.
        preys = LATTICE[torch.arange(shape[0] * shape[1]) % 16].reshape(*shape[:2], 1, 2)
        drawn["points"] = preys + 0.1 * (torch.rand(shape, generator=generator) - 0.5)
        return drawn["points"]

    monkeypatch.setattr(PredatorPrey, "uniform", draw)
    env = make_env("predator_prey_4", num_envs=4, seed=0)
    env.reset()
    clearance = torch.cdist(drawn["points"], LATTICE).amin(-1)
    best = clearance.argmax(-1)
    expected = drawn["points"].gather(2, best[..., None, None].expand(-1, -1, 1, 2)).squeeze(2)
    assert torch.equal(env.scenario.positions, expected)


def test_partial_reset_starts_one_row_anew():
    env, td = small(3, 2, 1)
    prey = LATTICE[0].tolist()
    place(env, [[prey, FAR]] * 3)
    out = step(env, td)
    before = env.simulator_state()
    td = out.set("_reset", torch.tensor([[False], [True], [False]]))
    reset = env.reset(td)
    after = env.simulator_state()
    assert after["captures"].tolist() == [1.0, 0.0, 1.0]
    assert after["alive"].sum(-1).tolist() == [15, 16, 15]
    torch.testing.assert_close(after["positions"][[0, 2]], before["positions"][[0, 2]])
    assert torch.cdist(after["positions"][1], LATTICE).min() > 0.15
    assert reset["state"][1, 4:20].sum() == 16


def test_a_shared_start_is_not_shared_memory():
    env, _ = small(2, 2, 1, start="shared")
    before = env.scenario.positions
    env.scenario.world.agents[0].set_pos(torch.tensor(FAR), batch_index=0)
    assert env.scenario.positions[0, 0].tolist() == list(FAR)
    assert torch.equal(env.scenario.positions[0, 1], before[0, 1])


def test_dispersion_is_taken_at_step_five():
    env, td = small(2, 3, 1, start="center")
    action = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]]).expand(2, 3, 2)
    seen = [
        step(env, td, action)["agents", "info", "distance_after_5"][0, 0].item() for _ in range(7)
    ]
    # 0.25 either way: distances 0.5, 0.25, 0.25
    assert seen[:4] == [0.0] * 4
    assert seen[4:] == pytest.approx([1 / 3] * 3)


def test_rows_do_not_depend_on_each_other():
    outcomes = []
    for value in (1.0, -1.0):
        env = make_env("predator_prey_4", num_envs=6, seed=0)
        generator = torch.Generator().manual_seed(0)
        td, rewards = env.reset(), []
        for _ in range(40):
            action = torch.rand((6, 4, 2), generator=generator) * 2 - 1
            action[0] = value
            td = env.step(td.set(("agents", "action"), action))
            rewards.append(td["next", "agents", "reward"])
            td = step_mdp(td)
        outcomes.append((torch.stack(rewards), td["agents", "observation"]))
    (rewards, last), (other_rewards, other_last) = outcomes
    assert not torch.equal(last[0], other_last[0])
    assert torch.equal(rewards[:, 1:], other_rewards[:, 1:])
    assert torch.equal(last[1:], other_last[1:])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_agents": 0}, "num_agents"),
        ({"captures_needed": 3}, "captures_needed"),
        ({"captures_needed": 0}, "captures_needed"),
        ({"num_preys": 9}, "num_preys"),
        ({"growth": "square"}, "growth"),
        ({"growth": "double", "growth_increment": 2}, "growth_increment"),
        ({"start": "corner"}, "start"),
        ({"radius": 1}, "radius"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        VMASEnv(PredatorPrey(), num_envs=1, **options)
