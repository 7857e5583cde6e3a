"""MAVEN: its contract, the discriminator's sign and routing, the prior, a latent per episode."""

from __future__ import annotations

import copy
import itertools
import math
from typing import ClassVar, NamedTuple

import pytest
import torch
from contracts.loss_contract import (
    ACTION_DIM,
    LATENT_DIM,
    OBS_DIM,
    action_spec,
    assert_same,
    make_batch,
    make_parts,
    to_double,
    with_updater,
)
from hypothesis import given
from objectives.test_actor_critic_contract import ActorCriticContract
from objectives.test_gradient_routing import assert_equal_grads, grads, network
from tensordict import TensorDict
from tensordict.nn import TensorDictModuleBase
from torch.nn.functional import one_hot
from torchrl.envs.utils import ExplorationType, check_env_specs, set_exploration_type, step_mdp

from vm3ac_modules.baselines import EpisodeLatentPolicy, LatentDiscriminator, MAVENLoss
from vm3ac_modules.baselines.maven import joint_situation
from vm3ac_modules.modules.actors import make_actor
from vm3ac_modules.modules.critics import make_action_value, make_state_value
from vm3ac_modules.nn import JointNet
from vm3ac_modules.objectives import MAACLoss
from vm3ac_modules.objectives.terms import own_gradient_rows
from vm3ac_modules.testing import tensor_batches

GAMMA = 0.9


class MAVENParts(NamedTuple):
    policy: object
    qvalue: object
    value: object
    discriminator: object
    prior: object


def make_maven_parts(
    num_agents=2, *, keys=None, discriminator_hidden=(8, 8), stack_shape=(), **prior
):
    spec, situation = action_spec(num_agents), num_agents * OBS_DIM
    options = {"hidden": (8, 8), "keys": keys, "stack_shape": stack_shape}
    critic = {"latent_dim": LATENT_DIM, **options}
    joint = situation + num_agents * ACTION_DIM
    return MAVENParts(
        make_actor(OBS_DIM, LATENT_DIM, spec, **options),
        make_action_value(OBS_DIM, ACTION_DIM, num_agents, **critic),
        make_state_value(OBS_DIM, num_agents, **critic),
        JointNet(joint, LATENT_DIM, hidden=discriminator_hidden, stack_shape=stack_shape),
        EpisodeLatentPolicy(situation, LATENT_DIM, **{**options, **prior}),
    )


class TestMAVENContract(ActorCriticContract):
    fields = (*ActorCriticContract.fields, "latent", "latent_log_prob")
    groups: ClassVar = {
        **ActorCriticContract.groups,
        "loss_discriminator": "discriminator_network_params",
    }
    # The prior of the latent learns from episodes, by `latent_policy_loss`.
    elsewhere = ("latent_policy_network_params",)
    options: ClassVar = {"mi_weight": 0.3}
    # The latent is the episode's: it is read and not drawn.
    test_stored_latent_is_never_read = None
    test_one_latent_serves_all_agents_of_a_transition = None
    test_sampler_in_another_mode = None

    def parts(self, num_agents=2, *, keys=None):
        return make_maven_parts(num_agents, keys=keys)

    def build(self, parts, **options):
        return MAVENLoss(*parts, **{**self.options, **options})

    def test_a_latent_is_read_and_none_is_drawn(self):
        loss, td = self.make(), make_batch(6)
        assert "latent" in loss.in_keys
        assert ("next", "latent") in loss.in_keys
        assert loss.draw_noise(td)["latent"].shape == (6, 0)


class TestMAVENRewardContract(TestMAVENContract):
    options: ClassVar = {"mi_weight": 0.3, "mi_mode": "reward"}
    # Takes seconds and compiles nothing that is not compiled in the other mode.
    test_compiles_as_one_graph = None


def build(num_agents=3, *, discriminator_hidden=(8, 8), **options):
    """A loss in float64 whose target differs from its value, and episodes' transitions."""
    parts = make_maven_parts(num_agents, discriminator_hidden=discriminator_hidden)
    parts = [part.double() for part in parts]
    loss = with_updater(MAVENLoss(*parts, **{"gamma": GAMMA, **options})).double()
    with torch.no_grad():
        for target in loss.target_value_network_params.values(True, True):
            target.add_(0.1 * torch.randn_like(target))
    td = to_double(make_batch(7, num_agents=num_agents))
    td["latent"] = one_hot(torch.arange(7) % LATENT_DIM, LATENT_DIM).double()
    td["next", "latent"] = td["latent"].clone()
    td["next", "terminated"][::3] = True
    return loss, td, loss.draw_noise(td)


