"""Epsilon-greedy play: its probabilities, its memory, and the greedy action in every case."""

from __future__ import annotations

import pytest
import torch
from contracts.episode_contract import ACTIONS, OBS
from contracts.recurrent import AGENTS, HIDDEN, LATENT, ROWS, observe
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import one_hot
from torchrl.envs import TensorDictPrimer
from torchrl.envs.utils import ExplorationType, set_exploration_type

from vm3ac_modules.functional import ILLEGAL, masked_log_softmax
from vm3ac_modules.keys import Keys, MissingKeysError
from vm3ac_modules.modules.utility_actor import (
    EpsilonGreedyActor,
    epsilon_greedy,
    make_utility_policy,
)
from vm3ac_modules.nn import LatentUtilityNet


def make_actor(*, keys=None, epsilon=0.0):
    net = LatentUtilityNet(OBS, ACTIONS, AGENTS, latent_dim=LATENT, hidden_size=HIDDEN)
    actor = EpsilonGreedyActor(net, keys=keys)
    actor.epsilon.fill_(epsilon)
    return actor


def start(**options):
    td = observe(ROWS, **options)
    td["latent"] = one_hot(torch.arange(ROWS) % LATENT, LATENT).float()
    return td


@given(
    st.permutations(range(4)),
    st.lists(st.booleans(), min_size=4, max_size=4).filter(any),
    st.sampled_from([0.0, 0.05, 0.5, 1.0]),
)
def test_policy_is_greedy_but_for_a_share(ranks, legal, epsilon):
    utilities = torch.tensor(ranks, dtype=torch.float64)
    mask = torch.tensor(legal)
    log_prob = epsilon_greedy(masked_log_softmax(utilities, mask), epsilon)
    allowed = [a for a in range(4) if legal[a]]
    best = max(allowed, key=lambda a: ranks[a])
    share = min(epsilon, 1.0 - 1e-4)
    for a in range(4):
        expected = (1 - share) * (a == best) + share / len(allowed) * legal[a]
        assert float(log_prob[a].exp()) == pytest.approx(expected, rel=1e-9)
        assert (log_prob[a] == ILLEGAL) == (expected == 0)
    # The most probable one even where everything is drawn uniformly.
    assert log_prob.argmax() == best
    single = masked_log_softmax(utilities.float(), mask)
    assert epsilon_greedy(single, epsilon).argmax() == best


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 1.0])
def test_deterministic_play_is_greedy(epsilon):
    actor = make_actor(epsilon=epsilon)
    policy = make_utility_policy(actor)
    with set_exploration_type(ExplorationType.DETERMINISTIC):
        td = policy(start())
    scores = actor.net.score(td["next", "agents", "hidden"], td["latent"])
    legal = td["agents", "action_mask"]
    greedy = scores.masked_fill(~legal, -torch.inf).argmax(-1)
    assert torch.equal(td["agents", "action"], greedy)
    without = actor.without_floor()
    without.epsilon.fill_(0.5)
    bare = without(td.clone())["agents", "logits"].exp()
    torch.testing.assert_close(bare, one_hot(greedy, ACTIONS).float())
    assert without.net is actor.net


def test_draws_explore_and_are_legal():
    policy = make_utility_policy(make_actor(epsilon=0.8))
    td = start()
    legal = td["agents", "action_mask"]
    drawn = torch.stack([policy(td.clone())["agents", "action"] for _ in range(50)])
    assert (drawn != drawn[0]).any()
    assert legal.expand(50, *legal.shape).gather(-1, drawn.unsqueeze(-1)).all()


def test_stepping_equals_unrolling():
    actor = make_actor()
    policy, td, steps = make_utility_policy(actor), start(), []
    for _ in range(5):
        steps.append(policy(td).clone())
        td = observe(ROWS, start=False).update(td["next"].clone()).set("latent", td["latent"])
    rows = torch.stack(steps, dim=1)
    last = torch.zeros(ROWS, 5, AGENTS, ACTIONS)
    last[:, 1:] = one_hot(rows["agents", "action"][:, :-1], ACTIONS).float()
    memory, _ = actor.net.unroll(rows["agents", "observation"], last)
    torch.testing.assert_close(rows["next", "agents", "hidden"], memory)
    scores = actor.net.score(memory, rows["latent"][:, :1])
    greedy = scores.masked_fill(~rows["agents", "action_mask"], -torch.inf).argmax(-1)
    assert torch.equal(rows["agents", "action"], greedy)


def test_entries_and_names():
    keys = Keys("walkers")
    actor = make_actor(keys=keys)
    td = make_utility_policy(actor)(start(keys=keys))
    assert {("walkers", "action"), ("walkers", "logits")} <= set(td.keys(True, True))
    assert actor.num_agents == AGENTS
    assert "latent" in actor.in_keys
    assert isinstance(actor.make_primer(), TensorDictPrimer)
    with pytest.raises(MissingKeysError, match="latent"):
        make_actor()(start().exclude("latent"))
    assert {"epsilon"} <= set(dict(actor.named_buffers()))
