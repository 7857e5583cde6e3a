"""Our algorithms in BenchMARL's loop, as BenchMARL tests its own: every one, on several tasks."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

pytest.importorskip("benchmarl")
pytest.importorskip("vmas")

from benchmarl.algorithms import (
    EnsembleAlgorithmConfig,
    MasacConfig,
    algorithm_config_registry,
)
from benchmarl.environments import PettingZooTask, VmasTask
from benchmarl.experiment import Experiment
from benchmarl.hydra_config import load_algorithm_config_from_hydra
from contracts.benchmarl import ROWS, STEPS, TASKS, make, parameters
from hydra import compose, initialize_config_module
from torchrl.objectives import SACLoss

from vm3ac_modules.algorithms import find_preset
from vm3ac_modules.integrations.benchmarl import ALGORITHMS, register
from vm3ac_modules.objectives import VM3ACLoss

# BenchMARL 1.5.2 uses what TorchRL 0.11 deprecates, and tells of episodes that have not ended.
pytestmark = pytest.mark.filterwarnings("default")


# --- configurations -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALGORITHMS)
def test_values_are_the_presets_and_every_option_has_its_place(name):
    config = ALGORITHMS[name].get_from_yaml()
    values = dataclasses.asdict(config)
    assert values.pop("share_param_critic") is True
    options = find_preset(config.associated_class().preset, "continuous").options
    assert values == {key: getattr(options, key) for key in values}
    # What is left is BenchMARL's to choose: rates, discount, sharing and widths.
    left = set(options.names()) - set(values)
    shared = {"lr", "gamma", "tau", "hidden", "share_params"}
    own = {"critic_hidden", "critic_share_params"}
    # These act by a transform of the environment, which BenchMARL's tasks do not have.
    transforms = {"exploration_noise", "latent_held"}
    assert left - {"predictor_lr"} == shared | own | transforms
    assert ("predictor_lr" in left) == ("predictor_scale" in values)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_loading_by_hydra(name):
    with initialize_config_module("benchmarl.conf", version_base=None):
        cfg = compose("config", overrides=[f"algorithm={name}", "task=vmas/balance"])
    assert load_algorithm_config_from_hydra(cfg.algorithm) == ALGORITHMS[name].get_from_yaml()


def test_a_value_of_another_type_is_refused_by_hydra():
    with initialize_config_module("benchmarl.conf", version_base=None):
        wrong = ["algorithm=vm3ac", "task=vmas/balance", "algorithm.latent_dim=many"]
        with pytest.raises(Exception, match="latent_dim"):
            compose("config", overrides=wrong)


def test_benchmarls_own_algorithms_stay():
    before = dict(algorithm_config_registry)
    register()
    assert {*before, *ALGORITHMS} == set(algorithm_config_registry)
    own = algorithm_config_registry["masac"].__module__
    assert own.startswith("benchmarl.")
    names = {config.associated_class().__name__.lower() for config in ALGORITHMS.values()}
    assert len(names) == len(ALGORITHMS)
    assert "masac" not in names  # the name in folders, logs and JSON


# --- runs -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("shared", [True, False])
def test_all_algorithms_on_all_tasks(tmp_path, name, task, shared):
    chosen = {"share_param_critic": shared}
    experiment = make(tmp_path, name, task, algorithm=chosen, share_policy_params=shared)
    before = parameters(experiment)
    experiment.run()
    after = parameters(experiment)
    assert experiment.total_frames == 2 * ROWS * STEPS
    assert before.keys() == after.keys()
    assert all(x.isfinite().all() for x in after.values())
    for group, agents in experiment.group_map.items():
        loss = experiment.losses[group]
        for key, trained in loss.parameter_groups().items():
            # Sharing is seen where there are several agents: their weights are one.
            assert any(
                not torch.equal(before[f"{group}.{n}"], p)
                for n, p in loss.named_parameters()
                if any(p is q for q in trained)
            ), key
        for network in ("actor", "qvalue", "value"):
            weights = list(getattr(loss, f"{network}_network_params").parameters())
            assert {w.shape[-3] for w in weights} == {1 if shared else len(agents)}
    [written] = tmp_path.glob("*/*.json")
    [[[[found]]]] = [
        [[list(by_seed.values()) for by_seed in by_algo.values()] for by_algo in by_task.values()]
        for by_task in json.loads(written.read_text()).values()
    ]
    assert all(len(found[f"step_{k}"]["return"]) == 2 for k in (1, 2))


@pytest.mark.slow
@pytest.mark.parametrize("task", [*VmasTask, *PettingZooTask], ids=lambda task: task.name)
def test_every_continuous_task_runs(tmp_path, task):
    experiment = make(tmp_path, "vm3ac", task)
    experiment.run()
    assert all(x.isfinite().all() for x in parameters(experiment).values())


@pytest.mark.parametrize("name", ALGORITHMS)
def test_reloading(tmp_path, name):
    experiment = make(tmp_path, name, checkpoint_at_end=True, algorithm={"auto_beta": "entropy"})
    experiment.run()
    [file] = tmp_path.glob("*/checkpoints/*.pt")
    again = Experiment.reload_from_file(str(file), {"max_n_frames": 3 * ROWS * STEPS})
    assert again.total_frames == 2 * ROWS * STEPS
    for group, loss in experiment.losses.items():
        other = again.losses[group].state_dict()
        assert all(torch.equal(other[key], value) for key, value in loss.state_dict().items())
        [hook] = experiment.algorithm.built(group).hooks
        [new] = again.algorithm.built(group).hooks
        assert float(hook.scalars()) != pytest.approx(0.1, abs=1e-6)
        torch.testing.assert_close(new.scalars(), hook.scalars())
    again.evaluate()
    again.run()
    assert again.total_frames == 3 * ROWS * STEPS


@pytest.mark.parametrize("learned", [None, "entropy"])
def test_groups_can_play_different_algorithms(tmp_path, learned):
    own = ALGORITHMS["vm3ac"].get_from_yaml()
    own.auto_beta = learned
    other = MasacConfig.get_from_yaml()
    teams = EnsembleAlgorithmConfig({"adversary": own, "agent": other})
    experiment = make(tmp_path, teams, "simple_tag")
    experiment.run()
    assert isinstance(experiment.losses["adversary"], VM3ACLoss)
    assert isinstance(experiment.losses["agent"], SACLoss)
    assert all(x.isfinite().all() for x in parameters(experiment).values())


def test_random_frames_hard_targets_and_collection_with_gradients(tmp_path):
    make(tmp_path, off_policy_init_random_frames=ROWS * STEPS, soft_target_update=False).run()
    make(tmp_path, "vm3ac_tight", collect_with_grad=True).run()


def test_every_group_has_its_own_latent_and_networks(tmp_path):
    experiment = make(tmp_path, "vm3ac", "simple_tag")
    sizes = {group: len(agents) for group, agents in experiment.group_map.items()}
    assert sizes == {"adversary": 3, "agent": 2}
    seen = []
    for group in sizes:
        built = experiment.algorithm.built(group)
        assert built.policy.sampler.out_keys == [f"{group}_latent"]
        assert built.policy.sizes.num_agents == sizes[group]
        assert not any(
            group in str(key)
            for other in sizes
            if other != group
            for key in experiment.losses[other].in_keys
        )
        seen += [id(p) for p in built.loss.parameters()]
    assert len(set(seen)) == len(seen)
