"""FOP: the factorization, the targets against a loop, the policies' exact objective."""

from __future__ import annotations

import math
from typing import ClassVar

import pytest
import torch
from contracts.episode_contract import (
    ACTIONS,
    ENDS,
    LENGTHS,
    EpisodeLossContract,
    discounted,
    episode,
    make_actor,
    make_episodes,
)
from contracts.fop import make_critic

from vm3ac_modules.envs.matrix import MATRIX_GAMES
from vm3ac_modules.functional.categorical import draw_categorical
from vm3ac_modules.nn import FOPMixer
from vm3ac_modules.objectives import FOPLoss
from vm3ac_modules.objectives.episodic import read_episodes

ALPHA, GAMMA, LAM = 0.3, 0.9, 0.7


class TestFOPContract(EpisodeLossContract):
    groups: ClassVar = {
        "loss_actor": ("actor_network_params",),
        "loss_qvalue": ("qvalue_network_params",),
    }
    targets = ("qvalue_network",)

    def build(self, num_agents=3, *, keys=None, actor=None, **options):
        actor = make_actor(num_agents, keys=keys) if actor is None else actor
        return FOPLoss(actor, make_critic(num_agents), keys=keys, **options)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"gamma": 1.1}, r"gamma must be in \[0, 1\], got 1.1"),
            ({"lam": -0.1}, r"lam must be in \[0, 1\]"),
            ({"temperature": 0.0}, "temperature must be positive"),
            ({"policy_critic": "team"}, "policy_critic must be 'own' or 'joint', got 'team'"),
        ],
    )
    def test_unusable_options(self, options, message):
        with pytest.raises(ValueError, match=message):
            self.build(**options)

    def test_off_policy(self):
        assert FOPLoss.on_policy is False


def build(**options):
    options = {"temperature": ALPHA, "gamma": GAMMA, "lam": LAM, **options}
    return TestFOPContract().make(**options)


def views(loss, td, params):
    """Episode, log-probabilities ``[L + 1, N, A]`` and individual values ``[L + 1, K, N, A]``."""
    e = read_episodes(td, loss.tensor_keys, "test")
    with loss.slots["actor_network"].filled(loss.actor_network_params):
        memory, _ = loss.actor_network.net.unroll(e.observation, e.last_action)
        log_prob = loss.actor_network.log_prob(memory, e.action_mask)
    with loss.slots["qvalue_network"].filled(params):
        values = loss.qvalue_network.individual(e.observation)
    return e, log_prob[0].detach(), values[0].detach()


def team_value(loss, e, values, action, params, t, k):
    """Q_tot of one critic at one slot, term by term; lambda from the mixer."""
    chosen = torch.stack([values[t, k, i, action[i]] for i in range(len(action))])
    soft = ALPHA * (values[t, k] / ALPHA).exp().sum(-1).log()
    one_hot = torch.nn.functional.one_hot(action, ACTIONS).double()
    with loss.slots["qvalue_network"].filled(params):
        mixer = loss.qvalue_network.mixer
        credit = mixer.credit(e.state[0, t], one_hot)[k]
        state = mixer.value(e.state[0, t].expand(2, -1))[k, 0]
    return (chosen.sum() + state + ((credit - 1) * (chosen - soft)).sum()).detach()


