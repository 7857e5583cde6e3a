"""The host waits for a device at log lines and evaluations only: not in an update or a step."""

from __future__ import annotations

import pytest
import torch
from contracts.on_device import ROWS, Life

pytest.importorskip("vmas")

from vm3ac_modules.algorithms import presets
from vm3ac_modules.envs.tasks import find_task, own_tasks
from vm3ac_modules.learning import FiniteGuard
from vm3ac_modules.runs._logs import MetricsLog
from vm3ac_modules.testing import count_host_syncs, pretended_device

CONTINUOUS = sorted(presets("continuous"))
TOGETHER = ("maddpg", "maven", "si_moa", "vm3ac_tight", "vm3ac_auto_bonus")
OWN = [name for name in own_tasks() if not name.startswith("multiwalker")]
READ, SIZED = "a value is read", "the size of a result depends on values"
CHECKED = "a law of random numbers is checked"
TO_HOST = "a tensor is copied to the host"
TO_DEVICE = "a tensor of the host is copied to the device"
STATE, ALL = "the state of a generator is read or set", "all work on the device is waited for"


@pytest.mark.parametrize(
    ("why", "wait"),
    [
        (READ, lambda x: x.sum().item()),
        (READ, lambda x: bool((x > 0).all())),
        (READ, lambda x: int(x[0])),
        (READ, lambda x: x[x.argmax()]),
        ("tensors are compared", lambda x: torch.equal(x, x)),
        ("tensors are compared", lambda x: torch.allclose(x, x)),
        (CHECKED, lambda x: torch.normal(x, x)),
        (CHECKED, lambda x: torch.multinomial(x, 1)),
        ("a matrix is checked", lambda x: torch.linalg.inv(torch.eye(2, device=x.device))),
        (SIZED, lambda x: x.nonzero()),
        (SIZED, lambda x: x[x > 0]),
        (SIZED, lambda x: x.masked_select(x > 0)),
        (SIZED, lambda x: x.index_put_((x > 0,), x.new_zeros(1))),
        (SIZED, lambda x: torch.unique(x)),
        (TO_HOST, lambda x: x.cpu()),
        (TO_HOST, lambda x: x.tolist()),
        (TO_HOST, lambda x: torch.zeros(3).copy_(x)),
        (TO_DEVICE, lambda x: torch.zeros(3).to(x.device)),
        (TO_DEVICE, lambda x: torch.tensor([1.0, 2.0], device=x.device)),
        (TO_DEVICE, lambda x: x.copy_(torch.ones(3))),
        ("indices of the host are copied to the device", lambda x: x[torch.tensor([0, 1])]),
        (STATE, lambda x: torch.get_rng_state()),
        (STATE, lambda x: torch.cuda.get_rng_state()),
        (ALL, lambda x: torch.cuda.synchronize()),
    ],
)
def test_what_makes_the_host_wait(why, wait):
    with pretended_device() as device:
        x = torch.arange(3.0, device=device)
        with count_host_syncs() as found:
            wait(x)
            assert (dict(found), len(found.places)) == ({why: 1}, 1)
        wait(x)
    assert found.total() == 1
    assert "test_host_syncs.py" in str(found)


def test_what_it_does_not_wait_for():
    with pretended_device() as device, count_host_syncs() as found:
        x = torch.rand(3, device=device, requires_grad=True)
        index = torch.arange(2, device=device)
        y = torch.where(x > 0, x, 0.0)[index] + x.new_zeros(2).fill_(3.0)
        y.sum().backward()
        # Work of the host alone.
        assert torch.equal(torch.ones(2)[torch.ones(2) > 0], torch.ones(2))
    assert found.total() == 0
    assert str(found) == "the host waited for nothing"


@pytest.mark.parametrize(
    ("algorithm", "seeds"), [*((name, 1) for name in CONTINUOUS), *((name, 2) for name in TOGETHER)]
)
def test_an_update(algorithm, seeds):
    """Sampling, losses, clipping, optimizers, targets, hooks, and what is kept for the log."""
    options = {} if "auto" not in algorithm else {"beta_lr": 0.1}
    with pretended_device() as device:
        life = Life(algorithm, "guard", device, seeds=seeds, **options)
        metrics, guard = MetricsLog(life.agent, device), FiniteGuard()

        def update():
            for batch in life.source.batches():
                losses = life.agent.update(batch, max_grad_norm=1.0)
                metrics.add(losses)
                guard.watch("losses", metrics.sums)

        for _ in range(4):
            life.collect()
        # The first one makes the optimizers' state.
        update()
        for _ in range(4):
            life.collect()
        with count_host_syncs() as found:
            update()
    assert metrics.count > 1
    assert not found, str(found)


@pytest.mark.parametrize("algorithm", CONTINUOUS)
def test_playing_and_storing(algorithm):
    """The policy, the replay and the hooks; what the environment does is measured below."""
    if algorithm == "maven":
        pytest.skip("its prior learns from finished episodes: see the next test")
    with pretended_device() as device:
        life = Life(algorithm, "guard", device)
        for _ in range(2):
            life.collect()
        seen = life.env.reset()
        with count_host_syncs() as found, torch.no_grad():
            step = life.env.base_env.step(life.agent.policy(seen))
            step["next", "step_count"] = step["step_count"] + 1
            life.source.add(step.select(*life.agent.recorded, ("next", "done")))
            for hook in life.agent.hooks:
                hook.before_collect(100)
                hook.after_step(step.unsqueeze(-1), 100)
    assert not found, str(found)


@pytest.mark.xfail(strict=True, reason="MAVEN's prior asks at every step which episodes ended")
def test_what_a_latent_policy_learns_from():
    with pretended_device() as device:
        life = Life("maven", "guard", device)
        life.collect()
        steps = next(life.turns).steps
        with count_host_syncs() as found:
            life.agent.hooks[0].after_step(steps, 100)
    assert not found, str(found)


def stepped(name):
    """What is counted in one step of an environment without a reset."""
    with pretended_device() as device:
        env = find_task(name).make(ROWS, device=device, seed=0)
        # The first step makes what VMAS keeps.
        seen = env.step_and_maybe_reset(env.rand_action(env.reset()))[1]
        seen = env.rand_action(seen)
        with count_host_syncs() as found:
            env.step(seen)
    return found


@pytest.mark.parametrize("name", OWN)
def test_scenarios_ask_for_no_value(name):
    ours = [place for place in stepped(name).places if "vmas/scenarios" in place.split(" < ")[0]]
    assert ours == []


def test_games_ask_for_no_value():
    assert not stepped("guard")


@pytest.mark.parametrize("name", OWN)
def test_a_step_of_a_scenario(name):
    found = stepped(name)
    assert not found, str(found)


@pytest.mark.xfail(strict=True, reason="TorchRL's collector asks at every step which rows ended")
def test_collecting():
    with pretended_device() as device:
        life = Life("vm3ac", "guard", device)
        life.collect()
        with count_host_syncs() as found:
            life.collect()
    assert not found, str(found)
