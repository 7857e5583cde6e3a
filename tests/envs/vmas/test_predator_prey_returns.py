"""What scripted and random players of predator-prey earn, against known orders of magnitude."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("vmas")

from torchrl.envs.utils import step_mdp

from vm3ac_modules.envs import make_env

CASES = {"predator_prey_2": 1, "predator_prey_3": 1, "predator_prey_4": 2}
AXIS = torch.tensor([-0.4, -0.4 + 0.8 / 3, 0.4 - 0.8 / 3, 0.4])
LATTICE = torch.cartesian_prod(AXIS, AXIS)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def greedy(env, pair):
    """Each player goes to the nearest alive prey that no earlier player goes to.

    A player is one predator, or the mean of two neighbors in order where a capture needs two.
    """
    positions, alive = env.scenario.positions, env.scenario.alive
    rows, agents, _ = positions.shape
    players = positions.reshape(rows, agents // pair, pair, 2).mean(2)
    free, targets = alive.clone(), []
    for i in range(players.shape[1]):
        distance = torch.cdist(players[:, i : i + 1], LATTICE.expand(rows, 16, 2)).squeeze(1)
        # where none is free, share a target
        allowed = torch.where(free.any(-1, keepdim=True), free, alive)
        choice = distance.masked_fill(~allowed, 9.0).argmin(-1)
        free = free.scatter(1, choice[:, None], False)
        targets.append(LATTICE[choice])
    target = torch.stack(targets, 1).repeat_interleave(pair, 1)
    return ((target - positions) / 0.05).clamp(-1, 1)


def mean_return(name, policy, rows=128):
    env = make_env(name, num_envs=rows, seed=0)
    generator = torch.Generator().manual_seed(0)
    td, total = env.reset(), 0.0
    for _ in range(100):
        td = env.step(td.set(("agents", "action"), policy(env, generator)))
        total = total + td["next", "agents", "reward"].mean(1)
        td = step_mdp(td)
    assert td["done"].all()
    return total.mean().item()


@pytest.mark.parametrize(
    ("name", "lowest"),
    [("predator_prey_2", 800), ("predator_prey_3", 1200), ("predator_prey_4", 900)],
)
def test_greedy_return(name, lowest):
    pair = CASES[name]
    assert mean_return(name, lambda env, _: greedy(env, pair)) > lowest


@pytest.mark.parametrize("name", CASES)
def test_random_return(name):
    def random(env, generator):
        shape = env.full_action_spec["agents", "action"].shape
        return torch.rand(shape, generator=generator) * 2 - 1

    value = mean_return(name, random)
    assert 15 < value < 90
