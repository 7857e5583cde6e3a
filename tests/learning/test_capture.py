"""An update is a function of tensors alone, so that it can be one CUDA graph.

No GPU is needed: a tape of the operations of one update, replayed on the same tensors, must do what
updates do.
"""

from __future__ import annotations

import pytest
import torch
from contracts.on_device import BATTLE, Life
from contracts.tape import tape
from tensordict import TensorDict
from torchrl.objectives import HardUpdate

from vm3ac_modules.algorithms import presets
from vm3ac_modules.learning.capture import CapturedCall, CapturedUpdate

CONTINUOUS = sorted(presets("continuous"))


def updated(make=None, turns=10, **options):
    """What updates leave behind, done one by one or by what ``make`` makes of an agent."""
    life = Life(options.pop("algorithm", "vm3ac"), "guard", **options)
    if make is not None:
        life.agent.captured = make(life.agent)
    found = {}
    for turn in range(turns):
        life.collect()
        for name, value in life.update().items():
            found[f"{turn} {name}"] = value
    found |= dict(life.agent.loss.state_dict())
    found |= {f"clips {name}": value for name, value in life.agent.clip_counts.items()}
    for loss, optimizer in life.agent.optimizers.items():
        for index, state in optimizer.state_dict()["state"].items():
            found |= {f"{loss} {index} {name}": value for name, value in state.items()}
    return {name: torch.as_tensor(value).detach() for name, value in found.items()}


def same(one, other):
    return one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)


def taped(agent):
    return CapturedUpdate(agent.learn, list(agent.optimizers.values()), tape)


@pytest.mark.parametrize("algorithm", CONTINUOUS)
def test_a_replayed_update_is_an_update(algorithm):
    assert same(updated(algorithm=algorithm), updated(taped, algorithm=algorithm))


@pytest.mark.parametrize(
    "options",
    [
        {"seeds": 2},
        {"beta_end": 0.01, "beta_frames": 20},
        {"latent_held": True},
        {"algorithm": "si_moa", "influence_start_frames": 6, "influence_full_frames": 30},
    ],
    ids=str,
)
def test_what_changes_between_updates_reaches_a_replayed_one(options):
    assert same(updated(**options), updated(taped, **options))


def test_a_replay_shows_what_the_host_counts():
    """The tape can tell: targets that are copied at every second update are none of tensors."""

    def counting(make):
        def changed(agent):
            agent.target = HardUpdate(agent.loss, value_network_update_interval=1)
            return make(agent)

        return changed

    plain = updated(counting(lambda agent: agent.learn))
    assert not same(plain, updated(counting(taped)))


def test_a_graph_per_size_of_batch_and_limit_of_the_gradients():
    life = Life("vm3ac", "guard")
    life.agent.captured = taped(life.agent)
    for _ in range(3):
        life.collect()
        life.update()
    assert list(life.agent.captured.graphs) == [((4,), 1.0)]
    groups = [group for o in life.agent.optimizers.values() for group in o.param_groups]
    assert not any(group["capturable"] for group in groups)


def test_an_update_that_asks_the_device_goes_on_as_it_was(caplog):
    weight = torch.nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.Adam([weight], lr=1.0)
    gradients = []

    def learn(batch, max_grad_norm):
        (weight * batch["x"]).sum().backward()
        gradients.append(float(weight.grad))
        optimizer.step()
        optimizer.zero_grad()
        return {"loss": weight.detach().clone()}

    update = CapturedUpdate(learn, [optimizer], tape)
    found = [update(TensorDict({"x": torch.ones(2)}, [2]), None)["loss"] for _ in range(6)]
    # The recording that failed leaves no gradient behind.
    assert gradients == [2.0] * 6
    assert torch.stack(found).tolist() == pytest.approx([-1, -2, -3, -4, -5, -6])
    assert caplog.text.count("The update is not replayed as a CUDA graph") == 1


def test_optimizers_are_capturable_while_torch_captures(monkeypatch):
    seen = []
    life = Life("vm3ac", "guard")
    optimizers = list(life.agent.optimizers.values())

    def learn(batch, max_grad_norm):
        seen.append({group["capturable"] for o in optimizers for group in o.param_groups})
        return {"loss": torch.zeros(())}

    update = CapturedUpdate(learn, optimizers)
    life.collect()
    [batch] = [life.source.sample()]
    update(batch, None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    update(batch, None)
    assert seen == [{False}, {True}]
    assert not any(group["capturable"] for o in optimizers for group in o.param_groups)


@pytest.mark.parametrize(
    "algorithm",
    [
        name if name == "vm3ac_tight" else pytest.param(name, marks=pytest.mark.slow)
        for name in CONTINUOUS
    ],
)
def test_a_loss_compiles_as_one_graph(algorithm):
    """No break, and the numbers of a loss that is not compiled."""

    # What torch has compiled of other losses counts towards its limit.
    torch.compiler.reset()

    def compiled(agent):
        agent.compile(backend="aot_eager", fullgraph=True)
        return None

    expected = updated(algorithm=algorithm, turns=3)
    found = updated(compiled, algorithm=algorithm, turns=3)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("algorithm", CONTINUOUS)
def test_algorithms_over_continuous_actions_can_be_captured(algorithm, monkeypatch):
    agent = Life(algorithm, "guard").agent
    assert agent.reason_against_capture == "its networks are on the cpu"
    with pytest.raises(ValueError, match=f"{algorithm} cannot update as a CUDA graph: its netw"):
        agent.capture()
    monkeypatch.setattr(agent.loss, "parameter_groups", dict)
    agent.capture()
    assert agent.captured is not None


def test_algorithms_over_whole_episodes_cannot(monkeypatch):
    agent = Life("vm3ac", BATTLE).agent
    monkeypatch.setattr(agent.loss, "parameter_groups", dict)
    assert agent.reason_against_capture == "its optimizer RMSprop counts its steps on the host"
    agent.optimizers = {}
    assert "HardUpdate counts on the host" in agent.reason_against_capture


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("algorithm", CONTINUOUS)
@pytest.mark.parametrize("seeds", [1, 2])
def test_a_cuda_graph_is_an_update(algorithm, seeds):
    def make(agent):
        agent.capture()
        return agent.captured

    options = {"algorithm": algorithm, "seeds": seeds, "device": "cuda", "turns": 12}
    expected, found = updated(**options), updated(make, **options)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5, equal_nan=True)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_draws_go_on_after_a_capture_that_failed(caplog):
    own = torch.Generator(device="cuda").manual_seed(0)

    def asking(given):
        x = given["x"] + torch.randn_like(given["x"])
        x = x + torch.rand(2, generator=own, device="cuda")
        return TensorDict({"y": x if x.sum() > 0 else -x}, [2])

    def found(call):
        torch.manual_seed(0)
        own.manual_seed(0)
        given = TensorDict({"x": torch.ones(2, device="cuda")}, [2])
        return torch.stack([call(given)["y"] for _ in range(6)])

    expected = found(asking)
    torch.testing.assert_close(found(CapturedCall(asking, "It", generators=[own])), expected)
    assert "It is not replayed as a CUDA graph" in caplog.text
    assert torch.randn(2, device="cuda").isfinite().all()
