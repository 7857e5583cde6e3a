"""The latent-conditioned Gaussian policy network, and the deterministic one."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import linear

from vm3ac_modules.nn import DeterministicNet, LatentCategoricalNet, LatentGaussianNet
from vm3ac_modules.nn.actors import LOG_STD_RANGE


def latent_loop(net, observation, latent):
    """One concatenated first layer per agent, then one plain network per agent."""
    outputs = []
    for agent in range(observation.shape[-2]):
        row = 0 if net.observation_layer.weight.shape[0] == 1 else agent
        weight = torch.cat((net.observation_layer.weight[row], net.latent_layer.weight[row]))
        x = torch.cat((observation[..., agent, :], latent), dim=-1)
        x = linear(x, weight.T, net.observation_layer.bias[row, 0]).relu()
        for index, layer in enumerate(net.trunk.layers):
            x = linear(x.relu() if index else x, layer.weight[row].T, layer.bias[row, 0])
        outputs.append(x)
    return torch.stack(outputs, dim=-2)


def latent_gaussian_loop(net, observation, latent):
    loc, raw = latent_loop(net, observation, latent).chunk(2, dim=-1)
    low, high = LOG_STD_RANGE[net.log_std]
    if net.log_std == "clamp":
        log_std = raw.clamp(low, high)
    else:
        log_std = low + (high - low) * (raw.tanh() + 1) / 2
    return loc, log_std.exp()


def latent_net(**options):
    options = {"hidden": (8, 8), **options}
    return LatentGaussianNet(5, 3, 2, 4, **options).double()


def inputs(*batch, num_agents=4, latent_dim=3):
    observation = torch.randn(*batch, num_agents, 5, dtype=torch.float64)
    return observation, torch.randn(*batch, latent_dim, dtype=torch.float64)


@pytest.mark.parametrize("batch", [(), (6,), (2, 6)])
@pytest.mark.parametrize("share_params", [False, True])
@pytest.mark.parametrize("log_std", ["clamp", "paper"])
def test_policy_equals_one_network_per_agent(batch, share_params, log_std):
    net = latent_net(share_params=share_params, log_std=log_std)
    observation, latent = inputs(*batch)
    loc, scale = net(observation, latent)
    expected_loc, expected_scale = latent_gaussian_loop(net, observation, latent)
    assert loc.shape == scale.shape == (*batch, 4, 2)
    torch.testing.assert_close(loc, expected_loc, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(scale, expected_scale, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("share_params", [False, True])
def test_logits_equal_one_network_per_agent(share_params):
    net = LatentCategoricalNet(5, 3, 6, 4, hidden=(8, 8), share_params=share_params).double()
    observation, latent = inputs(7)
    logits, expected = net(observation, latent), latent_loop(net, observation, latent)
    assert logits.shape == (7, 4, 6)
    torch.testing.assert_close(logits, expected, rtol=1e-12, atol=1e-12)


def test_many_logits_equal_separate_calls():
    net = LatentCategoricalNet(5, 3, 6, 4, hidden=(8,)).double()
    observation, latents = torch.randn(7, 4, 5).double(), torch.randn(7, 9, 3).double()
    many = net(observation.unsqueeze(1), latents)
    each = torch.stack([net(observation, latent) for latent in latents.unbind(1)], 1)
    torch.testing.assert_close(many, each, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("log_std", ["clamp", "paper"])
def test_many_heads_equal_separate_calls(log_std):
    net = latent_net(log_std=log_std)
    observation, _ = inputs(6)
    latents = torch.randn(6, 7, 3, dtype=torch.float64)
    loc, scale = net(observation.unsqueeze(1), latents)
    assert loc.shape == (6, 7, 4, 2)
    for k in range(7):
        expected_loc, expected_scale = net(observation, latents[:, k])
        torch.testing.assert_close(loc[:, k], expected_loc, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(scale[:, k], expected_scale, rtol=1e-12, atol=1e-12)


def test_one_latent_per_agent():
    net = latent_net()
    observation, _ = inputs(6)
    latent = torch.randn(6, 4, 3, dtype=torch.float64)
    loc, _ = net(observation, latent)
    for agent in range(4):
        expected, _ = net(observation, latent[:, agent])
        torch.testing.assert_close(loc[:, agent], expected[:, agent])


def test_a_common_latent_is_the_same_for_all_agents():
    net = latent_net()
    observation, latent = inputs(6)
    same = latent.unsqueeze(-2).expand(6, 4, 3)
    torch.testing.assert_close(net(observation, latent), net(observation, same))


def test_policies_do_not_influence_each_other():
    net = latent_net()
    for agent in range(4):
        loc, scale = net(*inputs(6))
        grads = torch.autograd.grad((loc + scale)[:, agent].sum(), list(net.parameters()))
        for grad in grads:
            others = [other for other in range(4) if other != agent]
            assert (grad[others] == 0).all()
            assert (grad[agent] != 0).any()


def test_permuting_agents_permutes_a_shared_policy():
    net = latent_net(share_params=True)
    (observation, latent), order = inputs(6), torch.tensor([3, 1, 0, 2])
    for permuted, plain in zip(
        net(observation[:, order], latent), net(observation, latent), strict=True
    ):
        torch.testing.assert_close(permuted, plain[:, order])


def test_clamp_starts_at_its_bias():
    net = LatentGaussianNet(5, 3, 2, 4, hidden=(64, 64))
    _, scale = net(torch.randn(200, 4, 5), torch.randn(200, 3))
    assert math.exp(-2.6) < scale.median() < math.exp(-1.4)
    wide = LatentGaussianNet(5, 3, 2, 4, initial_log_std=0.5)
    assert (wide.trunk.layers[-1].bias[..., 2:] == 0.5).all()
    assert (wide.trunk.layers[-1].bias[..., :2] != 0.5).all()


def test_paper_starts_near_1e_4():
    net = LatentGaussianNet(5, 3, 2, 4, hidden=(64, 64), log_std="paper")
    _, scale = net(torch.randn(200, 4, 5), torch.randn(200, 3))
    assert 1e-5 < scale.median() < 1e-3


@pytest.mark.parametrize(("log_std", "low"), [("clamp", -5.0), ("paper", -20.0)])
def test_range_of_the_standard_deviation(log_std, low):
    net = latent_net(log_std=log_std)
    with torch.no_grad():
        net.trunk.layers[-1].weight.mul_(1e4)
    _, scale = net(*inputs(500))
    assert scale.min().item() == pytest.approx(math.exp(low))
    assert scale.max().item() == pytest.approx(math.exp(2.0))


def test_latent_gain_scales_the_latent_columns_only():
    torch.manual_seed(3)
    plain = latent_net()
    torch.manual_seed(3)
    gained = latent_net(latent_gain=3.0)
    for (name, left), (_, right) in zip(
        plain.named_parameters(), gained.named_parameters(), strict=True
    ):
        factor = 3.0 if name == "latent_layer.weight" else 1.0
        torch.testing.assert_close(factor * left, right)


def test_first_layer_starts_as_one_layer_over_the_concatenation():
    net = LatentGaussianNet(12, 4, 2, 3, hidden=(500,))
    for weight in (net.observation_layer.weight, net.latent_layer.weight):
        assert 0.24 < weight.abs().max() <= 0.25


@pytest.mark.parametrize("latent", [None, torch.zeros(6, 3), torch.zeros(6, 0)])
def test_without_latent_the_argument_is_ignored(latent):
    net = LatentGaussianNet(5, 0, 2, 4, hidden=(8,))
    observation = torch.randn(6, 4, 5)
    torch.testing.assert_close(net(observation, latent), net(observation))


def test_stacked_policies_equal_separate_ones():
    stacked = latent_net(stack_shape=(3,))
    observation, latent = torch.randn(3, 6, 4, 5).double(), torch.randn(3, 6, 3).double()
    loc, scale = stacked(observation, latent)
    many_loc, _ = stacked(observation.unsqueeze(2), latent.unsqueeze(2).expand(3, 6, 2, 3))
    torch.testing.assert_close(many_loc[:, :, 1], loc)
    single = latent_net()
    for seed in range(3):
        single.load_state_dict({name: p[seed] for name, p in stacked.state_dict().items()})
        expected_loc, expected_scale = single(observation[seed], latent[seed])
        torch.testing.assert_close(loc[seed], expected_loc, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(scale[seed], expected_scale, rtol=1e-12, atol=1e-12)


def test_vmap_over_stacked_policies_equals_the_stacked_form():
    stacked, single = latent_net(stack_shape=(3,)), latent_net()
    observation, latent = torch.randn(3, 6, 4, 5).double(), torch.randn(3, 6, 3).double()
    loc, scale = torch.func.vmap(lambda params, *x: torch.func.functional_call(single, params, x))(
        dict(stacked.named_parameters()), observation, latent
    )
    expected_loc, expected_scale = stacked(observation, latent)
    torch.testing.assert_close(loc, expected_loc)
    torch.testing.assert_close(scale, expected_scale)


@pytest.mark.parametrize("log_std", ["clamp", "paper"])
def test_policy_compiles_into_one_graph(log_std):
    net = latent_net(log_std=log_std)
    torch._dynamo.reset()
    compiled = torch.compile(net, fullgraph=True, backend="eager")
    observation, latent = inputs(6)
    torch.testing.assert_close(compiled(observation, latent), net(observation, latent))


@pytest.mark.parametrize("latent", [None, torch.zeros(6, 2), torch.zeros(6, 4, 2)])
def test_latent_that_is_missing_or_of_the_wrong_size(latent):
    net = LatentGaussianNet(5, 3, 2, 4, hidden=(8,))
    with pytest.raises(ValueError, match="built for a latent of 3 entries"):
        net(torch.zeros(6, 4, 5), latent)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latent_dim": -1}, "latent_dim must not be negative, got -1"),
        ({"hidden": ()}, "at least one hidden layer"),
        ({"log_std": "softplus"}, r"log_std must be one of \['clamp', 'paper'\], got 'softplus'"),
        ({"num_agents": 0}, "num_agents must be at least 1"),
    ],
)
def test_unusable_policy_options(options, message):
    options = {"obs_dim": 5, "latent_dim": 3, "action_dim": 2, "num_agents": 4, **options}
    with pytest.raises(ValueError, match=message):
        LatentGaussianNet(**options)


# --- the deterministic network ----------------------------------------------------------------


def deterministic_net(**options):
    # Ranges differ between agents and between actions.
    low = -torch.arange(1.0, 9.0).reshape(4, 2)
    return DeterministicNet(5, low, 3.0 - 0.5 * low, **{"hidden": (8, 8), **options}).double()


def deterministic_loop(net, observation):
    """One plain network per agent, then its own range."""
    actions = []
    for agent in range(4):
        row = 0 if net.net.layers[0].weight.shape[0] == 1 else agent
        x = observation[..., agent, :]
        for index, layer in enumerate(net.net.layers):
            x = linear(x.relu() if index else x, layer.weight[row].T, layer.bias[row, 0])
        low = -torch.tensor([2.0 * agent + 1.0, 2.0 * agent + 2.0], dtype=torch.float64)
        high = 3.0 - 0.5 * low
        actions.append(low + (high - low) * (x.tanh() + 1) / 2)
    return torch.stack(actions, dim=-2)


@pytest.mark.parametrize("batch", [(), (6,), (2, 6)])
@pytest.mark.parametrize("hidden", [(), (8, 8)])
@pytest.mark.parametrize("share_params", [False, True])
def test_deterministic_policy_equals_one_network_per_agent(batch, hidden, share_params):
    net, observation = (
        deterministic_net(hidden=hidden, share_params=share_params),
        inputs(*batch)[0],
    )
    action = net(observation)
    assert action.shape == (*batch, 4, 2)
    torch.testing.assert_close(action, deterministic_loop(net, observation), rtol=1e-12, atol=1e-12)


def test_deterministic_policies_do_not_influence_each_other():
    net = deterministic_net()
    for agent in range(4):
        action = net(inputs(6)[0])[:, agent]
        for grad in torch.autograd.grad(action.sum(), list(net.parameters())):
            assert (grad[[other for other in range(4) if other != agent]] == 0).all()
            assert (grad[agent] != 0).any()


def test_deterministic_actions_fill_their_range():
    net = deterministic_net(hidden=())
    with torch.no_grad():
        net.net.layers[-1].weight.mul_(1e4)
    action, low = net(inputs(500)[0]), -torch.arange(1.0, 9.0).reshape(4, 2).double()
    torch.testing.assert_close(action.amin(0), low)
    torch.testing.assert_close(action.amax(0), 3.0 - 0.5 * low)


def test_the_action_range_is_saved_and_not_trained():
    net = deterministic_net()
    assert {"center", "half_range"} <= set(net.state_dict())
    assert {name.split(".")[0] for name, _ in net.named_parameters()} == {"net"}


def test_stacked_deterministic_policies_equal_separate_ones():
    stacked, single = deterministic_net(stack_shape=(3,)), deterministic_net()
    observation = torch.randn(3, 6, 4, 5).double()
    action = stacked(observation)
    for seed in range(3):
        single.net.load_state_dict({n: p[seed] for n, p in stacked.net.state_dict().items()})
        torch.testing.assert_close(action[seed], single(observation[seed]), rtol=1e-12, atol=1e-12)


def test_deterministic_policy_of_another_number_of_agents():
    with pytest.raises(ValueError, match="does not fit weights"):
        deterministic_net()(inputs(6, num_agents=3)[0])
