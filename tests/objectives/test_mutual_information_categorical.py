"""The mutual-information loss of categorical policies, against loops over agents and actions."""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

import pytest
import torch
from contracts.loss_contract import (
    LATENT_DIM,
    OBS_DIM,
    LossContract,
    assert_same,
    make_batch,
    make_parts,
)
from tensordict import TensorDict
from tensordict.nn import TensorDictModule, TensorDictSequential
from torch import nn
from torch.distributions import Bernoulli, Categorical, Normal
from torchrl.modules import (
    MaskedCategorical,
    MaskedOneHotCategorical,
    OneHotCategorical,
    OneHotOrdinal,
    ProbabilisticActor,
)

import vm3ac_modules as vm
from vm3ac_modules.functional import scatter_others
from vm3ac_modules.keys import Keys, MissingKeysError
from vm3ac_modules.modules.network import NetworkModule
from vm3ac_modules.nn import HyperPairNet
from vm3ac_modules.objectives import MutualInformationLoss
from vm3ac_modules.objectives.categorical_policy import (
    CategoricalPolicyReader,
    categorical_pair_terms,
)

ACTIONS, STATE = 4, 5


class Parts(NamedTuple):
    policy: object
    predictor: object


class AgentLogits(nn.Module):
    """A network of its own for every agent, with its weights along the first dimension."""

    def __init__(self, num_agents, latent_dim, gain=1.0, obs_dim=OBS_DIM, actions=ACTIONS):
        super().__init__()
        self.first = nn.Parameter(torch.randn(num_agents, obs_dim + latent_dim, 8) * 0.4)
        self.last = nn.Parameter(torch.randn(num_agents, 8, actions) * 0.4 * gain)
        with torch.no_grad():
            self.first[:, obs_dim:] *= gain

    def forward(self, observation, latent=None):
        x = observation
        if latent is not None:
            latent = latent.unsqueeze(-2).expand(*x.shape[:-1], latent.shape[-1])
            x = torch.cat((x, latent), -1)
        hidden = torch.einsum("...ni,nih->...nh", x, self.first).tanh()
        return torch.einsum("...nh,nha->...na", hidden, self.last)


def make_policy(num_agents=2, *, prior="default", distribution=Categorical, keys=None, **net):
    keys, prior = keys or Keys(), vm.GaussianPrior(LATENT_DIM) if prior == "default" else prior
    read = {"observation": keys.observation}
    if prior is not None:
        read["latent"] = keys.latent
    network = AgentLogits(num_agents, prior.dim if prior else 0, **net)
    given = {"logits": keys.logits}
    if issubclass(distribution, MaskedCategorical):
        given["mask"] = keys.action_mask
    actor = ProbabilisticActor(
        NetworkModule(network, read, [keys.logits]),
        in_keys=given,
        out_keys=[keys.action],
        distribution_class=distribution,
    )
    sampler = None if prior is None else vm.LatentSampler(prior, keys=keys)
    return vm.make_policy(sampler, actor)


def make_predictor(num_agents=2, situation="observations", **options):
    size = OBS_DIM if situation == "observations" else STATE
    options = {"embed_dim": 6, "hypernet_hidden": 6, "situation": situation, **options}
    return vm.CategoricalPredictor(size, num_agents, ACTIONS, **options)


def batch_of(*batch, num_agents=2, keys=None):
    """Observations, state, and a mask with at least one legal action for every agent."""
    keys = keys or Keys()
    mask = torch.rand(*batch, num_agents, ACTIONS) < 0.6
    mask[..., 0] |= ~mask.any(-1)
    return TensorDict(
        {
            keys.observation: torch.randn(*batch, num_agents, OBS_DIM, dtype=torch.float64),
            keys.state: torch.randn(*batch, STATE, dtype=torch.float64),
            keys.action_mask: mask,
        },
        batch,
    )


