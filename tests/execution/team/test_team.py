from __future__ import annotations

import io
import os
import signal

import numpy as np
import pytest
import torch
from contracts.teams import ABOUT, gaussian_team, recurrent_team
from tensordict import TensorDict

from vm3ac_modules.execution.export.agents import export_agents
from vm3ac_modules.execution.runtime.agent import DeployedAgent
from vm3ac_modules.execution.runtime.agent_file import AgentFileError
from vm3ac_modules.execution.team._frames import FAIL, READY, SET, STEP, pack, unpack
from vm3ac_modules.execution.team.agent_process import AgentLost, AgentProcess
from vm3ac_modules.execution.team.disturbance import Disturbance
from vm3ac_modules.execution.team.server import AgentServer, serve
from vm3ac_modules.execution.team.team import DecentralizedTeam
from vm3ac_modules.keys import MissingKeysError

SEED, ROWS = 5, 3


def moment(step, observation=None):
    seen = torch.randn(ROWS, 2, 4) if observation is None else observation
    clock = {
        "episode": torch.arange(ROWS).unsqueeze(-1),
        "step_count": torch.full((ROWS, 1), step),
    }
    return TensorDict({"agents": {"observation": seen}, **clock}, [ROWS])


def expected(files, td, *, steps=None, seeds=(SEED, SEED)):
    """What each agent does alone, in this process."""
    actions = []
    for index, path in enumerate(files):
        step = int(td["step_count"][0, 0]) if steps is None else steps[index]
        agent = DeployedAgent(path, seed=seeds[index], trust=True)
        seen = td["agents", "observation"][:, index].numpy()
        actions.append(agent.act(seen, episode=np.arange(ROWS), step=step))
    return torch.from_numpy(np.stack(actions, 1))


def alive(team):
    return [agent.process.poll() is None for agent in team.agents]


def test_a_lost_observation_leaves_the_agent_with_its_last(torch_files):
    """In one process: what the agent's end of the pipe does with what arrives."""
    agent = DeployedAgent(torch_files[0], seed=SEED, trust=True)
    first, second = np.random.default_rng(0).normal(size=(2, 2, 4)).astype(np.float32)
    episode, received = np.arange(2), np.array([True, False])
    frames = [
        pack(SET, {"seed": SEED, "clock": "reference"}),
        pack(STEP, [episode, np.array([4, 4]), np.array([True, True]), first]),
        pack(STEP, [episode, np.array([5, 5]), received, second]),
        pack(STEP, [episode, np.array([6, 6]), received, np.zeros((2, 3), np.float32)]),
    ]
    out = io.BytesIO()
    serve(str(torch_files[0]), io.BytesIO(b"".join(frames)), out, trust=True)
    out.seek(0)
    assert [unpack(out).kind, unpack(out).kind] == [READY, READY]
    assert np.array_equal(unpack(out).content[0], agent.act(first, episode=episode, step=4))
    # The second row acts on what it saw last, but at the right time.
    seen = np.stack([second[0], first[1]])
    assert np.array_equal(unpack(out).content[0], agent.act(seen, episode=episode, step=5))
    refused = unpack(out)
    assert refused.kind == FAIL
    assert "must be [4] or [rows, 4], got [2, 3]" in refused.content


def test_a_late_clock_is_the_latents_alone(tmp_path):
    """Memories are emptied when the episode begins, not when a late clock says that it does."""
    path = export_agents(recurrent_team(), tmp_path, latent="constant", about=ABOUT)[0]
    seen, legal = np.random.default_rng(0).normal(size=(3, 1, 4)), np.ones((1, 5), bool)
    served, agent = AgentServer(DeployedAgent(path, trust=True)), DeployedAgent(path, trust=True)
    served.set({"seed": SEED, "clock": "late"})
    for step in range(3):
        arrays = [np.zeros(1, int), np.array([step]), np.ones(1, bool), seen[step], legal]
        served.step(arrays)
        remembered = agent.run(seen[step], step=step)["next_hidden"]
        assert np.array_equal(served.agent._memory["hidden"], remembered)


def test_a_team_acts_as_its_agents_alone(onnx_files):
    with DecentralizedTeam(onnx_files, seed=SEED) as team:
        assert len({agent.process.pid for agent in team.agents} | {os.getpid()}) == 3
        for step in (0, 1, 7):
            td = moment(step)
            assert torch.equal(team(td)["agents", "action"], expected(onnx_files, td))
        td = moment(9)
        team.begin(SEED, Disturbance(1, clock="late"))
        late = expected(onnx_files, td, steps=(9, 8))
        assert torch.equal(team(td)["agents", "action"], late)
        team.begin(SEED, Disturbance(0, seed_offset=1))
        wrong = expected(onnx_files, td, seeds=(SEED + 1, SEED))
        assert torch.equal(team(td)["agents", "action"], wrong)
        team.begin(SEED, Disturbance(own_seeds=True))
        own = expected(onnx_files, td, seeds=(SEED + 1, SEED + 2))
        assert torch.equal(team(td)["agents", "action"], own)
    assert alive(team) == [False, False]