def with_weight(loss, weight):
    loss.terms[0].weight.fill_(weight)
    return loss


def fresh_actions(loss, td, noise):
    """What the policies do under the stored latent, with a gradient."""
    loc, scale = loss.reader.heads(td, td["latent"])
    return loss.center + loss.half_range * (loc + scale * noise["action"]).tanh()


def log_discriminator(loss, td, actions):
    """log D(z|x, a), layer by layer, for one list of the agents' actions ``[B, A]`` each."""
    rows = torch.cat((*td["agents", "observation"].unbind(-2), *actions), dim=-1)
    layers = loss.discriminator_network_params["net", "layers"]
    logits = network(layers, (0,), rows)
    probabilities = logits.exp() / logits.exp().sum(-1, keepdim=True)
    return probabilities.log()[torch.arange(len(td)), td["latent"].argmax(-1)]


# --- the discriminator in the policies' loss --------------------------------------------------


@pytest.mark.parametrize("num_agents", [1, 2, 3])
@pytest.mark.parametrize("reward_scale", [1.0, 0.25])
def test_policies_loss_is_minus_the_value_minus_the_bonus(num_agents, reward_scale):
    # Agent i's own term, in which the other agents' actions are constants.
    weight = 0.75
    loss, td, noise = build(num_agents, mi_weight=weight, reward_scale=reward_scale)
    phi = loss.parameter_groups()["loss_actor"]
    bonus = torch.zeros((), dtype=torch.float64)
    actions = fresh_actions(loss, td, noise).unbind(-2)
    for i in range(num_agents):
        seen = [a if j == i else a.detach() for j, a in enumerate(actions)]
        bonus = bonus + weight * log_discriminator(loss, td, seen).mean()
    with_bonus = loss(td, noise)["loss_actor"]
    actual = grads(with_bonus, phi)
    without = with_weight(loss, 0.0)(td, noise)["loss_actor"]
    torch.testing.assert_close(with_bonus, without - reward_scale * bonus)
    expected = [
        plain - reward_scale * extra
        for plain, extra in zip(grads(without, phi), grads(bonus, phi), strict=True)
    ]
    assert_equal_grads(actual, expected)


def test_the_better_the_discriminator_the_lower_the_policies_loss():
    loss, td, noise = build(mi_weight=0.5)
    td["latent"] = one_hot(torch.zeros(7, dtype=torch.int64), LATENT_DIM).double()
    out = []
    last = loss.discriminator_network_params["net", "layers", "2"]
    with torch.no_grad():
        last["weight"].zero_()
        for logit in (-5.0, 0.0, 5.0, 50.0):
            last["bias"].copy_(torch.tensor([[[logit, 0.0, 0.0]]]))
            out.append(loss(td, noise))
    for worse, better in itertools.pairwise(out):
        assert better["latent_log_prob"] > worse["latent_log_prob"]
        assert better["loss_actor"] < worse["loss_actor"]
        assert better["loss_discriminator"] < worse["loss_discriminator"]
    # A perfect one leaves MA-AC's loss, as log 1 = 0.
    plain = with_weight(loss, 0.0)(td, noise)["loss_actor"]
    torch.testing.assert_close(out[-1]["loss_actor"], plain)


@pytest.mark.parametrize(("outcome", "direction"), [(0, 1.0), (1, -1.0)])
def test_an_agent_whose_action_reveals_the_latent_is_pushed_to_reveal_it(outcome, direction):
    # D(z|x, a) = softmax(4 a_1, 0, 0): only the first entry of agent 1's action tells z = 0.
    loss, td, noise = build(mi_weight=0.5, discriminator_hidden=())
    td["latent"] = one_hot(torch.full((7,), outcome), LATENT_DIM).double()
    with torch.no_grad():
        for theta in loss.qvalue_network_params.parameters():
            theta.zero_()
        layer = loss.discriminator_network_params["net", "layers", "0"]
        layer["weight"].zero_()
        layer["bias"].zero_()
        layer["weight"][0, 3 * OBS_DIM + ACTION_DIM, 0] = 4.0
    out = loss(td, noise)
    head = loss.actor_network_params["module", "0", "net", "trunk", "layers", "1", "bias"]
    [gradient] = grads(out["loss_actor"], [head])
    gradient = gradient.squeeze(-2)
    # Descent moves the mean of that entry up for z = 0, and down for another z.
    assert -gradient[1, 0] * direction > 0
    assert (gradient[[0, 2]] == 0).all()
    assert (gradient[1, [1, ACTION_DIM + 1]] == 0).all()
    with torch.no_grad():
        head.sub_(0.1 * gradient.unsqueeze(-2))
    assert loss(td, noise)["latent_log_prob"] > out["latent_log_prob"]