def masked_loss(num_agents=2, predictor=None, **options):
    policy = {
        name: options.pop(name) for name in ("prior", "distribution", "gain") if name in options
    }
    policy = make_policy(num_agents, **{"distribution": MaskedCategorical, **policy})
    given = {"num_agents": num_agents, "situation": "state", "masked": True, **(predictor or {})}
    return MutualInformationLoss(policy, make_predictor(**given), **options).double()


def actor_net(loss):
    return loss.reader.body[0].net


# --- the contract of every loss ---------------------------------------------------------------


class CategoricalContract(LossContract):
    fields = ("observation", "action")
    groups: ClassVar = {
        "loss_mi": "actor_network_params",
        "loss_predictor": "predictor_network_params",
    }
    reads_next = False
    options: ClassVar = {}

    def parts(self, num_agents=2, *, keys=None):
        return Parts(make_policy(num_agents, keys=keys), make_predictor(num_agents, keys=keys))

    def build(self, parts, **options):
        return MutualInformationLoss(*parts, **{"weight": 0.7, **self.options, **options})

    def test_renamed_entries_really_nested(self):
        loss, td = self.make(), make_batch(6)
        noise = loss.draw_noise(td)
        expected = loss(td, noise)
        key = ("some", "deep", "observation")
        loss.set_keys(observation=key)
        assert key in loss.in_keys
        assert_same(loss(td.set(key, td["agents", "observation"]), noise), expected)
        with pytest.raises(MissingKeysError):
            loss(td.exclude(key))

    def test_two_instances_keep_their_own_keys(self):
        first, second = self.make(), self.make()
        second.set_keys(observation=("agents", "privileged"))
        assert first.in_keys == [("agents", "observation")]
        assert second.in_keys == [("agents", "observation"), ("agents", "privileged")]

    def test_one_latent_serves_all_agents_of_a_transition(self):
        noise = self.make().draw_noise(make_batch(6))
        assert noise["latent"].shape == (6, LATENT_DIM)
        assert (noise["latent"][0] != noise["latent"][1]).all()
        assert set(noise.keys()) == {"latent", "extra_latents"}

    def test_compiles_as_one_graph(self):
        # All contracts compile the same lambda, and Dynamo keeps at most 8 versions of one.
        torch.compiler.reset()
        super().test_compiles_as_one_graph()
        torch.compiler.reset()

    def test_each_loss_reaches_its_own_parameters_only(self):
        loss = self.make(3)
        out, groups = loss(make_batch(6, num_agents=3)), loss.parameter_groups()
        for name in self.groups:
            for owner, parameters in groups.items():
                gradients = torch.autograd.grad(
                    out[name], parameters, retain_graph=True, allow_unused=True
                )
                if owner != name:
                    assert all(gradient is None for gradient in gradients)
                elif name == "loss_mi":
                    assert all(g.flatten(1).ne(0).any(1).all() for g in gradients)
                else:
                    assert all(g.ne(0).any() for g in gradients)


class TestCategoricalContract(CategoricalContract):
    options: ClassVar = {"entropy_weight": 1.0}


class TestCategoricalManyLatentsContract(CategoricalContract):
    options: ClassVar = {"entropy_weight": 1.0, "num_latents": 3, "reverse_model": "partner"}


# --- the formula, one agent and one action at a time ------------------------------------------