def test_all_observations_may_be_lost_but_the_first(onnx_files):
    start, later = moment(0), moment(1)
    with DecentralizedTeam(onnx_files, seed=SEED, disturbance=Disturbance(dropped=1.0)) as team:
        assert torch.equal(team(start)["agents", "action"], expected(onnx_files, start))
        stale = moment(1, start["agents", "observation"])
        assert torch.equal(team(later)["agents", "action"], expected(onnx_files, stale))
        # What was seen last in one episode is nothing to act on in the next.
        again = moment(0)
        assert torch.equal(team(again)["agents", "action"], expected(onnx_files, again))


def test_a_lost_observation_is_not_there_for_an_agent_that_starts_again(onnx_files):
    start, later = moment(0), moment(1)
    both = Disturbance(0, kill_at=1, dropped=1.0)
    with DecentralizedTeam(onnx_files, seed=SEED, rejoin=True, disturbance=both) as team:
        team(start)
        # One acts on what it saw last; the other has seen nothing.
        seen = start["agents", "observation"].clone()
        seen[:, 0] = 0.0
        wanted = expected(onnx_files, moment(1, seen))
        assert torch.equal(team(later)["agents", "action"], wanted)


def test_whoever_asks_again_is_told_again(onnx_files):
    agent = AgentProcess(onnx_files[0], 0)
    agent.wait_ready()
    agent.kill()
    for _ in range(2):
        with pytest.raises(AgentLost, match="ended by SIGKILL"):
            agent.action()
    agent.stop()


def test_a_killed_agent_is_reported_and_the_team_stopped(onnx_files):
    team = DecentralizedTeam(onnx_files, seed=SEED)
    team(moment(0))
    victim = team.agents[1].process
    os.kill(victim.pid, signal.SIGKILL)
    with pytest.raises(AgentLost) as error:
        team(moment(1))
    said = str(error.value)
    assert f"agent 1 (process {victim.pid}, agent_1.onnx) was ended by SIGKILL." in said
    assert "The team was stopped after 1 steps." in said
    assert alive(team) == [False, False]


def test_a_killed_agent_rejoins_in_step_with_the_others(onnx_files):
    kill = Disturbance(1, kill_at=2)
    with DecentralizedTeam(onnx_files, seed=SEED, rejoin=True, disturbance=kill) as team:
        before = [agent.process.pid for agent in team.agents]
        for step in range(5):
            td = moment(step)
            assert torch.equal(team(td)["agents", "action"], expected(onnx_files, td))
        after = [agent.process.pid for agent in team.agents]
        assert before[0] == after[0]
        assert before[1] != after[1]
        assert len(team.tally.restarts) == 1
        assert "ended by SIGKILL. Started again at step 2." in team.tally.restarts[0]


def test_an_agent_that_counts_for_itself_is_wrong_after_a_restart(onnx_files):
    kill = Disturbance(0, clock="own_count", kill_at=2)
    with DecentralizedTeam(onnx_files, seed=SEED, rejoin=True, disturbance=kill) as team:
        for step, counted in enumerate((0, 1, 0, 1)):
            td = moment(step)
            wanted = expected(onnx_files, td, steps=(counted, step))
            assert torch.equal(team(td)["agents", "action"], wanted)


def test_a_silent_agent_is_not_waited_for_for_ever(onnx_files):
    with DecentralizedTeam(onnx_files, seed=SEED) as team:
        team(moment(0))
        victim = team.agents[0]
        victim.timeout = 0.5
        os.kill(victim.process.pid, signal.SIGSTOP)
        with pytest.raises(AgentLost, match=r"agent 0 .* did not answer within 0\.5 seconds"):
            team(moment(1))
    assert alive(team) == [False, False]


def test_a_silent_agent_that_shall_rejoin_is_replaced(onnx_files):
    with DecentralizedTeam(onnx_files, seed=SEED, rejoin=True) as team:
        team(moment(0))
        team.agents[1].timeout = 0.5
        os.kill(team.agents[1].process.pid, signal.SIGSTOP)
        td = moment(1)
        assert torch.equal(team(td)["agents", "action"], expected(onnx_files, td))
        assert "did not answer within 0.5 seconds" in team.tally.restarts[0]


