"""Every algorithm and environment on a device that is not the CPU: nothing is left on the host.

A life there must give, to the bit, what it gives on the CPU, and raises where two devices mix.
"""

from __future__ import annotations

import pytest
import torch
from contracts.on_device import BATTLE, ROWS, live
from contracts.training import STEPS, configuration, differences, run_until

pytest.importorskip("vmas")

from vm3ac_modules.algorithms import presets
from vm3ac_modules.envs.tasks import BEST_RESPONSES, find_task, own_tasks, vmas_scenarios
from vm3ac_modules.runs import _plain, train
from vm3ac_modules.testing import pretended_device
from vm3ac_modules.testing.devices import DeviceTensor

CONTINUOUS = sorted(presets("continuous"))
# The presets for a CPU have other sizes only.
DISCRETE = sorted(name for name in presets("discrete") if not name.endswith("_cpu"))
OWN = [name for name in own_tasks() if not name.startswith("multiwalker")]


def same_as_on_the_cpu(*names, **options):
    expected = live(*names, **options)
    with pretended_device() as device:
        found = live(*names, device=device, **options)
    assert found.keys() == expected.keys()
    different = [name for name, value in expected.items() if not found[name].equal(value)]
    nan = [name for name in different if found[name].isnan().any()]
    assert different == [] == nan


@pytest.mark.parametrize("algorithm", CONTINUOUS)
def test_algorithms_over_continuous_actions(algorithm):
    same_as_on_the_cpu(algorithm, "guard")


@pytest.mark.parametrize("algorithm", DISCRETE)
def test_algorithms_over_discrete_actions(algorithm):
    same_as_on_the_cpu(algorithm, BATTLE)


@pytest.mark.parametrize("algorithm", ["vm3ac", "maddpg", "maven", "si_moa", "vm3ac_auto_bonus"])
def test_seeds_together(algorithm):
    same_as_on_the_cpu(algorithm, "guard", seeds=2)


@pytest.mark.parametrize(
    "options",
    [
        {"critic": "plain", "critic_input": "state"},
        {"share_params": True, "log_std": "paper"},
        {"beta": (0.1, 0.2)},
        {"beta_end": 0.01, "beta_frames": 20},
        {"latent_held": True},
        {"prior": "uniform", "exploration_noise": 0.1},
        {"prior": "categorical", "num_latents": 2},
        {"estimator": "infonce", "num_latents": 2},
    ],
    ids=str,
)
def test_options_that_build_other_networks(options):
    same_as_on_the_cpu("vm3ac", "guard", **options)


@pytest.mark.parametrize("name", OWN)
def test_environments(name):
    """Starts, steps, resets of single rows and of the time limit, and what a checkpoint holds."""

    def played(device):
        env = find_task(name).make(ROWS, device=device, seed=3)
        torch.manual_seed(0)
        steps = env.rollout(4, break_when_any_done=False)
        rows = torch.zeros(ROWS, 1, dtype=torch.bool, device=device)
        rows[::2] = True
        again = env.reset(steps[:, -1].select().set("_reset", rows))
        base = env.base_env
        base.load_simulator_state(base.simulator_state())
        last = env.rollout(2, auto_reset=True)
        state = base.simulator_state()
        everything = {("steps", *_path(k)): v for k, v in steps.items(True, True)}
        everything |= {("again", *_path(k)): v for k, v in again.items(True, True)}
        everything |= {("last", *_path(k)): v for k, v in last.items(True, True)}
        return everything | {("state", k): v for k, v in state.items()}

    expected = played("cpu")
    with pretended_device() as device:
        found = played(device)
        assert {value.device for value in found.values()} == {device}
        found = {name: value.cpu() for name, value in found.items()}
    assert found.keys() == expected.keys()
    assert [k for k, value in expected.items() if not found[k].equal(value)] == []


def _path(key):
    return key if isinstance(key, tuple) else (key,)


@pytest.fixture
def saved_from_device(monkeypatch):
    """Let checkpoints hold tensors of the pretended device, which are saved as the host's."""
    monkeypatch.setattr(_plain, "_TENSORS", (*_plain._TENSORS, DeviceTensor))


@pytest.mark.parametrize(("task", "algorithm"), [("predator_prey_2", "vm3ac"), ("guard", "maven")])
def test_a_run_with_logs_checkpoints_and_a_resume(task, algorithm, tmp_path, saved_from_device):
    tiny = {**STEPS, "frames": 32, "eval_every_frames": 16, "max_grad_norm": 1.0, "draw": False}
    # A graph needs a real GPU; tests/runs/test_cudagraph.py replays one without.
    tiny |= {"cudagraph": "off"}
    tiny |= {"checkpoint_every_frames": 16, "information_rows": 2, "information_latents": 2}

    def config(place, **options):
        chosen = {"algorithm": algorithm, "task": task, "run_dir": str(tmp_path / place)}
        limit = {"task.max_steps": None} if task == "guard" else {}
        return configuration(tiny={**tiny, **limit, **chosen, **options})

    train(config("cpu"))
    with pretended_device() as device:
        run_until(config("there", device=str(device)), 16)
        train(config("there", device=str(device), resume=True))
    found = differences(tmp_path / "cpu", tmp_path / "there")
    # The device's own generator, which the CPU has none of.
    assert [place for place in found if place != "state.env.streams.cuda"] == []


def test_the_games_and_adversaries_are_all_tried():
    assert {"guarded_rendezvous", "learning_prey"} <= set(OWN)
    assert BEST_RESPONSES.keys() == {"guard", "prey"}
    assert "balance" in vmas_scenarios()