def oracle(loss, td, noise, mixture="constant"):
    """``loss_mi`` and ``loss_predictor`` of every transition, nothing detached but what must be.

    Agent i's own loss is to be differentiated with respect to its own parameters alone: then the
    partners' policies are constants by themselves.
    """
    net, num_agents = actor_net(loss), td["agents", "observation"].shape[-2]
    observation, legal = td["agents", "observation"], td["agents", "action_mask"]

    def policies(latent):
        logits = net(observation, latent).masked_fill(~legal, -math.inf)
        return logits.softmax(-1)

    drawn = policies(noise["latent"])
    extra = [policies(latent) for latent in noise["extra_latents"].unbind(-2)]
    mixed = sum([drawn, *extra]) / (1 + len(extra))
    if extra and mixture == "constant":
        mixed = mixed.detach()
    predictor = loss.predictor_network
    own, nll = [], torch.zeros(td.batch_size, dtype=torch.float64)
    for i in range(num_agents):
        term = torch.zeros(td.batch_size, dtype=torch.float64)
        for a in range(ACTIONS):
            logarithm = torch.where(legal[..., i, a], mixed[..., i, a], 1.0).log()
            term = term - loss.entropy_weight * drawn[..., i, a] * logarithm
            at = torch.full((*td.batch_size, num_agents), a)
            log_q = predictor.net(at, td["state"], legal)
            for j in range(num_agents):
                for b in range(ACTIONS if j != i else 0):
                    both = drawn[..., i, a] * drawn[..., j, b]
                    term = term + both * log_q[..., i, j, b].detach() / num_agents
                    nll = nll - 2 * both.detach() * log_q[..., i, j, b]
        own.append(-loss.weight * term / num_agents)
    return torch.stack(own, -1), nll / (num_agents * (num_agents - 1))


@pytest.mark.parametrize("batch", [(5,), (2, 3)])
@pytest.mark.parametrize("num_latents", [0, 1, 3])
@pytest.mark.parametrize("num_agents", [2, 3])
def test_losses_and_gradients_equal_the_loops(num_agents, num_latents, batch):
    options = {"weight": 0.7, "entropy_weight": 0.4, "num_latents": num_latents}
    loss = masked_loss(num_agents, gain=3.0, **options)
    td = batch_of(*batch, num_agents=num_agents)
    noise = loss.draw_noise(td)
    out = loss(td, noise)
    own, nll = oracle(loss, td, noise)
    torch.testing.assert_close(out["loss_mi"], own.sum(-1).mean())
    torch.testing.assert_close(out["loss_predictor"], nll.mean())
    net, groups = actor_net(loss), loss.parameter_groups()
    actual = torch.autograd.grad(out["loss_mi"], [net.first, net.last])
    for i in range(num_agents):
        mine = own[..., i].mean()
        expected = torch.autograd.grad(mine, [net.first, net.last], retain_graph=True)
        for left, right in zip(actual, expected, strict=True):
            torch.testing.assert_close(left[i], right[i])
            assert (right[i] != 0).any()
    for left, right in zip(
        torch.autograd.grad(out["loss_predictor"], groups["loss_predictor"]),
        torch.autograd.grad(nll.mean(), groups["loss_predictor"]),
        strict=True,
    ):
        torch.testing.assert_close(left, right)


def test_diagnostics_of_a_call_are_those_of_the_losses():
    loss = masked_loss(3, entropy_weight=1.0, weight=1.0, pair_weight="mean")
    td = batch_of(6, num_agents=3)
    out = loss(td)
    matrix = out["pair_log_prob_matrix"]
    assert (matrix.diagonal() == 0).all()
    torch.testing.assert_close(out["pair_log_prob"], matrix.sum() / 6)
    torch.testing.assert_close(out["loss_predictor"], -2 * out["pair_log_prob"])
    # Each agent has two partners, of weight 1/2 each.
    torch.testing.assert_close(out["loss_mi"], -out["entropy"] - out["pair_log_prob"])


def test_sides_of_the_pair_terms():
    log_prob = torch.randn(5, 3, ACTIONS).log_softmax(-1).requires_grad_()
    table = torch.randn(5, 3, ACTIONS, 3, ACTIONS).requires_grad_()
    pairs = categorical_pair_terms(log_prob, table)
    forward, reverse = scatter_others(pairs.partner), scatter_others(pairs.own)
    torch.testing.assert_close(reverse, forward.mT)
    torch.testing.assert_close(pairs.policy, pairs.partner)
    assert not torch.allclose(pairs.own, pairs.partner)
    for side, trained in zip(pairs, (log_prob, table, table), strict=True):
        reached = torch.autograd.grad(
            side.sum(), (log_prob, table), retain_graph=True, allow_unused=True
        )
        assert [x is not None for x in reached] == [x is trained for x in (log_prob, table)]


