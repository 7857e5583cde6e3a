"""The schedule of influence, and the learner of MAVEN's prior."""

from __future__ import annotations

import copy

import pytest
import torch
from contracts.loss_contract import LATENT_DIM, OBS_DIM
from contracts.maven import make_maven_parts
from contracts.si_moa import make_simoa_parts
from tensordict import TensorDict
from torch.nn.functional import one_hot

from vm3ac_modules.algorithms import SIMOA
from vm3ac_modules.baselines import MAVENLoss, SIMOALoss
from vm3ac_modules.learning import Hook, LatentPolicyLearner
from vm3ac_modules.learning.hooks import MAX_ADVANTAGE, Schedule

X = 2 * OBS_DIM


def test_a_hook_does_nothing_by_itself():
    hook = Hook()
    hook.before_collect(10)
    hook.after_update(TensorDict())
    hook.after_step(TensorDict(batch_size=[3, 1]), 10)
    hook.load_state_dicts([hook.state_dict(0)])
    assert hook.logged == ()
    assert hook.optimizer is None
    assert hook.scalars().shape == (1, 0)


# --- coefficients that follow the frames ------------------------------------------------------


def test_a_schedule_sets_every_buffer_before_a_collection():
    buffers = [torch.zeros(()), torch.zeros(2)]
    schedule = Schedule("floor", lambda frames: 1 / (1 + frames), lambda: buffers)
    assert schedule.logged == ("floor",)
    # Nothing is set by itself, and nothing is said before.
    assert schedule.scalars().isnan().all()
    schedule.before_collect(3)
    assert [buffer.tolist() for buffer in buffers] == [0.25, [0.25, 0.25]]
    assert schedule.scalars().tolist() == [[0.25]]
    # A loss that was moved holds other buffers.
    buffers[0] = torch.zeros((), dtype=torch.float64)
    schedule.before_collect(1)
    assert buffers[0].item() == 0.5
    # It depends on the frames alone, so a resumed run has nothing to put back.
    assert schedule.state_dict(0) == {}


# --- influence --------------------------------------------------------------------------------


def influence(loss, start, full):
    return SIMOA(influence_start_frames=start, influence_full_frames=full).rising(loss)


@pytest.mark.parametrize(
    ("start", "full", "shares"),
    [
        (100, 300, {0: 0, 99: 0, 100: 0, 150: 0.25, 200: 0.5, 299: 0.995, 300: 1, 9999: 1}),
        (0, 200, {0: 0, 50: 0.25, 200: 1}),
        (50, 50, {49: 0, 50: 1, 51: 1}),
        (0, 0, {0: 1, 1: 1}),
    ],
)
def test_influence_rises_linearly(start, full, shares):
    loss = SIMOALoss(*make_simoa_parts(), influence_weight=0.4)
    schedule = influence(loss, start, full)
    assert loss.terms[0].weight == 0.0
    schedule.before_collect(10_000)
    assert loss.terms[0].weight == 0.0
    assert schedule.logged == ()
    for frames, share in shares.items():
        schedule.after_step(TensorDict(batch_size=[3, 1]), frames)
        assert float(loss.terms[0].weight) == pytest.approx(0.4 * share)


def test_influence_of_a_loss_that_was_cast_later():
    loss = SIMOALoss(*make_simoa_parts(), influence_weight=0.5)
    schedule = influence(loss, 0, 100)
    loss.double()
    schedule.after_step(TensorDict(batch_size=[3, 1]), 50)
    assert float(loss.terms[0].weight) == 0.25
    assert loss.terms[0].weight.dtype == torch.float64


@pytest.mark.parametrize(
    ("start", "said"),
    [(100, "influence_full_frames, got 100 and 50"), (-1, "must be an integer >= 0, got -1")],
)
def test_frames_of_the_influence_are_in_order(start, said):
    with pytest.raises(ValueError, match=said):
        influence(SIMOALoss(*make_simoa_parts()), start, 50)


# --- the prior of the latent ------------------------------------------------------------------


def make_learner(*, seeds=1, episodes=4, lr=1e-2, **prior):
    stack = {} if seeds == 1 else {"stack_shape": (seeds,)}
    loss = MAVENLoss(*make_maven_parts(**stack, **prior), seed_dims=len(stack))
    return LatentPolicyLearner(loss, lr=lr, episodes=episodes, seeds=seeds)


def one_step(returns, done=None, *, situation=None, outcome=None):
    """One step of all rows, ``[R, 1]``; the agents' returns differ and have this mean."""
    rows = len(returns)
    returns = torch.as_tensor(returns).float().reshape(rows, 1, 1, 1)
    done = [True] * rows if done is None else done
    outcome = torch.arange(rows) % LATENT_DIM if outcome is None else outcome
    situation = torch.randn(rows, X) if situation is None else situation
    following = {
        "done": torch.tensor(done).reshape(rows, 1, 1),
        "agents": {"episode_reward": torch.cat((returns - 1.0, returns + 1.0), dim=-2)},
    }
    return TensorDict(
        {
            "situation": situation.unsqueeze(1),
            "latent": one_hot(outcome, LATENT_DIM).float().unsqueeze(1),
            "next": following,
        },
        [rows, 1],
    )


