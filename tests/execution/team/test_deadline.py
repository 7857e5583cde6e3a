"""Agents under time: who misses a step's deadline is stood in for, reported, and rejoins."""

from __future__ import annotations

import os
import signal
import time

import numpy as np
import pytest
import torch
from contracts.teams import ABOUT, recurrent_team
from tensordict import TensorDict

from vm3ac_modules.execution.export.agents import export_agents
from vm3ac_modules.execution.runtime.agent import DeployedAgent
from vm3ac_modules.execution.team.agent_process import AgentLost
from vm3ac_modules.execution.team.disturbance import Disturbance
from vm3ac_modules.execution.team.team import DecentralizedTeam

SEED, ROWS, LATE = 5, 3, 1


def situation(step, rows=ROWS):
    seen = torch.randn(rows, 2, 4, generator=torch.Generator().manual_seed(step))
    clock = torch.full((rows, 1), step)
    return TensorDict(
        {
            ("agents", "observation"): seen,
            "step_count": clock,
            "episode": torch.arange(rows).unsqueeze(-1),
        },
        [rows],
    )


def alone(files, step):
    """What every agent does by itself, ``[R, N, A]``."""
    td = situation(step)
    found = [
        DeployedAgent(path, seed=SEED).act(
            td["agents", "observation"][:, i].numpy(), episode=np.arange(ROWS), step=step
        )
        for i, path in enumerate(files)
    ]
    return torch.from_numpy(np.stack(found, 1))


def acted(team, step):
    return team(situation(step))["agents", "action"]


def paused(team):
    return team.agents[LATE].process.pid


def wait_until_awake(team):
    """Until the agent has answered what it owed."""
    end = time.monotonic() + 60.0
    while team.agents[LATE].owes() and time.monotonic() < end:
        time.sleep(0.01)


@pytest.mark.parametrize("neutral", ["last", "center"])
def test_a_late_agent_is_stood_in_for_reported_and_rejoins(onnx_files, neutral):
    with DecentralizedTeam(onnx_files, seed=SEED, deadline=30.0, neutral=neutral) as team:
        assert torch.equal(acted(team, 0), alone(onnx_files, 0))
        os.kill(paused(team), signal.SIGSTOP)
        team.deadline = 0.2
        stood_in = [acted(team, step) for step in (1, 2, 3)]
        for step, joint in enumerate(stood_in, 1):
            # The others are not held up, and act as always.
            assert torch.equal(joint[:, 0], alone(onnx_files, step)[:, 0])
        record = team.records[LATE]["action"]
        center = (torch.tensor(record["low"]) + torch.tensor(record["high"])) / 2
        last = alone(onnx_files, 0)[:, LATE]
        expected = last if neutral == "last" else center.expand_as(last)
        assert all(torch.allclose(joint[:, LATE], expected) for joint in stood_in)
        assert team.tally.missed == [0, 3]
        os.kill(paused(team), signal.SIGCONT)
        wait_until_awake(team)
        team.deadline = 30.0
        # In step with the others at once: the answer to the old step was dropped.
        assert torch.equal(acted(team, 4), alone(onnx_files, 4))
        assert team.tally.missed == [0, 3]
        assert team.tally.restarts == []


def test_the_first_action_of_an_episode_is_not_the_last_of_another(onnx_files):
    with DecentralizedTeam(onnx_files, seed=SEED, deadline=30.0) as team:
        acted(team, 3)
        os.kill(paused(team), signal.SIGSTOP)
        team.deadline = 0.2
        record = team.records[LATE]["action"]
        center = (torch.tensor(record["low"]) + torch.tensor(record["high"])) / 2
        assert torch.allclose(acted(team, 0)[:, LATE], center.expand(ROWS, -1))
        os.kill(paused(team), signal.SIGCONT)


def test_an_agent_that_stays_silent_is_lost_or_starts_again(onnx_files):
    for rejoin in (False, True):
        with DecentralizedTeam(onnx_files, seed=SEED, deadline=30.0, rejoin=rejoin) as team:
            acted(team, 0)
            os.kill(paused(team), signal.SIGSTOP)
            team.deadline, team.agents[LATE].timeout = 0.2, 0.5
            acted(team, 1)
            time.sleep(0.6)
            if not rejoin:
                with pytest.raises(
                    AgentLost, match=r"agent 1 .* did not answer within 0.5 seconds"
                ):
                    acted(team, 2)
                continue
            team.deadline = 30.0
            assert torch.equal(acted(team, 2), alone(onnx_files, 2))
            [line] = team.tally.restarts
            assert "agent 1" in line


def test_an_idle_host_is_no_silent_agent(onnx_files):
    with DecentralizedTeam(onnx_files, seed=SEED, deadline=30.0) as team:
        acted(team, 0)
        for agent in team.agents:
            agent.timeout = 0.5
        time.sleep(0.6)
        os.kill(paused(team), signal.SIGSTOP)
        team.deadline = 0.1
        # It was asked a tenth of a second ago.
        acted(team, 1)
        assert team.tally.missed == [0, 1]
        os.kill(paused(team), signal.SIGCONT)


def test_answers_that_are_delayed_on_purpose_are_missed_and_counted(onnx_files):
    slow = Disturbance(LATE, delay=0.6)
    with DecentralizedTeam(onnx_files, seed=SEED, deadline=30.0) as team:
        team.begin(SEED, slow)
        team.deadline = 0.1
        for step in range(4):
            assert torch.equal(acted(team, step)[:, 0], alone(onnx_files, step)[:, 0])
        assert team.tally.missed[LATE] >= 3
        assert team.tally.missed[0] == 0
        # Without a deadline everybody is waited for.
        wait_until_awake(team)
        team.deadline = None
        assert torch.equal(acted(team, 5), alone(onnx_files, 5))


def test_what_stands_in_for_a_discrete_agent_is_legal(tmp_path):
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    options = {"format": "onnx", "latent": "constant", "about": ABOUT}
    files = export_agents(recurrent_team(), tmp_path, **options)
    mask = torch.ones(ROWS, 2, 5, dtype=torch.bool)
    mask[:, :, 0] = False
    td = situation(0).set(("agents", "action_mask"), mask)
    with DecentralizedTeam(files, seed=SEED, deadline=60.0, neutral="center") as team:
        team(td)
        os.kill(paused(team), signal.SIGSTOP)
        team.deadline = 0.2
        joint = team(situation(1).set(("agents", "action_mask"), mask))["agents", "action"]
        assert joint[:, LATE].tolist() == [1, 1, 1]
        os.kill(paused(team), signal.SIGCONT)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"deadline": 0.0}, "deadline must be seconds above 0, got 0.0"),
        ({"deadline": float("inf")}, "deadline must be seconds above 0"),
        ({"neutral": "zero"}, "neutral must be last or center, got 'zero'"),
    ],
)
def test_deadlines_that_cannot_be_are_refused(onnx_files, options, says):
    with pytest.raises(ValueError, match=says):
        DecentralizedTeam(onnx_files, **options)


@pytest.mark.parametrize("options", [{"delay": -1.0}, {"delayed": 1.5}, {"delay": float("nan")}])
def test_disturbances_that_cannot_be_are_refused(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} must be"):
        Disturbance(**options)