def test_what_the_log_of_the_mixture_leaves_out_has_zero_mean():
    # Both draws of a latent with two outcomes, enumerated.
    loss = masked_loss(2, prior=vm.CategoricalPrior(2), gain=3.0, entropy_weight=1.0, num_latents=1)
    one, latents = batch_of(1), torch.eye(2, dtype=torch.float64)
    td = one.expand(4)
    noise = TensorDict(
        {"latent": latents[[0, 0, 1, 1]], "extra_latents": latents[[0, 1, 0, 1]].unsqueeze(-2)}, [4]
    )
    net = actor_net(loss)
    actual = torch.autograd.grad(loss(td, noise)["loss_mi"], net.last)[0]
    own, _ = oracle(loss, td, noise, mixture="differentiated")
    for i in range(2):
        expected = torch.autograd.grad(own[..., i].mean(), net.last, retain_graph=True)[0]
        torch.testing.assert_close(actual[i], expected[i])
    single = torch.autograd.grad(loss(td[1:2], noise[1:2])["loss_mi"], net.last)[0]
    own, _ = oracle(loss, td[1:2], noise[1:2], mixture="differentiated")
    assert not torch.allclose(single[0], torch.autograd.grad(own[..., 0].mean(), net.last)[0][0])


# --- what is accepted as a policy -------------------------------------------------------------


@pytest.mark.parametrize("num_latents", [0, 3])
@pytest.mark.parametrize(
    "distribution", [OneHotCategorical, MaskedCategorical, MaskedOneHotCategorical]
)
def test_every_distribution_gives_the_same_losses(distribution, num_latents):
    td = batch_of(5)
    td["agents", "action_mask"][:] = True
    options = {"num_latents": num_latents, "entropy_weight": 1.0}
    plain = masked_loss(distribution=Categorical, **options)
    other = masked_loss(distribution=distribution, **options)
    other.load_state_dict(plain.state_dict())
    noise = plain.draw_noise(td)
    assert_same(other(td, noise), plain(td, noise))


def policy_of(body, *, mask=None, distribution=Categorical):
    """The same latent before another network."""
    given = {"logits": Keys().logits, **({} if mask is None else {"mask": mask})}
    actor = ProbabilisticActor(
        body, in_keys=given, out_keys=[Keys().action], distribution_class=distribution
    )
    return vm.make_policy(vm.LatentSampler(vm.GaussianPrior(LATENT_DIM)), actor)


class Masking(nn.Module):
    """A network that takes many latents at once and leaves out illegal actions by itself."""

    broadcasts_latent = True

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, observation, latent, mask):
        shape = (*latent.shape[:-1], *observation.shape[-2:])
        return self.net(observation.expand(shape), latent).masked_fill(~mask, -math.inf)


@pytest.mark.parametrize("kind", ["masks by itself", "several networks"])
def test_policies_of_other_makers_give_the_same_losses(kind):
    keys, own_mask = Keys(), ("agents", "own_mask")
    net = AgentLogits(2, LATENT_DIM, gain=3.0).double()
    predictor = make_predictor(situation="state", masked=True).double()
    reads = {"observation": keys.observation, "latent": keys.latent}
    plain = NetworkModule(net, reads, [keys.logits])
    if kind == "several networks":
        mask = TensorDictModule(torch.clone, [keys.action_mask], [own_mask])
        other = policy_of(
            TensorDictSequential(mask, plain), mask=own_mask, distribution=MaskedCategorical
        )
    else:
        body = NetworkModule(Masking(net), {**reads, "mask": keys.action_mask}, [keys.logits])
        other = policy_of(body)
    policy = policy_of(plain, mask=keys.action_mask, distribution=MaskedCategorical)
    options = {"num_latents": 3, "entropy_weight": 1.0}
    ours, theirs = (MutualInformationLoss(x, predictor, **options) for x in (policy, other))
    assert (ours.reader.broadcasts, theirs.reader.broadcasts) == (False, "itself" in kind)
    td = batch_of(2, 3)
    noise = ours.draw_noise(td)
    expected, actual = ours(td, noise), theirs(td, noise)
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value)
    left, right = (torch.autograd.grad(out["loss_mi"], net.last)[0] for out in (expected, actual))
    torch.testing.assert_close(left, right)
    assert right.isfinite().all()