@pytest.fixture
def watched(monkeypatch):
    """Record what the learner hands to its loss."""

    def watch(learner):
        calls, original = [], learner.loss.latent_policy_loss

        def record(situation, latent, advantage):
            calls.append((situation, latent, advantage))
            return original(situation, latent, advantage)

        monkeypatch.setattr(learner.loss, "latent_policy_loss", record)
        return calls

    return watch


def parameters(learner):
    return [p.detach().clone() for p in learner.loss.latent_policy_network_params.parameters()]


def test_groups_of_exactly_as_many_episodes(watched):
    learner = make_learner(episodes=4)
    calls, before = watched(learner), parameters(learner)
    steps = [one_step(range(3)), one_step(range(2)), one_step(range(8))]
    learner.after_step(steps[0], 0)
    # Rows whose episode goes on are not counted.
    learner.after_step(one_step(range(5), [False] * 5), 0)
    assert not calls
    assert all(torch.equal(a, b) for a, b in zip(parameters(learner), before, strict=True))
    learner.after_step(steps[1], 0)
    assert len(calls) == 1
    assert all((a != b).any() for a, b in zip(parameters(learner), before, strict=True))
    learner.after_step(steps[2], 0)
    assert len(calls) == 3
    assert [len(queue) for queue in learner.queues] == [1]
    # In the order in which they ended, each once.
    for index, name in enumerate(("situation", "latent")):
        expected = torch.cat([step[name].squeeze(1) for step in steps])
        assert torch.equal(torch.cat([call[index] for call in calls]), expected[:12])


def test_only_rows_that_ended_are_collected(watched):
    learner = make_learner(episodes=2)
    calls, steps = watched(learner), one_step(range(4), [False, True, False, True])
    learner.after_step(steps, 0)
    [(situation, latent, _)] = calls
    assert torch.equal(situation, steps["situation"].squeeze(1)[[1, 3]])
    assert torch.equal(latent, steps["latent"].squeeze(1)[[1, 3]])


def test_returns_are_compared_with_a_running_mean(watched):
    learner = make_learner(episodes=2)
    calls = watched(learner)
    learner.after_step(one_step([1.0, 3.0]), 0)
    assert learner.baseline.tolist() == [2.0]
    learner.after_step(one_step([6.0, 10.0]), 0)
    assert learner.baseline.tolist() == pytest.approx([0.9 * 2.0 + 0.1 * 8.0])
    deviations = 2.0**0.5, 8.0**0.5
    expected = [[(r - 2.0) / deviations[0] for r in (1.0, 3.0)]]
    expected += [[(r - 2.6) / deviations[1] for r in (6.0, 10.0)]]
    torch.testing.assert_close(torch.stack([a for _, _, a in calls]), torch.tensor(expected))


def test_a_group_of_equal_returns_off_the_mean_is_no_blow(watched):
    learner = make_learner(episodes=2)
    calls = watched(learner)
    for returns in ([0.0, 0.0], [1.0, 0.0], [0.0, 0.0]):
        learner.after_step(one_step(returns), 0)
    first, _, last = (advantage for _, _, advantage in calls)
    assert first.tolist() == [0.0, 0.0]
    assert last.tolist() == [-MAX_ADVANTAGE, -MAX_ADVANTAGE]
    assert learner.scalars().abs().max() < 100


def test_every_seed_is_waited_for_and_learns_alone(watched):
    learner = make_learner(seeds=2, episodes=2)
    calls, before = watched(learner), parameters(learner)
    alone = [make_learner(episodes=2) for _ in range(2)]
    for seed, single in enumerate(alone):
        own = single.loss.latent_policy_network_params
        with torch.no_grad():
            for mine, stacked in zip(own.parameters(), before, strict=True):
                mine.copy_(stacked[seed])
    # Rows 0-2 are the first seed's, rows 3-5 the second's.
    steps = one_step([0.0, 1.0, 5.0, 2.0, 7.0, 3.0], [True, True, True, False, True, False])
    learner.after_step(steps, 0)
    assert not calls
    assert [len(queue) for queue in learner.queues] == [3, 1]
    last = one_step([9.0, 9.0, 9.0, 4.0, 9.0, 9.0], [False, False, False, True, False, False])
    learner.after_step(last, 0)
    [(situation, _, _)] = calls
    assert torch.equal(situation[0], steps["situation"][:2].squeeze(1))
    assert torch.equal(situation[1, 0], steps["situation"][4, 0])
    assert torch.equal(situation[1, 1], last["situation"][3, 0])
    assert [len(queue) for queue in learner.queues] == [1, 0]
    assert learner.baseline.tolist() == [0.5, 5.5]
    for seed, single in enumerate(alone):
        single.after_step(steps[3 * seed : 3 * seed + 3], 0)
        single.after_step(last[3 * seed : 3 * seed + 3], 0)
        for mine, stacked in zip(parameters(single), parameters(learner), strict=True):
            torch.testing.assert_close(stacked[seed], mine)
        torch.testing.assert_close(learner.scalars()[seed], single.scalars()[0])


