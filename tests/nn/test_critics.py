"""Centralized critics, against explicit inputs and one plain network per agent."""

from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict
from torch.nn.functional import linear

from vm3ac_modules.keys import Keys
from vm3ac_modules.modules.critics import make_action_value, make_state_value
from vm3ac_modules.nn import CentralizedCriticNet, critics

OBS, ACTION, STATE = 5, 2, 7


def agent_network(mlp, copy, row, x):
    for index, layer in enumerate(mlp.layers):
        x = linear(x.relu() if index else x, layer.weight[copy, row].T, layer.bias[copy, row, 0])
    return x


def critic_loop(net, observation, joint_action=None, state=None):
    """Values ``[*B, N, K]`` from hand-built inputs: own entries, then the others ascending."""
    num_agents = observation.shape[-2]
    values = []
    for i in range(num_agents):
        partners = [j for j in range(num_agents) if j != i]
        own = [observation[..., i, :]] if state is None or net.own_layer is not None else []
        others = [state] if state is not None else [observation[..., j, :] for j in partners]
        if joint_action is not None:
            own.append(joint_action[..., i, 0, :])
            others += [joint_action[..., i, 1 + slot, :] for slot in range(len(partners))]
        per_critic = []
        for k in range(net.num_critics):
            row = 0 if net.trunk.layers[0].weight.shape[1] == 1 else i
            if net.own_layer is None:
                hidden = torch.cat((*own, *others), dim=-1)
            else:
                parts = (torch.cat(own, dim=-1), torch.cat(others, dim=-1))
                layers = (net.own_layer, net.others_layer)
                hidden = torch.cat(
                    [
                        linear(x, layer.weight[k, row].T, layer.bias[k, row, 0])
                        for x, layer in zip(parts, layers, strict=True)
                    ],
                    dim=-1,
                ).relu()
            per_critic.append(agent_network(net.trunk, k, row, hidden))
        values.append(torch.cat(per_critic, dim=-1))
    return torch.stack(values, dim=-2)


def critic_inputs(batch, num_agents, *, actions=True, state=False):
    observation = torch.randn(*batch, num_agents, OBS, dtype=torch.float64)
    joint = torch.randn(*batch, num_agents, num_agents, ACTION, dtype=torch.float64)
    return {
        "observation": observation,
        "joint_action": joint if actions else None,
        "state": torch.randn(*batch, STATE, dtype=torch.float64) if state else None,
    }


def critic_net(num_agents, *, actions=True, state=False, **options):
    return CentralizedCriticNet(
        OBS,
        ACTION if actions else 0,
        num_agents,
        state_dim=STATE if state else None,
        **{"hidden": (8, 6), "num_critics": 2, **options},
    ).double()


