"""What BenchMARL asks of an algorithm, and what is refused before a run begins."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import nn

pytest.importorskip("benchmarl")
pytest.importorskip("vmas")

from benchmarl.models import SequenceModelConfig
from contracts.benchmarl import make, perceptron, transitions

from vm3ac_modules.algorithms import build_from, find_preset
from vm3ac_modules.envs.vmas.env import VMASEnv
from vm3ac_modules.integrations.benchmarl import ALGORITHMS
from vm3ac_modules.integrations.benchmarl.models import hidden_widths
from vm3ac_modules.options import OptionsError

# BenchMARL 1.5.2 uses what TorchRL 0.11 deprecates, and tells of episodes that have not ended.
pytestmark = pytest.mark.filterwarnings("default")


def test_the_loss_is_the_packages_own(tmp_path):
    experiment = make(tmp_path, "vm3ac", gamma=0.9)
    algorithm = experiment.algorithm
    env = VMASEnv("balance", 2, seed=0, n_agents=4)
    mine = build_from(
        dataclasses.replace(
            find_preset("vm3ac", "continuous").options,
            gamma=0.9,
            hidden=(8, 6),
            share_params=True,
        ),
        env,
        name="vm3ac",
    )
    theirs = experiment.losses["agents"]
    mine.loss.load_state_dict(theirs.state_dict())
    seen = experiment.observation_spec["agents", "observation"].shape
    td = transitions("agents", 6, *seen, 2)
    batch = algorithm.process_batch("agents", td.clone())
    noise = theirs.draw_noise(batch)
    out = theirs(batch, noise)
    expected = mine.loss(batch, noise)
    assert {"loss_actor", "loss_qvalue", "loss_value", "loss_predictor"} <= set(out.keys())
    for key, value in expected.items():
        torch.testing.assert_close(out[key], value)
    assert algorithm.process_loss_vals("agents", out) is out
    found = algorithm.get_parameters("agents")
    assert {k: [id(p) for p in v] for k, v in found.items()} == {
        k: [id(p) for p in v] for k, v in theirs.parameter_groups().items()
    }


def test_what_a_team_has_in_common_is_every_agents(tmp_path):
    algorithm = make(tmp_path).algorithm
    td = transitions("agents", 5, 4, 3, 2)
    batch = algorithm.process_batch("agents", td.clone())
    for name in ("reward", "terminated"):
        found = batch["next", "agents", name]
        assert found.shape == (5, 4, 1)
        assert torch.equal(found, td["next", name].unsqueeze(1).expand(5, 4, 1))
    own = torch.randn(5, 4, 1)
    td["next", "agents", "reward"] = own
    assert torch.equal(algorithm.process_batch("agents", td)["next", "agents", "reward"], own)


def test_widths_are_those_of_the_models(tmp_path):
    loss = make(tmp_path, model=(8, 6), critic=(5, 7, 4)).losses["agents"]

    def widths(network):
        shapes = [tuple(p.shape[-2:]) for p in getattr(loss, network).parameters()]
        return {width for fan_in, width in shapes if fan_in > 1}

    assert widths("actor_network_params") == {8, 6, 4}  # the last is mean and deviation of 2
    assert widths("predictor_network_params") >= {8, 6}
    assert widths("qvalue_network_params") == {5, 7, 4, 1}
    assert widths("value_network_params") == {5, 7, 4, 1}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            perceptron(8, activation=nn.Tanh),
            r"model.activation_class must be torch.nn.ReLU, got Tanh",
        ),
        (perceptron(8, norm_class=nn.LayerNorm), "model.norm_class must be None, got LayerNorm"),
        (perceptron(8, activation_kwargs={"x": 1}), "model.activation_kwargs must be None"),
        (perceptron(8, num_feature_dims=2), "model.num_feature_dims must be 1, got 2"),
        (perceptron(), r"model.num_cells must list the width of every hidden layer, got \[\]"),
        (
            SequenceModelConfig([perceptron(8), perceptron(8)], [4]),
            r"model must be an MlpConfig \(model=layers/mlp\), got SequenceModelConfig",
        ),
    ],
)
def test_models_that_are_not_what_runs_are_refused(tmp_path, model, message):
    with pytest.raises(ValueError, match=f"^vm3ac: {message}"):
        make(tmp_path, model=model)
    with pytest.raises(ValueError, match=r"^mine: critic_model"):
        hidden_widths(model, "critic_model", "mine")


@pytest.mark.parametrize(
    ("algorithm", "options", "message"),
    [
        ({"beta": -1.0}, {}, "beta must be .*a number >= 0, got -1.0"),
        ({"critic": "wide"}, {}, "critic must be emphasized, plain, attention"),
        ({"critic_input": "state"}, {}, "needs a task with a state vector, this one has none"),
        ({}, {"off_policy_use_prioritized_replay_buffer": True}, "writes no priorities"),
        ({}, {"gamma": 1.5}, "gamma must be a number >= 0 and <= 1"),
    ],
)
def test_values_that_are_refused(tmp_path, algorithm, options, message):
    with pytest.raises(ValueError, match=message):
        make(tmp_path, algorithm=algorithm, **options)


def test_refusals_name_the_algorithm_as_options_do(tmp_path):
    with pytest.raises(OptionsError, match=r"latent_dim must be an integer >= 0, got 1\.5"):
        make(tmp_path, algorithm={"latent_dim": 1.5})


def test_observations_that_are_no_vector_are_refused(tmp_path):
    algorithm = make(tmp_path).algorithm
    algorithm._built.clear()
    spec = algorithm.observation_spec["agents"]
    spec["also"] = spec["observation"].clone()
    with pytest.raises(ValueError, match=r"one observation vector per agent.*'also'"):
        algorithm.built("agents")


def test_critics_can_see_the_state(tmp_path):
    experiment = make(tmp_path, task="simple_tag", algorithm={"critic_input": "state"})
    experiment.run()
    assert all("state" in loss.in_keys for loss in experiment.losses.values())


def test_actions_stay_continuous(tmp_path):
    assert not any(config.supports_discrete_actions() for config in ALGORITHMS.values())
    experiment = make(tmp_path, task="simple_tag", prefer_continuous_actions=False)
    assert experiment.continuous_actions


def test_a_learned_temperature_is_logged(tmp_path):
    experiment = make(tmp_path, algorithm={"auto_beta": "entropy", "beta_lr": 0.1})
    told = []

    class Listener(type(experiment.callbacks[-1]).__base__):
        def on_train_end(self, training_td, group):
            told.append(training_td["beta"])

    experiment.callbacks.append(Listener())
    experiment.run()
    beta = torch.cat([x.reshape(-1) for x in told])
    assert len(beta) == 4
    steps = beta.log().diff(prepend=torch.tensor([math.log(0.1)]))
    assert (steps.abs() > 1e-3).all()
    assert float(experiment.losses["agents"].terms[0].beta) == pytest.approx(float(beta[-1]))


def test_a_temperature_follows_the_frames(tmp_path):
    ends = {"beta": 0.2, "beta_end": 0.1, "beta_frames": 10_000}
    experiment = make(tmp_path, algorithm=ends)
    experiment.run()
    frames = experiment.total_frames
    assert 0 < frames < 10_000
    beta = float(experiment.losses["agents"].terms[0].beta)
    assert beta == pytest.approx(0.2 - 0.1 * frames / 10_000)