def targets(loss, td, noise, *, strict=False):
    """Targets of one episode by a loop."""
    params = loss.target_qvalue_network_params
    e, log_prob, values = views(loss, td, params)
    drawn = draw_categorical(log_prob, noise["action"][0])
    bootstrap, bonus = [], []
    for t in range(len(drawn)):
        twins = [team_value(loss, e, values, drawn[t], params, t, k) for k in range(2)]
        bootstrap.append(torch.stack(twins).min())
        own = [log_prob[t, i, drawn[t, i]] for i in range(drawn.shape[1])]
        bonus.append(-torch.stack(own).mean())
    bootstrap, bonus = torch.stack(bootstrap), torch.stack(bonus)
    over = bool(e.terminated.any())
    value = bootstrap + ALPHA * bonus if strict else bootstrap
    returns = discounted(e.reward[0], value, over, gamma=GAMMA, lam=LAM)
    return e, returns if strict else returns + ALPHA * bonus[1:]


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("row", range(len(LENGTHS)))
def test_critic_loss_against_a_loop(row, strict):
    loss, td = build(strict_soft=strict), episode(make_episodes(), row)
    noise = loss.draw_noise(td)
    out = loss(td, noise)
    e, y = targets(loss, td, noise, strict=strict)
    assert len(y) == LENGTHS[row]
    assert bool(e.terminated.any()) == ENDS[row]
    params = loss.qvalue_network_params
    _, _, values = views(loss, td, params)
    errors = [
        (team_value(loss, e, values, e.action[0, t], params, t, k) - y[t]) ** 2
        for t in range(len(y))
        for k in range(2)
    ]
    torch.testing.assert_close(out["loss_qvalue"], torch.stack(errors).sum() / len(y))
    torch.testing.assert_close(out["qvalue_target"], y.mean())


def test_actor_loss_is_the_exact_expectation():
    loss, td = build(), make_episodes()
    out = loss(td)
    total, count = 0.0, 0
    for row, length in enumerate(LENGTHS):
        _, log_prob, values = views(loss, episode(td, row), loss.qvalue_network_params)
        for t in range(length):
            lowest = values[t].min(dim=0).values
            cost = log_prob[t].exp() * (ALPHA * log_prob[t] - lowest)
            total, count = total + cost.sum(-1).sum(), count + cost.shape[0]
    torch.testing.assert_close(out["loss_actor"], total / count)


def test_policies_that_follow_the_joint_critic_against_a_loop():
    loss, td = build(policy_critic="joint"), make_episodes()
    noise = loss.draw_noise(td)
    out, total, count = loss(td, noise), 0.0, 0
    for row, length in enumerate(LENGTHS):
        e, log_prob, values = views(loss, episode(td, row), loss.qvalue_network_params)
        drawn = draw_categorical(log_prob.detach(), noise["action"][row, : length + 1])
        for t in range(length):
            for i in range(3):
                for a in range(ACTIONS):
                    action = drawn[t].clone()
                    action[i] = a
                    ask = (loss, e, values, action, loss.qvalue_network_params, t)
                    lowest = min(team_value(*ask, k) for k in range(2))
                    own = log_prob[t, i, a]
                    total = total + own.exp() * (ALPHA * own - lowest) if own.exp() > 0 else total
                count += 1
    torch.testing.assert_close(out["loss_actor"], total / count)
    # The critic itself learns as before.
    own = build()
    own.load_state_dict(loss.state_dict())
    assert own(td, noise)["loss_qvalue"] == out["loss_qvalue"]
    assert own(td, noise)["loss_actor"] != out["loss_actor"]


def test_policy_gradient_leaves_the_critics_alone_and_values_reach_it():
    loss, td = build(), make_episodes()
    noise = loss.draw_noise(td)
    before = loss(td, noise)["loss_actor"]
    with torch.no_grad():
        for parameter in loss.parameter_groups()["loss_qvalue"]:
            parameter.add_(0.1)
    assert loss(td, noise)["loss_actor"] != before


def test_one_legal_action_has_no_entropy_in_the_target():
    loss, td = build(), make_episodes()
    only = torch.zeros_like(td["agents", "action_mask"])
    only[..., 2] = True
    td["agents", "action_mask"] = only
    td["agents", "action"] = torch.full_like(td["agents", "action"], 2)
    assert loss(td)["soft_bonus"].abs() < 1e-12