@given(tensor_batches("*NA"))
def test_every_agent_sees_the_same_joint_action_and_its_own_gradient(drawn):
    [action] = drawn
    action.requires_grad_()
    num_agents, size = action.shape[-2:]
    rows = own_gradient_rows(action)
    assert torch.equal(rows, action.flatten(-2).unsqueeze(-2).expand(rows.shape))
    for i in range(num_agents):
        [gradient] = grads(rows[..., i, :].square().sum(), [action])
        own = torch.arange(num_agents).unsqueeze(-1).expand(num_agents, size) == i
        torch.testing.assert_close(gradient, torch.where(own, 2 * action, 0.0).detach())


# --- the discriminator's own loss -------------------------------------------------------------


def test_discriminator_learns_the_stored_latent_from_fresh_actions():
    loss, td, noise = build()
    fixed = fresh_actions(loss, td, noise).detach().unbind(-2)
    expected = -log_discriminator(loss, td, fixed).mean()
    out = loss(td, noise)
    torch.testing.assert_close(out["loss_discriminator"], expected)
    torch.testing.assert_close(out["latent_log_prob"], -expected.detach())
    upsilon = loss.parameter_groups()["loss_discriminator"]
    assert_equal_grads(grads(out["loss_discriminator"], upsilon), grads(expected, upsilon))
    changed = td.clone()
    changed["agents", "action"] = torch.zeros_like(td["agents", "action"])
    assert torch.equal(loss(changed, noise)["loss_discriminator"], out["loss_discriminator"])


def test_neither_side_of_the_discriminator_trains_the_other():
    loss, td, noise = build(mi_weight=0.5)
    out, groups = loss(td, noise), loss.parameter_groups()
    for name, others in (("loss_actor", "loss_discriminator"), ("loss_discriminator", None)):
        for owner in groups if others is None else [others]:
            if owner != name:
                found = torch.autograd.grad(
                    out[name], groups[owner], allow_unused=True, retain_graph=True
                )
                assert all(gradient is None for gradient in found)


# --- the latent of both ends ------------------------------------------------------------------


@pytest.mark.parametrize("reward_scale", [1.0, 0.25])
@pytest.mark.parametrize("mode", ["policy", "reward"])
def test_targets_by_hand(mode, reward_scale):
    weight = 0.75
    options = {"mi_weight": weight, "mi_mode": mode, "reward_scale": reward_scale}
    loss, td, noise = build(**options)
    stored = td["agents", "action"].unbind(-2)
    reward = td["next", "agents", "reward"].squeeze(-1)
    if mode == "reward":
        gain = log_discriminator(loss, td, stored) - td["latent_log_prob"].squeeze(-1)
        reward = reward + weight * gain.detach().unsqueeze(-1)
        torch.testing.assert_close(loss(td, noise)["reward_bonus"], weight * gain.mean().detach())
    alive = ~td["next", "terminated"].squeeze(-1)

    def action_value(actions):
        rows = [[i, *(j for j in range(3) if j != i)] for i in range(3)]
        joint = torch.stack([torch.stack([actions[j] for j in row], -2) for row in rows], -3)
        net = loss.qvalue_network.net
        return net(td["agents", "observation"], joint, latent=td["latent"])

    following = td["next"]
    with loss.target_value_network_params.to_module(loss.value_network):
        next_value = loss.value_network.net(
            following["agents", "observation"], latent=following["latent"]
        ).squeeze(-1)
    target = reward_scale * reward + float(loss.gamma) * alive.unsqueeze(-1) * next_value
    error = (action_value(stored) - target.detach().unsqueeze(-1)).square()
    out = loss(td, noise)
    torch.testing.assert_close(out["loss_qvalue"], 0.5 * error.sum((-1, -2)).mean())
    theta = loss.parameter_groups()["loss_qvalue"]
    expected = grads(0.5 * error.sum((-1, -2)).mean(), theta)
    assert_equal_grads(grads(out["loss_qvalue"], theta), expected)

    best = action_value(fresh_actions(loss, td, noise).unbind(-2)).amin(-1).detach()
    value = loss.value_network.net(td["agents", "observation"], latent=td["latent"]).squeeze(-1)
    expected = 0.5 * (value - best).square().sum(-1).mean()
    torch.testing.assert_close(out["loss_value"], expected)


