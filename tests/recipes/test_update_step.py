from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("tensordict")
sys.path.insert(0, str(Path(__file__).parents[2] / "recipes" / "benchmarks"))

import cost_curve
import update_step
from tensordict import TensorDict
from torchrl.data import Bounded
from torchrl.objectives import SoftUpdate

import vm3ac_modules as vm
from vm3ac_modules.testing import PlainVM3AC


def copy_mlp(into, layers):
    """Weights of agent-batched layers into the stacked lists of the plain reference."""
    for index, layer in enumerate(layers):
        with torch.no_grad():
            into[2 * index].copy_(layer.weight.flatten(0, -3))
            into[2 * index + 1].copy_(layer.bias.flatten(0, -3))


@pytest.mark.parametrize("num_agents", [2, 3])
def test_the_plain_reference_computes_the_same_losses_and_gradients(num_agents):
    td = update_step.make_batch(num_agents, 16)
    td["next", "terminated"][::3] = True
    spec = Bounded(-1.0, 1.0, (num_agents, update_step.A))
    actor = vm.make_actor(update_step.OBS, update_step.Z, spec)
    policy = vm.make_policy(vm.LatentSampler(vm.GaussianPrior(update_step.Z)), actor)
    loss = vm.VM3ACLoss(
        policy,
        vm.make_action_value(update_step.OBS, update_step.A, num_agents, form="plain"),
        vm.make_state_value(update_step.OBS, num_agents, form="plain"),
        vm.VariationalPredictor(update_step.OBS, spec, scale=0.2, normalized=False),
        beta=0.1,
        gamma=0.99,
    )
    SoftUpdate(loss, tau=0.005)
    plain = PlainVM3AC(num_agents, td, beta=0.1, gamma=0.99, tau=0.005, lr=3e-4, sigma=0.2)
    policy_net = loss.reader.body[0].net
    nets = (loss.qvalue_network.net, loss.value_network.net, loss.predictor_network.net)
    with torch.no_grad():
        first = torch.cat((policy_net.observation_layer.weight, policy_net.latent_layer.weight), -2)
        plain.actor[0].copy_(first)
        plain.actor[1].copy_(policy_net.observation_layer.bias)
    copy_mlp(plain.actor[2:], policy_net.trunk.layers)
    reorder(nets, plain, num_agents)
    noise = loss.draw_noise(td)
    ours = loss(td, noise)
    theirs = plain.losses(noise["latent"], noise["action"].transpose(0, 1))
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-4, atol=1e-5)
    torch.stack([ours[name] for name in theirs]).sum().backward()
    torch.stack(list(theirs.values())).sum().backward()
    expected = torch.cat(
        (policy_net.observation_layer.weight.grad, policy_net.latent_layer.weight.grad), -2
    )
    torch.testing.assert_close(plain.actor[0].grad, expected, rtol=1e-3, atol=1e-5)


def reorder(nets, plain, n):
    """The order of inputs differs between both; the last layers do not."""
    critic, value, predictor = nets
    obs, act = update_step.OBS, update_step.A
    # Ours: own observation, own action, others' observations, others' actions.
    own_obs = torch.arange(obs)
    own_act = obs + torch.arange(act)
    rest_obs = obs + act + torch.arange((n - 1) * obs)
    rest_act = rest_obs.numel() + obs + act + torch.arange((n - 1) * act)
    critic_order = torch.cat((own_obs, rest_obs, own_act, rest_act))
    # Ours: a_c, o_c, id_c, o_t, id_t; theirs: a_c, o_c, o_t, id_c, id_t.
    sizes = [act, obs, n, obs, n]
    a, o, i, p, j = torch.arange(sum(sizes)).split(sizes)
    pair_order = torch.cat((a, o, p, i, j))
    for into, net, order in (
        (plain.critic, critic.trunk, critic_order),
        (plain.value, value.trunk, slice(None)),
        (plain.predictor, predictor.net, pair_order),
    ):
        copy_mlp(into, net.layers)
        with torch.no_grad():
            into[0].copy_(net.layers[0].weight.flatten(0, -3)[:, order])
    with torch.no_grad():
        for target, source in zip(plain.target, plain.value, strict=True):
            target.copy_(source)