def test_policy_without_a_latent():
    loss = masked_loss(prior=None, num_latents=3, entropy_weight=1.0)
    td = batch_of(5)
    conditional = masked_loss(prior=None, entropy_weight=1.0)
    conditional.load_state_dict(loss.state_dict())
    torch.testing.assert_close(loss(td)["loss_mi"], conditional(td)["loss_mi"])
    found = loss.diagnose(td)
    torch.testing.assert_close(found.upper, torch.zeros(2, 2).double(), atol=1e-12, rtol=0.0)
    assert found.ceiling == 0.0


# --- masks, shapes, keys ----------------------------------------------------------------------


@pytest.mark.parametrize("num_latents", [0, 3])
def test_dead_agents_and_rows_without_a_legal_action_stay_finite(num_latents):
    loss = masked_loss(3, num_latents=num_latents, entropy_weight=1.0).float()
    td = batch_of(6, num_agents=3)
    td = td.apply(lambda x: x.float() if x.is_floating_point() else x)
    mask = td["agents", "action_mask"]
    mask[0, 1] = torch.tensor([True, False, False, False])
    mask[1] = False
    out = loss(td)
    (out["loss_mi"] + out["loss_predictor"]).backward()
    assert all(value.isfinite().all() for value in out.values())
    assert all(p.grad.isfinite().all() for p in loss.parameters())
    # Whoever can do one thing only is predicted for certain, and has no entropy.
    single = loss(td[:1])["pair_log_prob_matrix"]
    torch.testing.assert_close(single[:, 1], torch.zeros(3), atol=1e-6, rtol=0.0)
    log_prob = loss.reader.log_prob(td[:1], torch.zeros(1, LATENT_DIM))
    assert log_prob[0, 1].exp().tolist() == [1.0, 0.0, 0.0, 0.0]
    assert all(x.isfinite().all() for x in loss.diagnose(td, 4)[:5])


def test_nan_of_a_network_is_not_an_illegal_action():
    loss, td = masked_loss(), batch_of(4)
    with torch.no_grad():
        actor_net(loss).last[0, 0, 0] = float("nan")
    assert loss(td)["loss_mi"].isnan()


@pytest.mark.parametrize("situation", ["state", "observations"])
@pytest.mark.parametrize("batch", [(), (4,), (2, 3)])
@pytest.mark.parametrize("num_agents", [1, 2, 4])
def test_shapes_of_batches_and_groups(num_agents, batch, situation):
    given = {"situation": situation}
    options = {"entropy_weight": 1.0, "num_latents": 2, "diagnostic_latents": 3}
    loss = masked_loss(num_agents, predictor=given, reduction="none", **options)
    td = batch_of(*batch, num_agents=num_agents)
    before, noise = td.clone(), loss.draw_noise(td)
    out = loss(td, noise)
    assert set(out.keys()) == set(loss.out_keys)
    assert "latent_share" not in out
    for name in ("loss_mi", "loss_predictor"):
        assert out[name].shape == batch
        assert out[name].requires_grad
    assert out["pair_log_prob_matrix"].shape == (num_agents, num_agents)
    again = loss(td, noise)
    for name in ("loss_mi", "loss_predictor", "entropy"):
        assert torch.equal(out[name], again[name])
    assert set(td.keys(True)) == set(before.keys(True))
    assert (td == before).all()
    if num_agents == 1:
        assert (out["loss_predictor"] == 0).all()
        assert (out["pair_log_prob"] == 0).all()
        torch.testing.assert_close(out["loss_mi"].mean(), -0.1 * out["entropy"])