def test_each_end_reads_its_own_entry_of_the_latent():
    loss, td, noise = build()
    before, other = loss(td, noise), td["latent"].roll(1, -1)
    after = loss(td.clone().set(("next", "latent"), other), noise)
    changed = {name for name in loss.out_keys if not torch.equal(after[name], before[name])}
    assert changed == {"loss_qvalue"}
    after = loss(td.clone().set("latent", other), noise)
    # The density of an action does not depend on where its mean is: the entropy need not move.
    changed = {name for name in loss.out_keys if not torch.equal(after[name], before[name])}
    assert changed | {"entropy"} == set(loss.out_keys)


def test_the_reward_keeps_the_bonus_out_of_the_policies_loss():
    loss, td, noise = build(mi_weight=0.75, mi_mode="reward")
    with_bonus = loss(td, noise)
    without = with_weight(loss, 0.0)(td, noise)
    assert torch.equal(with_bonus["loss_actor"], without["loss_actor"])
    assert with_bonus["loss_qvalue"] != without["loss_qvalue"]
    # It is the stored action's: another fresh draw leaves it as it is.
    again = with_weight(loss, 0.75)(td, loss.draw_noise(td))
    assert torch.equal(again["reward_bonus"], with_bonus["reward_bonus"])
    assert again["loss_actor"] != with_bonus["loss_actor"]


@pytest.mark.parametrize("mode", ["policy", "reward"])
def test_weight_zero_is_ma_ac_with_the_same_networks(mode):
    parts = make_maven_parts(3)
    plain = with_updater(MAACLoss(*copy.deepcopy(parts[:3]), gamma=GAMMA))
    loss = with_updater(MAVENLoss(*parts, mi_weight=0.0, mi_mode=mode, gamma=GAMMA))
    td = make_batch(7, num_agents=3)
    noise = loss.draw_noise(td)
    ours, theirs = loss(td, noise), plain(td, noise)
    assert_same(ours, theirs)
    groups = loss.parameter_groups()
    for name, parameters in plain.parameter_groups().items():
        for left, right in zip(
            grads(ours[name], groups[name]), grads(theirs[name], parameters), strict=True
        ):
            assert torch.equal(left, right)


# --- the prior of the latent ------------------------------------------------------------------


def test_gradient_of_the_priors_loss_by_hand():
    # p = (1/2, 1/4, 1/4), A = (1, -2) for the outcomes 0 and 1: the score's part is
    # -1/2 [(1/2, -1/4, -1/4) - 2 (-1/2, 3/4, -1/4)] = (-3/4, 7/8, -1/8), and the entropy's
    # eta p_k (log p_k + H) with H = 3/2 log 2: eta log 2 (1/4, -1/8, -1/8).
    eta = 0.5
    prior = EpisodeLatentPolicy(4, LATENT_DIM, hidden=())
    loss = MAVENLoss(*make_maven_parts()[:4], prior, entropy_weight=eta).double()
    params = loss.latent_policy_network_params
    with torch.no_grad():
        weight, bias = (params["net", "net", "layers", "0", name] for name in ("weight", "bias"))
        weight.zero_()
        bias.copy_(torch.tensor([[[math.log(2.0), 0.0, 0.0]]]))
    latent = one_hot(torch.tensor([0, 1]), LATENT_DIM).double()
    advantage = torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True)
    value, entropy = loss.latent_policy_loss(torch.randn(2, 4).double(), latent, advantage)
    assert entropy.item() == pytest.approx(1.5 * math.log(2.0))
    score = -(1.0 * math.log(0.5) - 2.0 * math.log(0.25)) / 2
    assert value.item() == pytest.approx(score - eta * 1.5 * math.log(2.0))
    gradient, none = torch.autograd.grad(value, (bias, advantage), allow_unused=True)
    assert none is None
    hand = torch.tensor([-0.75, 0.875, -0.125]) + eta * math.log(2.0) * torch.tensor(
        [0.25, -0.125, -0.125]
    )
    torch.testing.assert_close(gradient.flatten(), hand.double())