def test_one_json_object_with_all_contestants(capsys):
    arguments = ["--agents", "2", "--batch", "8", "--threads", "1", "--repeats", "2", "--json"]
    update_step.main(arguments)
    result = json.loads(capsys.readouterr().out)
    rows = {row["series"]: row for row in result["rows"]}
    assert set(rows) == {"vm3ac (all pairs)", "reference", "torchrl_sac"}
    assert all(row["ms"] > 0 and row["agents"] == 2 for row in rows.values())
    assert rows["torchrl_sac"]["times_sac"] == 1.0
    sac_ms = rows["torchrl_sac"]["ms"]
    assert all(row["times_sac"] == row["ms"] / sac_ms for row in rows.values())
    assert result["exponents"] == {}


def test_rows_of_several_sizes_are_kept_beside_those_of_other_choices(tmp_path, capsys):
    arguments = ["agents=2,3", "batch=8", "threads=1", "repeats=2", f"out={tmp_path}"]
    update_step.main(arguments)
    more = ["pairs=1", "share_params=true", "critic=emphasized", "clock=cpu"]
    update_step.main([*arguments, *more])
    shared = "vm3ac (pairs=1, critic=emphasized, share_params)"
    out = capsys.readouterr().out
    assert f"| {shared} |" in out
    with (tmp_path / "update_step.csv").open() as file:
        rows = list(csv.DictReader(file))
    kept = {(row["series"], row["agents"], row["clock"]) for row in rows}
    series = {"vm3ac (all pairs)": "wall", "reference": "wall", "torchrl_sac": "cpu", shared: "cpu"}
    assert kept == {(name, n, clock) for name, clock in series.items() for n in "23"}
    assert len(rows) == len(kept)
    assert (tmp_path / "update_step.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "update_step.md").read_text().count("\n") == 2 + len(series)


@given(st.floats(0.0, 3.0), st.floats(0.01, 100.0))
def test_exponent_of_a_power_law(power, factor):
    cost = {n: factor * n**power for n in (2, 4, 8, 64)}
    assert cost_curve.exponent(cost) == pytest.approx(power, abs=1e-9)


def test_operations_that_take_the_most_time(capsys):
    arguments = ["batch=8", "threads=1", "repeats=1", "profile=3"]
    update_step.main(arguments)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| `")]
    times = [float(line.split(" | ")[1]) for line in lines]
    assert len(lines) == 3
    assert times == sorted(times, reverse=True)


def test_one_size_has_no_exponent():
    assert list(cost_curve.table({"a": {2: 1.5}}))[-1] == "| a | 1.5 | - |"


@pytest.mark.parametrize(("pairs", "drawn"), [(None, None), (1, 1), (5, None)])
def test_vm3ac_is_built_as_chosen(monkeypatch, pairs, drawn):
    built = []
    plain = vm.VM3ACLoss
    monkeypatch.setattr(vm, "VM3ACLoss", lambda *x, **o: built.append(plain(*x, **o)) or built[-1])
    chosen = update_step.UpdateStep(pairs=pairs, critic="attention", share_params=True)
    update_step.vm3ac_update(3, update_step.make_batch(3, 4), chosen)
    [loss] = built
    assert loss.terms[0].pairs == drawn
    assert type(loss.value_network.net).__name__ == "AttentionCriticNet"
    assert loss.predictor_network.net.net.layers[0].weight.shape[0] == 1


@pytest.mark.parametrize("contestant", ["vm3ac", "reference", "torchrl_sac"])
def test_every_contestant_really_updates(contestant):
    td = update_step.make_batch(2, 8)
    before = td.clone()
    update = getattr(update_step, f"{contestant}_update")(2, td)
    cells = update.__self__ if hasattr(update, "__self__") else update.__closure__
    update()
    assert cells is not None
    assert (td == before).all()
    assert isinstance(td, TensorDict)