def test_state_and_mask_under_other_names():
    keys = Keys("walkers", state=("shared", "state"), latent=("shared", "z"))
    policy = make_policy(keys=keys, distribution=MaskedCategorical)
    predictor = make_predictor(situation="state", masked=True, keys=keys)
    loss = MutualInformationLoss(policy, predictor, keys=keys).double()
    td = batch_of(4, keys=keys)
    assert loss.in_keys == [
        ("walkers", "observation"),
        ("walkers", "action_mask"),
        ("shared", "state"),
    ]
    loss(td.select(*loss.in_keys))
    for key in loss.in_keys:
        with pytest.raises(MissingKeysError, match=str(key[1])):
            loss(td.exclude(key))
        with pytest.raises(MissingKeysError, match=str(key[1])):
            loss.diagnose(td.exclude(key))


# --- the predictor alone ----------------------------------------------------------------------


@pytest.mark.parametrize("form", ["index", "index of one", "one-hot"])
@pytest.mark.parametrize("situation", ["state", "observations"])
def test_predictor_scores_the_actions_of_a_tensordict(situation, form):
    predictor = make_predictor(3, situation, masked=True).double()
    td = batch_of(5, num_agents=3)
    td["agents", "action_mask"][:] = True
    action = torch.randint(ACTIONS, (5, 3))
    form = {
        "index": action,
        "index of one": action.unsqueeze(-1),
        "one-hot": nn.functional.one_hot(action, ACTIONS),
    }[form]
    pairs = predictor(td.set(("agents", "action"), form))["agents", "pair_log_prob"]
    key = "state" if situation == "state" else ("agents", "observation")
    table = predictor.table(td[key], td["agents", "action_mask"])
    torch.testing.assert_close(table, predictor.table(td[key]))
    for n in range(5):
        for i in range(3):
            for j in range(3):
                at = (n, i, action[n, i], j, action[n, j])
                torch.testing.assert_close(pairs[n, i, j], table[at] * (i != j))
    with pytest.raises(MissingKeysError, match="CategoricalPredictor"):
        predictor(td.exclude(key))


def test_unusable_situations():
    with pytest.raises(ValueError, match="situation must be 'state' or 'observations', got 'all'"):
        vm.CategoricalPredictor(4, 2, 3, situation="all")
    of_agents = vm.CategoricalPredictor(4, 2, 3, situation="observations")
    with pytest.raises(ValueError, match=r"observations must end in \[2, 4\], got .*\[5, 3, 4\]"):
        of_agents.table(torch.zeros(5, 3, 4))
    of_state = vm.CategoricalPredictor(4, 2, 3)
    with pytest.raises(ValueError, match=r"the state must end in \[4\], got shape \[5, 3\]"):
        of_state.table(torch.zeros(5, 3))
    with pytest.raises(ValueError, match=r"mask must be \[5, 2, 3\], got shape \[5, 2, 4\]"):
        of_state.table(torch.zeros(5, 4), torch.ones(5, 2, 4, dtype=torch.bool))