def test_the_priors_loss_equals_an_explicit_softmax():
    loss = build(entropy_weight=0.3)[0]
    zeta = list(loss.latent_policy_network_params.parameters())
    situation = torch.randn(11, 3 * OBS_DIM, dtype=torch.float64)
    outcome, advantage = torch.randint(LATENT_DIM, (11,)), torch.randn(11).double()
    latent = one_hot(outcome, LATENT_DIM).double()
    value, entropy = loss.latent_policy_loss(situation, latent, advantage)
    logits = network(loss.latent_policy_network_params["net", "net", "layers"], (0,), situation)
    p = logits.exp() / logits.exp().sum(-1, keepdim=True)
    exact = -(p * p.log()).sum(-1).mean()
    score = (advantage * p.log()[torch.arange(11), outcome]).mean()
    torch.testing.assert_close(entropy, exact)
    torch.testing.assert_close(value, -score - 0.3 * exact)
    assert_equal_grads(grads(value, zeta), grads(-score - 0.3 * exact, zeta))


def test_a_copy_of_the_loss_trains_its_own_prior():
    loss, _, _ = build()
    other = copy.deepcopy(loss)
    x, z = torch.randn(4, 3 * OBS_DIM).double(), one_hot(torch.arange(4) % 3, 3).double()
    value, _ = other.latent_policy_loss(x, z, torch.randn(4).double())
    own = list(other.latent_policy_network_params.parameters())
    assert all(gradient.ne(0).any() for gradient in grads(value, own))
    theirs = list(loss.latent_policy_network_params.parameters())
    assert all(gradient.eq(0).all() for gradient in grads(value, theirs))


@pytest.mark.parametrize("exploration", list(ExplorationType))
def test_the_prior_draws_under_every_exploration_type(exploration):
    prior = EpisodeLatentPolicy(2 * OBS_DIM, LATENT_DIM, hidden=())
    with torch.no_grad():
        prior.net.net.layers[0].weight.zero_()
        prior.net.net.layers[0].bias.copy_(torch.tensor([0.5, 0.25, 0.25]).log())
    td = make_batch(4000).exclude("latent", "latent_log_prob")
    with set_exploration_type(exploration):
        out = prior(td)
    z = out["latent"]
    assert ((z == 0) | (z == 1)).all()
    assert (z.sum(-1) == 1).all()
    torch.testing.assert_close(z.mean(0), torch.tensor([0.5, 0.25, 0.25]), rtol=0, atol=0.03)
    log_prob = torch.where(z[:, :1] == 1, math.log(0.5), math.log(0.25))
    torch.testing.assert_close(out["latent_log_prob"], log_prob)
    assert torch.equal(out["situation"], td["agents", "observation"].flatten(-2))
    assert not out["latent_log_prob"].requires_grad


def test_a_uniform_prior_has_nothing_to_learn():
    parts = make_maven_parts(uniform=True)
    loss = with_updater(MAVENLoss(*parts))
    assert loss.latent_policy_network_params.is_empty()
    assert loss(make_batch(6))["loss_actor"].isfinite()
    p = parts.prior.distribution(torch.randn(5, 2 * OBS_DIM)).probs
    torch.testing.assert_close(p, torch.full((5, LATENT_DIM), 1 / LATENT_DIM))


def test_the_situation_is_the_state_where_there_is_one():
    prior = EpisodeLatentPolicy(5, LATENT_DIM, situation="state", hidden=(8,))
    td = TensorDict({"state": torch.randn(6, 5), **make_batch(6)}, [6])
    assert prior.in_keys == ["state"]
    assert torch.equal(prior(td)["situation"], td["state"])
    assert torch.equal(joint_situation(td, "state"), td["state"])
    parts = make_maven_parts()._replace(
        discriminator=JointNet(5 + 2 * ACTION_DIM, LATENT_DIM, hidden=(8,)), prior=prior
    )
    loss = with_updater(MAVENLoss(*parts))
    assert "state" in loss.in_keys
    noise = loss.draw_noise(td)
    before = loss(td, noise)
    td["state"] = torch.randn(6, 5)
    assert loss(td, noise)["loss_discriminator"] != before["loss_discriminator"]
    assert torch.equal(loss(td, noise)["loss_qvalue"], before["loss_qvalue"])


# --- what is refused --------------------------------------------------------------------------