def test_the_outcome_with_the_higher_return_is_preferred():
    # Which one it is depends on where the episode begins.
    learner = make_learner(episodes=16, lr=1e-2, hidden=(16,))
    prior = learner.loss.latent_policy_network
    with torch.no_grad():
        for parameter in prior.net.net.layers[-1].parameters():
            parameter.zero_()
    sign = torch.tensor([1.0, -1.0]).repeat(8)
    best = torch.where(sign > 0, 0, 2)
    situation = sign.unsqueeze(-1) * torch.ones(X)

    def preference():
        p = prior.distribution(situation).probs.detach()
        return p[torch.arange(16), best]

    assert (preference() == 1 / LATENT_DIM).all()
    for _ in range(150):
        outcome = prior.distribution(situation).sample().argmax(-1)
        returns = (outcome == best).float() + 0.5 * torch.randn(16)
        learner.after_step(one_step(returns, situation=situation, outcome=outcome), 0)
    assert (preference() > 0.9).all()
    assert learner.scalars()[0, 1] < 0.5  # nats, from log 3


def test_what_is_reported():
    learner = make_learner(episodes=2)
    assert learner.scalars().shape == (1, len(learner.logged))
    assert learner.scalars().isnan().all()
    steps = one_step([0.0, 1.0])
    situation, latent = (steps[name].squeeze(1) for name in ("situation", "latent"))
    advantage = torch.tensor([-0.5, 0.5]) * 2.0**0.5
    expected = learner.loss.latent_policy_loss(situation, latent, advantage)
    learner.after_step(steps, 0)
    torch.testing.assert_close(learner.scalars()[0], torch.stack(expected).detach())
    assert not learner.scalars().requires_grad


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_learner_goes_on_from_its_state(seeds):
    learner, other = (make_learner(seeds=seeds, episodes=4) for _ in range(2))
    rows = 3 * seeds
    for _ in range(3):
        learner.after_step(one_step(torch.randn(rows)), 0)
    other.loss.load_state_dict(learner.loss.state_dict())
    other.optimizer.load_state_dict(copy.deepcopy(learner.optimizer.state_dict()))
    saved = [learner.state_dict(seed) for seed in range(seeds)]
    assert [len(state["queue"]) for state in saved] == [1] * seeds
    other.load_state_dicts(saved)
    # What was saved is a copy.
    kept = [state["baseline"].clone() for state in saved]
    for _ in range(2):
        steps = one_step(torch.randn(rows))
        for each in (learner, other):
            each.after_step(steps, 0)
    assert torch.equal(torch.stack(kept), torch.stack([state["baseline"] for state in saved]))
    assert [len(state["queue"]) for state in saved] == [1] * seeds
    assert torch.equal(learner.baseline, other.baseline)
    for mine, theirs in zip(parameters(learner), parameters(other), strict=True):
        assert torch.equal(mine, theirs)


def test_one_episode_has_nothing_to_compare():
    with pytest.raises(ValueError, match=r"latent_episodes must be at least 2 .*, got 1"):
        make_learner(episodes=1)


def test_episodes_of_an_environment(watched):
    pytest.importorskip("vmas")
    from vm3ac_modules.algorithms import build
    from vm3ac_modules.envs import make_env

    env = make_env("predator_prey_2", num_envs=3, seed=0, max_steps=4)
    agent = build("maven", env, hidden=[8], latent_dim=LATENT_DIM, latent_episodes=3)
    env, [learner] = agent.wrap(env), agent.hooks
    calls, td, played = watched(learner), env.reset(), []
    for t in range(4):
        assert not calls
        full, td = env.step_and_maybe_reset(env.rand_action(td))
        played.append(full)
        learner.after_step(full.unsqueeze(1), 3 * t)
    [(situation, latent, _)] = calls
    assert torch.equal(situation, played[0]["agents", "observation"].flatten(-2))
    assert torch.equal(latent, played[0]["latent"])
    total = torch.stack([step["next", "agents", "reward"] for step in played]).sum(0).mean((-2, -1))
    torch.testing.assert_close(learner.baseline, total.mean().reshape(1))