# --- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: MutualInformationLoss(make_policy(), make_parts().predictor),
            "policy is categorical and the predictor a VariationalPredictor; build a Categorical",
        ),
        (
            lambda: MutualInformationLoss(make_policy(), HyperPairNet(4, 2, 4)),
            "the predictor a HyperPairNet; build a CategoricalPredictor",
        ),
        (
            lambda: MutualInformationLoss(make_policy(), None),
            "the predictor None; build a CategoricalPredictor",
        ),
        (
            lambda: MutualInformationLoss(make_parts().policy, make_predictor()),
            "TanhNormal and the predictor a CategoricalPredictor; build a VariationalPredictor",
        ),
        (
            lambda: MutualInformationLoss(make_policy(), make_predictor(), seed_dims=1),
            "seed_dims must be 0 with a categorical policy, got 1",
        ),
        (
            lambda: MutualInformationLoss(make_policy(), make_predictor(), reverse_model="other"),
            "reverse_model must be one of .*, got 'other'",
        ),
        (
            lambda: CategoricalPolicyReader(make_parts().policy),
            "must be one of Categorical, .* for logits, got TanhNormal given by loc, scale",
        ),
        (
            lambda: MutualInformationLoss(make_policy(), make_predictor(3))(make_batch(6)),
            r"the observations must end in \[3, 4\]",
        ),
        (
            lambda: masked_loss(predictor={"num_agents": 3, "masked": False})(batch_of(4)),
            r"built for \(agents, actions\) \(3, 4\), but the policy has \(2, 4\)",
        ),
        (
            lambda: MutualInformationLoss(make_policy(), make_predictor()).diagnose(
                make_batch(6), 1
            ),
            "at least two extra latents, got 1",
        ),
    ],
)
def test_unusable_parts(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize(
    ("distribution", "names"),
    [
        (Categorical, ["probs"]),
        (MaskedCategorical, ["logits"]),
        (MaskedCategorical, ["logits", "indices"]),
        (OneHotOrdinal, ["scores"]),
        (Bernoulli, ["logits"]),
        (Normal, ["loc", "scale"]),
    ],
)
def test_distributions_that_are_given_otherwise(distribution, names):
    net = TensorDictModule(nn.Identity(), ["x"], ["x"])
    policy = ProbabilisticActor(
        net, dict.fromkeys(names, "x"), ["action"], distribution_class=distribution
    )
    with pytest.raises(ValueError, match=f"got {distribution.__name__} given by .*{names[-1]}"):
        CategoricalPolicyReader(policy)


# --- the information that a policy has --------------------------------------------------------


def outcomes_of(loss, td):
    """Policies under each of the three outcomes, one call each, ``[Z, B, N, A]``."""
    outcomes = torch.eye(3, dtype=torch.float64)
    return torch.stack([loss.reader.log_prob(td, z.expand(len(td), 3)).exp() for z in outcomes])


@torch.no_grad()
def test_estimates_of_a_categorical_latent_are_exact():
    prior = vm.CategoricalPrior(3, probs=[0.2, 0.5, 0.3])
    loss, td = masked_loss(prior=prior, gain=4.0), batch_of(5)
    found = loss.diagnose(td, 2)
    policies, weights = outcomes_of(loss, td), torch.tensor([0.2, 0.5, 0.3]).double()
    table = loss.predictor_network.table(td["state"], td["agents", "action_mask"])
    joint = torch.einsum("z,znia,znjb->nijab", weights, policies, policies)[:, 0, 1]
    marginals = joint.sum(-1), joint.sum(-2)
    entropies = [torch.special.entr(p).sum(-1).mean() for p in marginals]
    product = marginals[0].unsqueeze(-1) * marginals[1].unsqueeze(-2)
    information = torch.special.xlogy(joint, joint / product.clamp_min(1e-30)).sum((-1, -2)).mean()
    forward = (joint * table[:, 0, :, 1, :]).sum((-1, -2)).mean()
    reverse = (joint * table[:, 1, :, 0, :].mT).sum((-1, -2)).mean()
    torch.testing.assert_close(found.entropy, torch.stack(entropies))
    torch.testing.assert_close(found.upper[0, 1], information)
    torch.testing.assert_close(found.lower[0, 1], 0.5 * (sum(entropies) + forward + reverse))
    conditional = (weights[:, None, None] * torch.special.entr(policies).sum(-1)).sum(0).mean(0)
    torch.testing.assert_close(found.conditional_entropy, conditional)
    torch.testing.assert_close(found.surrogate[0, 1], 0.5 * (conditional.sum() + forward + reverse))
    assert found.ceiling == pytest.approx(math.log(3))
    assert found.latent_share.isnan().all()
    for matrix in (found.lower, found.upper, found.surrogate):
        assert (matrix.diagonal() == 0).all()
        torch.testing.assert_close(matrix, matrix.mT)
    assert found.lower[0, 1] < information
    assert information > 0.01


def test_estimates_of_a_drawn_latent_bracket_the_exact_ones():
    """The three outcomes again, now of a prior that says nothing about being finite."""

    class Drawn(vm.GaussianPrior):
        def sample(self, batch_shape, *, like=None):
            return nn.functional.one_hot(torch.randint(3, (*batch_shape,)), 3).to(like)

    exact = masked_loss(prior=vm.CategoricalPrior(3), gain=4.0)
    drawn = masked_loss(prior=Drawn(3), gain=4.0)
    drawn.load_state_dict(exact.state_dict())
    td = batch_of(1)
    td["agents", "action_mask"][:] = True
    td = td.expand(1000)
    truth, found = exact.diagnose(td[:1]), drawn.diagnose(td, 150)
    of_latent = truth.entropy - truth.conditional_entropy
    for name in ("entropy", "conditional_entropy", "lower", "surrogate"):
        torch.testing.assert_close(getattr(found, name), getattr(truth, name), atol=0.03, rtol=0.0)
    torch.testing.assert_close(found.upper[0, 1], of_latent.min(), atol=0.03, rtol=0.0)
    assert found.ceiling == pytest.approx(math.log(151))
    few = drawn.diagnose(td, 2)
    assert few.upper[0, 1] > found.upper[0, 1] + 0.01
    assert few.lower[0, 1] < found.lower[0, 1] - 0.01


# --- learning ---------------------------------------------------------------------------------


def information_after_training(seed, **options):
    """Exact information of two agents before and after training on the loss alone."""
    torch.manual_seed(seed)
    policy = make_policy(prior=vm.CategoricalPrior(3), gain=3.0, obs_dim=2, actions=3)
    predictor = vm.CategoricalPredictor(
        2, 2, 3, situation="observations", embed_dim=8, hypernet_hidden=8
    )
    loss = MutualInformationLoss(policy, predictor, entropy_weight=1.0, **options)
    td = TensorDict({("agents", "observation"): torch.ones(16, 2, 2)}, [16])
    groups = loss.parameter_groups()
    optimizer = torch.optim.Adam(
        [
            {"params": groups["loss_mi"], "lr": 0.02},
            {"params": groups["loss_predictor"], "lr": 0.05},
        ]
    )
    before = loss.diagnose(td[:1])
    for _ in range(120):
        out = loss(td)
        optimizer.zero_grad()
        (out["loss_mi"] + out["loss_predictor"]).backward()
        optimizer.step()
    return before, loss.diagnose(td[:1])


@pytest.mark.parametrize("seed", [0, 1])
def test_the_marginal_entropy_makes_policies_coordinate(seed):
    before, after = information_after_training(seed, weight=1.0, num_latents=64)
    assert before.upper[0, 1] < 0.3
    assert after.upper[0, 1] > 1.0
    # The predictor knows it: the bound is nearly tight, and log 3 is all there is.
    assert after.lower[0, 1] > after.upper[0, 1] - 0.05
    assert after.upper[0, 1] < math.log(3) + 1e-4


def test_nothing_coordinates_policies_without_weight_or_without_the_marginal_entropy():
    before, after = information_after_training(0, weight=0.0, num_latents=64)
    torch.testing.assert_close(after.upper, before.upper)
    before, after = information_after_training(0, weight=1.0, num_latents=0)
    assert after.upper[0, 1] < min(before.upper[0, 1], 0.01)