def test_a_policy_that_draws_its_own_latent():
    parts = make_maven_parts()._replace(policy=make_parts().policy)
    with pytest.raises(ValueError, match="give the actor without a LatentSampler"):
        MAVENLoss(*parts)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mi_weight": -0.1}, "mi_weight must not be negative, got -0.1"),
        ({"mi_weight": math.nan}, "mi_weight must not be negative"),
        ({"mi_mode": "critic"}, r"mi_mode must be one of \('policy', 'reward'\), got 'critic'"),
        ({"entropy_weight": -0.1}, "entropy_weight must not be negative, got -0.1"),
        ({"entropy_weight": math.nan}, "entropy_weight must not be negative"),
    ],
)
def test_unusable_options(options, message):
    with pytest.raises(ValueError, match=message):
        MAVENLoss(*make_maven_parts(), **options)


@pytest.mark.parametrize("outcomes", [0, 1])
def test_fewer_than_two_outcomes(outcomes):
    with pytest.raises(ValueError, match=f"needs at least 2 outcomes, got {outcomes}"):
        EpisodeLatentPolicy(4, outcomes)


def test_diagnostics_of_each_mode():
    assert LatentDiscriminator(None).logged == ("latent_log_prob",)
    assert LatentDiscriminator(None, mode="reward").logged == ("latent_log_prob", "reward_bonus")


# --- the latent of an episode -----------------------------------------------------------------


class Numbered(TensorDictModuleBase):
    """Writes ``[call, row]``: every draw is another one."""

    def __init__(self):
        super().__init__()
        self.in_keys, self.out_keys, self.out_sizes = [("agents", "observation")], ["latent"], (2,)
        self.calls = 0

    def forward(self, tensordict):
        self.calls += 1
        rows = torch.arange(len(tensordict)).float()
        return tensordict.set("latent", torch.stack((torch.full_like(rows, self.calls), rows), -1))


@pytest.fixture
def make_env():
    pytest.importorskip("vmas")
    from vm3ac_modules import envs

    def make(module, **options):
        env = envs.make_env("predator_prey_2", num_envs=3, seed=0, **options)
        return env.append_transform(envs.EpisodeLatent(module))

    return make


def test_a_latent_lives_for_an_episode(make_env):
    steps = make_env(Numbered(), max_steps=4).rollout(10, break_when_any_done=False)
    first = steps["latent"][..., 0] - steps["latent"][0, 0, 0]
    assert first.tolist() == [[0.0] * 4 + [1.0] * 4 + [2.0] * 2] * 3
    assert torch.equal(steps["latent"][..., 1], torch.arange(3.0).unsqueeze(-1).expand(3, 10))
    # Also at the step that ends an episode.
    assert steps["next", "done"].sum() == 6
    assert torch.equal(steps["latent"], steps["next", "latent"])


def test_only_rows_that_are_reset_draw_anew(make_env):
    module = Numbered()
    env = make_env(module, max_steps=4)
    td = env.reset()
    start = module.calls
    for _ in range(2):
        td = step_mdp(env.rand_step(td))
    td["_reset"] = torch.tensor([[True], [False], [False]])
    td = env.reset(td)
    drawn, ended = [], []
    for _ in range(5):
        full, td = env.step_and_maybe_reset(env.rand_action(td))
        assert torch.equal(full["latent"], full["next", "latent"])
        assert full["latent"][:, 1].tolist() == [0.0, 1.0, 2.0]
        drawn.append((full["latent"][:, 0].int() - start).tolist())
        ended.append(full["next", "done"].flatten().tolist())
    # Row 0 was reset first; the others end at the second step from there, and row 0 at the fourth.
    assert [sum(row) for row in ended] == [0, 2, 0, 1, 0]
    assert drawn == [[1, 0, 0], [1, 0, 0], [1, 2, 2], [1, 2, 2], [3, 2, 2]]


def test_the_environment_plays_what_the_prior_drew(make_env):
    env = make_env(EpisodeLatentPolicy(2 * 53, 4, hidden=(8,)), max_steps=3)
    check_env_specs(env)
    prior = env.transform[-1]._module[0]
    steps = env.rollout(7, break_when_any_done=False)
    for t in range(0, 7, 3):
        beginning = steps["agents", "observation"][:, t].flatten(-2)
        for step in range(t, min(t + 3, 7)):
            assert torch.equal(steps["situation"][:, step], beginning)
            log_prob = prior.distribution(beginning).log_prob(steps["latent"][:, step])
            torch.testing.assert_close(steps["latent_log_prob"][:, step, 0], log_prob.detach())


def test_an_episodes_latent_in_a_replay_buffer():
    from vm3ac_modules.envs import EpisodeLatent

    with pytest.raises(RuntimeError, match="EpisodeLatent works inside an environment"):
        EpisodeLatent(Numbered())(TensorDict(batch_size=[2]))