@pytest.mark.parametrize("form", ["emphasized", "plain"])
@pytest.mark.parametrize("actions", [True, False])
@pytest.mark.parametrize("state", [True, False])
@pytest.mark.parametrize("num_agents", [1, 2, 3])
def test_critic_equals_one_network_per_agent_and_critic(form, actions, state, num_agents):
    net = critic_net(num_agents, actions=actions, state=state, form=form)
    x = critic_inputs((4,), num_agents, actions=actions, state=state)
    values = net(**x)
    assert values.shape == (4, num_agents, 2)
    torch.testing.assert_close(values, critic_loop(net, **x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("batch", [(), (4,), (2, 4)])
@pytest.mark.parametrize("form", ["emphasized", "plain"])
@pytest.mark.parametrize("share_params", [False, True])
def test_critic_with_any_leading_dimensions(batch, form, share_params):
    net = critic_net(3, form=form, share_params=share_params)
    x = critic_inputs(batch, 3)
    torch.testing.assert_close(net(**x), critic_loop(net, **x), rtol=1e-12, atol=1e-12)


def test_one_agent_has_no_branch_for_others():
    net = critic_net(1)
    assert net.own_layer is None
    assert net.others_layer is None
    assert net.trunk.layers[0].weight.shape[-2] == OBS + ACTION
    # A state is something else than the own observation, so it keeps its branch.
    assert critic_net(1, state=True).others_layer.weight.shape[-2] == STATE


def test_plain_critic_of_the_state_reads_no_observation():
    net = critic_net(3, state=True, form="plain")
    assert net.trunk.layers[0].weight.shape[-2] == STATE + 3 * ACTION
    x = critic_inputs((4,), 3, state=True)
    values = net(**x)
    x["observation"] = torch.randn_like(x["observation"])
    assert torch.equal(net(**x), values)


def test_own_entries_come_first_and_others_ascending():
    # With shared weights, two agents that see the same ordered inputs have the same value.
    net = critic_net(3, share_params=True)
    row = torch.randn(3, ACTION, dtype=torch.float64)
    observation = torch.randn(3, OBS, dtype=torch.float64)
    values = net(observation, row.expand(3, 3, ACTION))
    # Agent 1 of this scene sees (o_1 | o_0, o_2) as agent 0 of the next one does.
    reordered = observation[[1, 0, 2]]
    torch.testing.assert_close(values[1], net(reordered, row.expand(3, 3, ACTION))[0])
    assert not torch.isclose(values[0], values[1]).any()


def test_agents_values_depend_on_their_own_row_of_the_joint_action():
    net = critic_net(3)
    x = critic_inputs((4,), 3)
    joint = x["joint_action"].requires_grad_()
    for i in range(3):
        (grad,) = torch.autograd.grad(net(**x)[:, i].sum(), joint)
        assert (grad[:, i] != 0).all()
        assert (grad[:, [j for j in range(3) if j != i]] == 0).all()


def test_twin_critics_are_independent():
    net = critic_net(3)
    x = critic_inputs((4,), 3)
    values = net(**x)
    assert not torch.isclose(values[..., 0], values[..., 1]).any()
    for k in range(2):
        for i in range(3):
            for grad in torch.autograd.grad(net(**x)[:, i, k].sum(), list(net.parameters())):
                assert (grad[k, i] != 0).any()
                grad[k, i] = 0
                assert (grad == 0).all()


def test_gradient_equals_that_of_the_loop():
    net, x = critic_net(3), critic_inputs((4,), 3)
    leaves = [*net.parameters(), x["joint_action"].requires_grad_()]
    fast = torch.autograd.grad(net(**x).square().sum(), leaves)
    slow = torch.autograd.grad(critic_loop(net, **x).square().sum(), leaves)
    for left, right in zip(fast, slow, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-12)


def stacked_pair(form, state):
    stacked = critic_net(3, form=form, state=state, stack_shape=(4,))
    return stacked, critic_net(3, form=form, state=state), critic_inputs((4, 5), 3, state=state)


@pytest.mark.parametrize("form", ["emphasized", "plain"])
@pytest.mark.parametrize("state", [False, True])
def test_stacked_critics_equal_separate_ones(form, state):
    stacked, single, x = stacked_pair(form, state)
    values = stacked(**x)
    assert values.shape == (4, 5, 3, 2)
    for seed in range(4):
        single.load_state_dict({name: p[seed] for name, p in stacked.state_dict().items()})
        own = {name: None if value is None else value[seed] for name, value in x.items()}
        torch.testing.assert_close(values[seed], single(**own), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("form", ["emphasized", "plain"])
def test_vmap_over_stacked_critics_equals_the_stacked_form(form):
    stacked, single, x = stacked_pair(form, False)
    values = torch.func.vmap(lambda params, *x: torch.func.functional_call(single, params, x))(
        dict(stacked.named_parameters()), x["observation"], x["joint_action"]
    )
    torch.testing.assert_close(values, stacked(**x))


@pytest.mark.parametrize("form", ["emphasized", "plain"])
@pytest.mark.parametrize("state", [False, True])
def test_critic_compiles_into_one_graph(form, state):
    net, x = critic_net(3, form=form, state=state), critic_inputs((4,), 3, state=state)
    torch._dynamo.reset()
    compiled = torch.compile(net, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(**x), net(**x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"form": "attention"}, "form must be 'emphasized' or 'plain', got 'attention'"),
        ({"num_critics": 0}, "num_critics >= 1 and a hidden layer, got 0"),
        ({"hidden": ()}, r"num_critics >= 1 and a hidden layer, got 2 and \[\]"),
    ],
)
def test_unusable_critic_options(options, message):
    with pytest.raises(ValueError, match=message):
        critic_net(3, **options)


def test_critic_of_no_agents():
    with pytest.raises(ValueError, match="num_agents must be at least 1, got 0"):
        critic_net(0)


def test_state_that_is_missing_or_not_expected():
    with pytest.raises(ValueError, match="built with a state_dim: pass the state"):
        critic_net(3, state=True)(**critic_inputs((4,), 3))
    with pytest.raises(ValueError, match="built without a state_dim: it takes no state"):
        critic_net(3)(**critic_inputs((4,), 3, state=True))


# --- critics that see a latent ----------------------------------------------------------------

LATENT = 3


def own_entries(net, x, latent):
    """(o_i, a_i, z) of every agent, without what the critic does not read."""
    own = [x["observation"]] if net.observes_itself else []
    own += [] if x["joint_action"] is None else [x["joint_action"][..., 0, :]]
    return torch.cat((*own, latent.unsqueeze(-2).expand(*x["observation"].shape[:-1], -1)), -1)


def latent_critic_loop(net, latent, observation, joint_action, state):
    """Values ``[*B, N, K]``: the latent stands at the end of the own entries."""
    num_agents, values = observation.shape[-2], []
    x = {"observation": observation, "joint_action": joint_action}
    own = own_entries(net, x, latent)
    for i in range(num_agents):
        partners = [j for j in range(num_agents) if j != i]
        others = [state] if state is not None else [observation[..., j, :] for j in partners]
        if joint_action is not None:
            others += [joint_action[..., i, 1 + slot, :] for slot in range(len(partners))]
        per_critic = []
        for k in range(net.num_critics):
            hidden = torch.cat((own[..., i, :], *others), dim=-1)
            if net.own_layer is not None:
                parts = (own[..., i, :], torch.cat(others, dim=-1))
                hidden = torch.cat(
                    [
                        linear(part, layer.weight[k, i].T, layer.bias[k, i, 0])
                        for part, layer in zip(
                            parts, (net.own_layer, net.others_layer), strict=True
                        )
                    ],
                    dim=-1,
                ).relu()
            per_critic.append(agent_network(net.trunk, k, i, hidden))
        values.append(torch.cat(per_critic, dim=-1))
    return torch.stack(values, dim=-2)


@pytest.mark.parametrize("form", ["emphasized", "plain"])
@pytest.mark.parametrize("actions", [True, False])
@pytest.mark.parametrize("state", [True, False])
@pytest.mark.parametrize("num_agents", [1, 3])
def test_latent_stands_behind_the_own_entries(form, actions, state, num_agents):
    options = {"actions": actions, "state": state}
    net = critic_net(num_agents, form=form, latent_dim=LATENT, **options)
    x, latent = critic_inputs((2, 4), num_agents, **options), torch.randn(2, 4, LATENT).double()
    values = net(**x, latent=latent.requires_grad_())
    expected = latent_critic_loop(net, latent, **x)
    torch.testing.assert_close(values, expected, rtol=1e-12, atol=1e-12)
    for i in range(num_agents):
        (gradient,) = torch.autograd.grad(values[..., i, :].sum(), latent, retain_graph=True)
        assert (gradient != 0).any(-1).all()


@pytest.mark.parametrize("form", ["emphasized", "plain"])
@pytest.mark.parametrize("state", [False, True])
def test_stacked_latent_critics_equal_separate_ones(form, state):
    options = {"form": form, "state": state, "latent_dim": LATENT}
    stacked, single = critic_net(3, stack_shape=(4,), **options), critic_net(3, **options)
    x, latent = critic_inputs((4, 5), 3, state=state), torch.randn(4, 5, LATENT).double()
    values = stacked(**x, latent=latent)
    for seed in range(4):
        single.load_state_dict({name: p[seed] for name, p in stacked.state_dict().items()})
        own = {name: None if value is None else value[seed] for name, value in x.items()}
        expected = single(**own, latent=latent[seed])
        torch.testing.assert_close(values[seed], expected, rtol=1e-12, atol=1e-12)


def test_latent_that_is_missing_not_expected_or_of_the_wrong_size():
    x = critic_inputs((4,), 3)
    with pytest.raises(ValueError, match="built for latent_dim=3"):
        critic_net(3, latent_dim=LATENT)(**x)
    with pytest.raises(ValueError, match="built for latent_dim=0"):
        critic_net(3)(**x, latent=torch.zeros(4, LATENT).double())
    with pytest.raises(ValueError, match="does not fit weights"):
        critic_net(3, latent_dim=LATENT)(**x, latent=torch.zeros(4, LATENT + 1).double())


@pytest.mark.parametrize("critic_input", ["observations", "state"])
def test_latent_critics_read_the_latents_key(critic_input):
    keys, options = Keys(latent=("shared", "z")), {"hidden": (8,), "latent_dim": LATENT}
    options |= {"critic_input": critic_input, "state_dim": STATE, "keys": keys}
    for module in (
        make_action_value(OBS, ACTION, 3, **options),
        make_state_value(OBS, 3, **options),
    ):
        assert ("shared", "z") in module.in_keys
        x = critic_inputs((4,), 3, state=True)
        td = TensorDict(
            {keys.observation: x["observation"].float(), "state": x["state"].float()}, [4]
        )
        td[keys.joint_action] = x["joint_action"].float()
        td["shared", "z"] = torch.randn(4, LATENT)
        before = module(td.clone())[module.out_keys[0]]
        td["shared", "z"] = torch.randn(4, LATENT)
        assert (module(td)[module.out_keys[0]] != before).all()
    assert "latent" not in make_state_value(OBS, 3).in_keys


@pytest.mark.parametrize("form", ["emphasized", "plain"])
@pytest.mark.parametrize("action_dim", [0, ACTION])
@pytest.mark.parametrize("latent_dim", [0, 3])
@pytest.mark.parametrize("stack", [(), (2,)])
def test_running_sums_give_what_separate_products_give(
    monkeypatch, form, action_dim, latent_dim, stack
):
    options = {"form": form, "latent_dim": latent_dim, "num_critics": 2, "stack_shape": stack}
    found = []
    inputs = [torch.randn(*stack, 3, 5, OBS, dtype=torch.float64, requires_grad=True)]
    if action_dim:
        joint = torch.randn(*stack, 3, 5, 5, ACTION, dtype=torch.float64, requires_grad=True)
        inputs.append(joint)
    latent = torch.randn(*stack, 3, latent_dim, dtype=torch.float64) if latent_dim else None
    for least in (6, 5):
        monkeypatch.setattr(critics, "_SUMS_FROM", least)
        torch.manual_seed(0)
        net = CentralizedCriticNet(OBS, action_dim, 5, share_params=True, **options).double()
        assert net.sums_others == (least == 5)
        value = net(*inputs, latent=latent)
        wanted = [*inputs, *net.parameters()]
        found.append([value, *torch.autograd.grad(value.square().sum(), wanted)])
    for separate, summed in zip(*found, strict=True):
        torch.testing.assert_close(summed, separate, rtol=1e-10, atol=1e-10)