def test_a_sleeper_does_not_hold_up_whoever_sends_it_more_than_a_pipe_holds(onnx_files):
    rows = 20_000
    td = TensorDict(
        {
            "agents": {"observation": torch.randn(rows, 2, 4)},
            "episode": torch.arange(rows).unsqueeze(-1),
            "step_count": torch.zeros(rows, 1, dtype=torch.int64),
        },
        [rows],
    )
    with DecentralizedTeam(onnx_files, seed=SEED) as team:
        team(td)
        victim = team.agents[0]
        victim.timeout = 0.5
        os.kill(victim.process.pid, signal.SIGSTOP)
        with pytest.raises(AgentLost, match="did not answer within"):
            team(td)
    assert alive(team) == [False, False]


def test_an_agent_that_ended_between_episodes_rejoins(onnx_files):
    with DecentralizedTeam(onnx_files, seed=SEED, rejoin=True) as team:
        team.agents[0].kill()
        team.begin(SEED)
        td = moment(0)
        assert torch.equal(team(td)["agents", "action"], expected(onnx_files, td))
        assert "ended by SIGKILL" in team.tally.restarts[0]
    with pytest.raises(AgentLost, match="were stopped: make another team"):
        team.begin(SEED)
    with pytest.raises(AgentLost, match="were stopped: make another team"):
        team(moment(0))


def test_a_late_answer_is_not_taken_for_the_next(onnx_files):
    with DecentralizedTeam(onnx_files, seed=SEED) as team:
        first, second = moment(0), moment(1)
        agent = team.agents[0]
        for td in (first, second):
            clock = [td["episode"][:, 0].numpy(), td["step_count"][:, 0].numpy()]
            seen = td["agents", "observation"][:, 0].contiguous().numpy()
            agent.send(STEP, [*clock, np.ones(ROWS, bool), seen])
        assert agent.action().tobytes() == expected(onnx_files, second)[:, 0].numpy().tobytes()


def test_recurrent_agents_keep_their_memory_where_they_are(tmp_path):
    files = export_agents(recurrent_team(), tmp_path, latent="constant", about=ABOUT)
    alone = [DeployedAgent(path, trust=True) for path in files]
    mask = torch.rand(ROWS, 2, 5) < 0.6
    mask[..., 1] = True
    with DecentralizedTeam(files, trust=True) as team:
        for step in (0, 1, 2):
            td = moment(step).set(("agents", "action_mask"), mask)
            joint = team(td)["agents", "action"]
            assert joint.dtype == torch.int64
            for index, agent in enumerate(alone):
                seen = td["agents", "observation"][:, index].numpy()
                own = agent.act(seen, step=step, action_mask=mask[:, index].numpy())
                assert joint[:, index].tolist() == own.tolist()


def test_a_latent_that_is_given_is_handed_to_every_agent(tmp_path):
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    files = export_agents(gaussian_team(), tmp_path, format="onnx", latent="given", about=ABOUT)
    td = moment(0).set("latent", torch.randn(ROWS, 5))
    with DecentralizedTeam(files) as team:
        joint = team(td)["agents", "action"]
        for index, path in enumerate(files):
            seen = td["agents", "observation"][:, index].numpy()
            own = DeployedAgent(path).act(seen, latent=td["latent"].numpy())
            assert joint[:, index].numpy().tobytes() == own.tobytes()
        with pytest.raises(MissingKeysError, match="latent"):
            team(moment(0))


def test_teams_that_cannot_be_are_refused(onnx_files, tmp_path):
    with pytest.raises(AgentFileError, match="got agents"):
        DecentralizedTeam(onnx_files[::-1])
    with DecentralizedTeam(onnx_files) as team:
        with pytest.raises(ValueError, match="0 <= seed < 2\\^64"):
            team.begin(-1)
        with pytest.raises(ValueError, match="no agent 2 in a team of 2"):
            team.begin(0, Disturbance(2))
        with pytest.raises(MissingKeysError, match="step_count"):
            team(moment(0).exclude("step_count"))
        with pytest.raises(MissingKeysError, match="episode"):
            team(moment(0).exclude("episode"))
        with pytest.raises(ValueError, match=r"\[R, N, O\], got \[2, 4\]"):
            team(moment(0)[0])
        narrow = moment(0, torch.zeros(ROWS, 2, 3))
        with pytest.raises(ValueError, match=r"agent 0: agent_0\.onnx: obs.* got \[3, 3\]"):
            team(narrow)
        # The refusal of one leaves no answer of the other behind.
        td = moment(0)
        seeds = (0, 0)
        assert torch.equal(team(td)["agents", "action"], expected(onnx_files, td, seeds=seeds))
