"""A z that is held for an episode: who draws it, who reads it, how it is played."""

from __future__ import annotations

import pytest
import torch
from torchrl.envs.utils import ExplorationType, set_exploration_type

pytest.importorskip("vmas")

import vm3ac_modules as vm
from vm3ac_modules.algorithms import build
from vm3ac_modules.envs import make_env
from vm3ac_modules.evaluation import evaluate, measure_coordination
from vm3ac_modules.objectives import MASACLoss

ROWS, STEPS = 4, 5
ALGORITHMS = ["vm3ac_tight", "ma_sac_latent"]


def game(rows=ROWS):
    return make_env("guarded_rendezvous", rows, seed=0, horizon=STEPS)


def held(algorithm, env, **options):
    options = {"hidden": [8], "latent_dim": 3, "latent_held": True, **options}
    agent = build(algorithm, env, **options)
    return agent, agent.wrap(env)


def played(agent, env, mode="sample", steps=2 * STEPS):
    with set_exploration_type(ExplorationType.DETERMINISTIC):
        return env.rollout(steps, agent.policy.with_latent(mode), break_when_any_done=False)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("mode", ["sample", "independent", "synchronized"])
def test_z_changes_with_the_episode_only(algorithm, mode):
    agent, env = held(algorithm, game())
    z = played(agent, env, mode)["latent"].reshape(ROWS, 2, STEPS, -1)
    assert bool((z == z[:, :, :1]).all())
    first = z[:, :, 0]
    assert not torch.equal(first[:, 0], first[:, 1])
    assert not torch.equal(first[0], first[1])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_critics_read_the_stored_z_and_actions_are_drawn_under_it(algorithm):
    agent, env = held(algorithm, game())
    assert "latent" in agent.recorded
    assert ("next", "latent") in agent.recorded
    batch = played(agent, env).reshape(-1)
    noise = agent.loss.draw_noise(batch)
    before = agent.loss(batch, noise)
    other = batch.clone()
    other["latent"] = -batch["latent"]
    after = agent.loss(other, noise)
    for name in ("loss_actor", "loss_qvalue", "loss_value"):
        assert not torch.equal(before[name], after[name])
    # The target of Q is the value under the next state's z.
    other = batch.clone()
    other["next", "latent"] = -batch["next", "latent"]
    after = agent.loss(other, noise)
    assert not torch.equal(before["loss_qvalue"], after["loss_qvalue"])
    assert torch.equal(before["loss_actor"], after["loss_actor"])


def test_seeds_side_by_side_hold_a_z_each():
    agent, env = held("vm3ac_tight", game(2 * ROWS), seeds=2)
    batch = played(agent, env)
    assert batch["latent"].shape == (2 * ROWS, 2 * STEPS, 3)
    losses = agent.loss(batch.reshape(2, -1))
    assert losses["loss_actor"].shape == (2,)
    assert bool(losses["loss_actor"].isfinite().all())


def test_evaluations_play_it_in_every_way():
    agent, env = held("vm3ac_tight", game())
    assert agent.policy.latent_per_episode
    returns = {
        mode: evaluate(agent.policy, env, max_steps=STEPS, seed=3, latent=mode).returns
        for mode in ("sample", "synchronized", "independent", "mean")
    }
    assert not torch.equal(returns["synchronized"], returns["independent"])
    again = evaluate(agent.policy, env, max_steps=STEPS, seed=3, latent="sample").returns
    assert torch.equal(returns["sample"], again)
    found = measure_coordination(agent, env, max_steps=STEPS, seed=1)
    assert "once per episode" in found.note


def test_a_step_s_z_is_as_it_was():
    env = game()
    agent = build("vm3ac_tight", env, hidden=[8], latent_dim=3)
    assert not agent.policy.latent_per_episode
    z = played(agent, agent.wrap(env))["latent"]
    assert not torch.equal(z[:, 0], z[:, 1])


def test_a_loss_that_draws_its_own_z_refuses_one_that_is_held():
    agent, _ = held("vm3ac_tight", game())
    critics = vm.make_action_value(11, 2, 2), vm.make_state_value(11, 2)
    with pytest.raises(ValueError, match="held for an episode, and the loss draws its own"):
        MASACLoss(agent.policy.module, *critics)