def test_soft_values_tend_to_the_largest_and_may_skip_illegal_actions():
    values = torch.randn(4, 5, 2, 3, ACTIONS, dtype=torch.float64)
    legal = torch.rand(4, 5, 3, ACTIONS) < 0.5
    legal[..., 1] = True
    cold = build(temperature=1e-4)
    torch.testing.assert_close(cold.soft_values(values, legal), values.amax(-1), atol=1e-3, rtol=0)
    masked = build(mask_soft_values=True).soft_values(values, legal)
    picked = values.masked_fill(~legal.unsqueeze(-3), -math.inf)
    torch.testing.assert_close(masked, ALPHA * (picked / ALPHA).logsumexp(-1))
    assert (masked <= build().soft_values(values, legal) + 1e-12).all()


def test_temperature_can_be_changed_in_place():
    loss, td = build(), make_episodes()
    noise = loss.draw_noise(td)
    before = loss(td, noise)["loss_actor"]
    loss.temperature.fill_(2 * ALPHA)
    other = build(temperature=2 * ALPHA)
    other.load_state_dict(loss.state_dict())
    assert loss(td, noise)["loss_actor"] != before
    torch.testing.assert_close(loss(td, noise)["loss_actor"], other(td, noise)["loss_actor"])


class Constant(torch.nn.Module):
    """A state value that is the same everywhere."""

    def __init__(self, value):
        super().__init__()
        self.constant = value

    def forward(self, state):
        return self.constant.expand(*state.shape[:-1], 1)


class FreeMixer(FOPMixer):
    """FOP's mixer with a number per joint action in the place of its network of weights."""

    def __init__(self, num_actions, weights, value):
        super().__init__(1, 2, num_actions, num_critics=1)
        self.weights, self.value = weights, Constant(value)

    def credit(self, state, action):
        return self.weights[..., None, None].expand(*state.shape[:-1], 1, self.num_agents)


@pytest.mark.parametrize("game", ["climbing", "penalty", "non_monotonic"])
def test_an_exact_joint_critic_leaves_the_policies_free(game):
    r"""Whatever joint action the individual values prefer, positive weights make the joint exact.

    With S = sum_i V_i, V = max Q - S + 1 and one weight per joint action for all agents,
    lambda(a) = (max Q + 1 - Q(a)) / sum_i (V_i - Q_i(a_i)), the mixer gives Q(a) for every a. So
    neither values nor weights have a gradient, and policies of exp(Q_i / alpha) stay where they
    are. What it costs: the preferred joint action's weight grows as 1 / alpha.
    """
    matrix = MATRIX_GAMES[game]
    payoffs = matrix.rewards[0].double().flatten()
    joint = torch.cartesian_prod(*[torch.arange(matrix.num_actions)] * 2)
    one_hot = torch.nn.functional.one_hot(joint, matrix.num_actions).double()
    state = torch.zeros(len(joint), 1).double()
    paid = set()
    for number, preferred in enumerate(joint):
        weights = {}
        for alpha in (0.5, 0.05):
            values = torch.nn.functional.one_hot(preferred, matrix.num_actions).double()
            soft = alpha * (values / alpha).logsumexp(-1)
            chosen = values.expand(len(joint), 2, -1).gather(-1, joint.unsqueeze(-1)).squeeze(-1)
            ceiling = payoffs.max() + 1
            credit = (ceiling - payoffs) / (soft - chosen).sum(-1)
            assert bool((credit > 0).all())
            mixer = FreeMixer(matrix.num_actions, credit, ceiling - soft.sum())
            total = mixer(chosen[:, None], soft.expand(len(joint), 1, 2), state, one_hot)
            torch.testing.assert_close(total[:, 0], payoffs)
            weights[alpha] = credit[number]
        policy = (values / alpha).softmax(-1)
        assert torch.equal(policy.argmax(-1), preferred)
        paid.add(float(payoffs[number]))
        # The advantage of a preferred action shrinks with the temperature; the gap does not.
        assert weights[0.05] > 10 * weights[0.5]
    assert paid == set(payoffs.tolist())
