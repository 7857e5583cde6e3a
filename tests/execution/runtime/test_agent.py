from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from contracts.teams import ABOUT, gaussian_team, recurrent_team
from hypothesis import given
from hypothesis import strategies as st

from vm3ac_modules.execution.clock import LatentClock
from vm3ac_modules.execution.export.agents import export_agents
from vm3ac_modules.execution.runtime import _programs as programs
from vm3ac_modules.execution.runtime.agent import DeployedAgent, main

# Makes an import of torch fail, and everything that needs it.
BLOCKED = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "tensordict", "torchrl", "onnx"):
            raise ModuleNotFoundError(f"{name} is blocked")
sys.meta_path.insert(0, Blocked())
"""


@pytest.fixture(scope="module")
def rememberer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recurrent")
    return export_agents(recurrent_team(), folder, latent="constant", about=ABOUT)[0]


def test_an_onnx_agent_acts_where_torch_cannot_be_imported(onnx_files):
    code = BLOCKED + (
        "import numpy as np\n"
        "from vm3ac_modules.execution import DeployedAgent\n"
        "agent = DeployedAgent(sys.argv[1], seed=7, trust=True)\n"
        "out = agent.run(np.arange(4.0), episode=3, step=12)\n"
        "print(out['action'].tobytes().hex(), out['used_latent'].tobytes().hex())\n"
        "assert not {'torch', 'tensordict', 'onnx'} & set(sys.modules)\n"
    )
    command = [sys.executable, "-c", code, str(onnx_files[0])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    action, latent = (
        np.frombuffer(bytes.fromhex(text), np.float32) for text in done.stdout.split()
    )
    here = DeployedAgent(onnx_files[0], seed=7, trust=True).run(np.arange(4.0), episode=3, step=12)
    assert np.array_equal(action, here["action"])
    assert np.array_equal(latent, here["used_latent"])
    # The other twin: NumPy's clock.
    clock = LatentClock(7, DeployedAgent(onnx_files[0], trust=True).record["latent"]["prior"])
    assert np.array_equal(latent, clock.at(3, 12))


def test_without_torch_a_torch_agent_says_what_to_do(torch_files):
    code = BLOCKED.replace('raise ModuleNotFoundError(f"{name} is blocked")', "return None") + (
        "import importlib.util\n"
        "find = importlib.util.find_spec\n"
        "from vm3ac_modules.execution.runtime import _programs as programs\n"
        "programs.find_spec = lambda name: None\n"
        "from vm3ac_modules.execution import DeployedAgent\n"
        "try:\n    DeployedAgent(sys.argv[1], trust=True)\n"
        "except ImportError as error:\n    print(error)\n"
    )
    command = [sys.executable, "-c", code, str(torch_files[0])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "export the agents with --format onnx" in done.stdout


def test_without_onnxruntime_the_extra_is_named(onnx_files, monkeypatch):
    monkeypatch.setattr(programs, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'vm3ac-modules\[export\]'"):
        DeployedAgent(onnx_files[0], trust=True)


@pytest.fixture(scope="module")
def actor(torch_files):
    return DeployedAgent(torch_files[0], seed=2**64 - 1, trust=True)


@given(st.integers(1, 5), st.integers(0, 2**32 - 6))
def test_rows_together_are_rows_apart(actor, rows, step):
    agent = actor
    seen = np.random.default_rng(rows).normal(size=(rows, 4)).astype(np.float32)
    steps = step + np.arange(rows)
    together = agent.act(seen, episode=np.arange(rows), step=steps)
    for row in range(rows):
        alone = agent.act(seen[row], episode=row, step=int(steps[row]))
        np.testing.assert_allclose(together[row], alone, atol=1e-6)


def test_seed_episode_and_step_count_and_all_of_their_bits(actor, monkeypatch):
    seen = np.zeros(4, np.float32)

    def latent(seed, episode, step):
        monkeypatch.setattr(actor, "seed", seed)
        return tuple(actor.run(seen, episode=episode, step=step)["used_latent"])

    places = [(0, 0, 0), (1, 0, 0), (2**63, 0, 0), (0, 1, 0), (0, 2**62, 0), (0, 0, 1)]
    assert len({latent(*place) for place in [*places, (0, 0, 2**31)]}) == 7


def test_inputs_of_another_size_are_refused(torch_files, rememberer, tmp_path):
    agent, now = DeployedAgent(torch_files[1], trust=True), {"episode": 0, "step": 0}
    seen = np.zeros(4)
    with pytest.raises(ValueError, match=r"observation of agent 1 must be \[4\] or .* got \[3\]"):
        agent.act(np.zeros(3), **now)
    with pytest.raises(ValueError, match=r"got \[2, 2, 4\]"):
        agent.act(np.zeros((2, 2, 4)), **now)
    with pytest.raises(ValueError, match=r"step must be one number or \[1\], got \[3\]"):
        agent.act(seen, episode=0, step=np.zeros(3, int))
    with pytest.raises(ValueError, match="0 <= step < 2\\^32, got -1"):
        agent.act(seen, episode=0, step=-1)
    with pytest.raises(ValueError, match="0 <= episode < 2\\^63, got -5"):
        agent.act(seen, episode=-5, step=0)
    with pytest.raises(TypeError, match="step must be an integer"):
        agent.act(seen, episode=0, step=0.5)
    for seed in (-1, 2**64):
        with pytest.raises(ValueError, match="0 <= seed < 2\\^64"):
            DeployedAgent(torch_files[1], seed=seed, trust=True)
    recurrent = DeployedAgent(rememberer, trust=True)
    with pytest.raises(ValueError, match=r"action_mask of agent 0 must be \[5\]"):
        recurrent.act(seen, action_mask=np.ones(4, bool))
    with pytest.raises(ValueError, match=r"action_mask .* got \[2, 5\] among 3 rows"):
        recurrent.act(np.zeros((3, 4)), action_mask=np.ones((2, 5), bool))
    given = export_agents(gaussian_team(), tmp_path, latent="given", about=ABOUT)[0]
    with pytest.raises(ValueError, match=r"latent of agent 0 must be \[5\]"):
        DeployedAgent(given, trust=True).act(seen, latent=np.zeros(2))


def test_nothing_that_is_missing_is_made_up_and_nothing_given_ignored(torch_files, tmp_path):
    agent, seen = DeployedAgent(torch_files[0], trust=True), np.zeros(4)
    with pytest.raises(ValueError, match="exported with latent 'synchronized': pass episode="):
        agent.act(seen, step=0)
    with pytest.raises(ValueError, match="pass step="):
        agent.act(seen, episode=0)
    with pytest.raises(ValueError, match="reads no latent; its inputs are observation, seed"):
        agent.act(seen, episode=0, step=0, latent=np.zeros(5))
    with pytest.raises(ValueError, match="reads no action_mask"):
        agent.act(seen, episode=0, step=0, action_mask=np.ones(2, bool))
    with pytest.raises(TypeError, match="steps"):
        agent.act(seen, episode=0, steps=0)
    given = export_agents(gaussian_team(), tmp_path, latent="given", about=ABOUT)[0]
    with pytest.raises(ValueError, match="exported with latent 'given': pass latent="):
        DeployedAgent(given, trust=True).act(seen)


def test_memory_needs_no_clock_and_ends_with_its_episode(rememberer):
    agent, seen = DeployedAgent(rememberer, trust=True), np.ones(4, np.float32)
    start, second = (agent.run(seen)["logits"] for _ in range(2))
    assert not np.allclose(start, second)
    # Another episode, whose first step was missed.
    agent.reset()
    agent.run(seen, episode=0, step=5)
    assert np.array_equal(agent.run(seen, episode=1, step=3)["logits"], start)
    assert np.array_equal(agent.run(seen, episode=1, step=4)["logits"], second)
    assert np.array_equal(agent.run(seen, episode=1, step=5, first=True)["logits"], start)


def test_memory_is_emptied_at_the_first_step_and_by_a_reset(rememberer):
    agent, seen = DeployedAgent(rememberer, trust=True), np.ones(4, np.float32)
    start = agent.run(seen, step=0)["logits"]
    later = agent.run(seen, step=1)["logits"]
    assert not np.allclose(start, later)
    assert np.array_equal(agent.run(seen, step=0)["logits"], start)
    agent.run(seen, step=1)
    agent.reset()
    assert np.array_equal(agent.run(seen, step=9)["logits"], start)
    # In rows, each for itself.
    agent.reset()
    rows = np.stack([seen, seen])
    agent.run(rows, step=0)
    mixed = agent.run(rows, step=[0, 1])["logits"]
    np.testing.assert_allclose(mixed, np.stack([start, later]), atol=1e-6)
    with pytest.raises(ValueError, match="remembers 2 rows and was given 3"):
        agent.run(np.stack([seen] * 3), step=1)


def test_only_legal_actions_are_taken(rememberer):
    agent = DeployedAgent(rememberer, trust=True)
    for action in range(5):
        mask = np.arange(5) == action
        assert agent.act(np.ones(4), action_mask=mask) == action


def test_the_record_is_printed(onnx_files, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["agent", str(onnx_files[0])])
    main()
    assert '"agent": 0' in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["agent", str(Path("nobody.onnx"))])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert "there is no file nobody.onnx" in capsys.readouterr().err


def test_the_former_name_of_the_program_says_the_new_one(onnx_files):
    code = BLOCKED + (
        "import runpy\n"
        "sys.argv = ['agent', sys.argv[1]]\n"
        "runpy.run_module('vm3ac_modules.execution.agent', run_name='__main__')\n"
    )
    command = [sys.executable, "-c", code, str(onnx_files[0])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert '"agent": 0' in done.stdout
    assert "python -m vm3ac_modules.execution.runtime.agent now" in done.stderr
