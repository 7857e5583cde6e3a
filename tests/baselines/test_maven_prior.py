"""MAVEN's prior: what it learns from, and its latent over an episode."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from contracts.loss_contract import ACTION_DIM, LATENT_DIM, OBS_DIM, make_batch, with_updater
from contracts.maven import build, make_maven_parts
from contracts.reference import assert_equal_grads, grads, network
from tensordict import TensorDict
from tensordict.nn import TensorDictModuleBase
from torch.nn.functional import one_hot
from torchrl.envs.utils import ExplorationType, check_env_specs, set_exploration_type, step_mdp

from vm3ac_modules.baselines import EpisodeLatentPolicy, MAVENLoss
from vm3ac_modules.baselines.maven import joint_situation
from vm3ac_modules.nn import JointNet

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


@pytest.mark.parametrize("outcomes", [0, 1])
def test_fewer_than_two_outcomes(outcomes):
    with pytest.raises(ValueError, match=f"needs at least 2 outcomes, got {outcomes}"):
        EpisodeLatentPolicy(4, outcomes)


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
