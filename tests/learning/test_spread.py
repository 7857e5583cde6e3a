"""Collecting with worker processes, without a run around it."""

from __future__ import annotations

import copy
import multiprocessing
import os
import signal

import pytest
import torch

from vm3ac_modules.algorithms import build
from vm3ac_modules.envs.tasks import find_task
from vm3ac_modules.learning import fork_rng, worker_seed
from vm3ac_modules.learning._collecting import OWN_TRANSFORMS
from vm3ac_modules.learning._spread import (
    Spread,
    SpreadCollecting,
    WorkerCollector,
    Workers,
    drawing_parts,
    spread_collecting,
)

ROWS, STEPS, WORKERS = 4, 3, 2
TASK = find_task("python:contracts.user_env:make_env", max_steps=4)
ACTION = ("agents", "action")


class Here(Workers):
    """Workers of no process, whose rewards are the frames."""

    def start(self, frames, random_frames):
        self.asked = [("start", frames, random_frames)]

    def play(self, frames, random_frames):
        self.asked.append(("play", frames, random_frames))
        steps = self.spread.make(self.spread.rows, seed=0).rollout(self.spread.steps)
        number = frames + torch.arange(self.spread.steps) * self.spread.rows
        reward = steps["next", "agents", "reward"]
        reward.copy_(number[None, :, None, None].expand_as(reward))
        return steps

    def close(self):
        """Nothing to end."""


def team(algorithm="ma_ac", **options):
    env = TASK.make(1, seed=0)
    agent = build(algorithm, env, hidden=[8], **options)
    return agent, agent.wrap(env)


def spread(kind="multi_sync", seed=0):
    return Spread(kind, WORKERS, ROWS, STEPS, seed, TASK.make)


def here(frames=0, random_frames=0):
    agent, env = team()
    workers = Here(spread(), agent, env, print)
    return SpreadCollecting(agent, workers, frames=frames, random_frames=random_frames), workers


def test_a_round_comes_step_by_step_with_all_its_frames():
    steps, workers = here()
    turns = iter(steps)
    found = [next(turns) for _ in range(2 * STEPS)]
    assert [int(turn.rewards[0, 0, 0, 0]) for turn in found] == [0, 4, 8, 12, 16, 20]
    assert all(turn.frames == ROWS and turn.steps.shape == (ROWS, 1) for turn in found)
    assert workers.asked == [("start", 0, 0), ("play", 0, 0), ("play", 12, 0)]


def test_a_run_resumed_within_a_round_plays_the_round_s_rest():
    steps, workers = here(frames=16, random_frames=24)
    turns = iter(steps)
    found = [next(turns) for _ in range(3)]
    assert [int(turn.rewards[0, 0, 0, 0]) for turn in found] == [16, 20, 24]
    # One whole random round is left, and the rounds end where they would have.
    assert workers.asked == [("start", 16, 12), ("play", 12, 12), ("play", 24, 0)]


def test_workers_seeds_are_their_own():
    seeds = {worker_seed(s, w, f) for s in range(8) for w in range(8) for f in (0, 64, 640)}
    assert len(seeds) == 8 * 8 * 3
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_a_worker_s_environment_and_latents_follow_its_seed():
    agent, env = team("vm3ac", latent_dim=3)
    workers = Here(spread(seed=5), agent, env, print)
    found = []
    for make in workers.makers(8, range(WORKERS)):
        with fork_rng(0):
            own = make()
            found.append((own.reset()["agents", "observation"], torch.rand(2)))
            assert own.batch_size == (ROWS // WORKERS,)
    alone = TASK.make(ROWS // WORKERS, seed=worker_seed(5, 1, 8)).reset()
    assert torch.equal(found[1][0], alone["agents", "observation"])
    assert not torch.equal(found[0][0], found[1][0])
    assert not torch.equal(found[0][1], found[1][1])


def test_the_prior_of_an_episode_s_latent_is_sent_too():
    agent, env = team("maven")
    workers = Here(spread(), agent, env, print)
    prior = drawing_parts(env)[0].module
    with torch.no_grad():
        for parameter in (*prior.parameters(), *agent.policy.parameters()):
            parameter.fill_(0.5)
    assert not any(torch.equal(p, torch.full_like(p, 0.5)) for p in workers.sent.parameters())
    workers.take_weights()
    names = [name for name, _ in workers.sent.named_parameters()]
    assert any(name.startswith("drawing.0.") for name in names)
    assert all(torch.equal(p, torch.full_like(p, 0.5)) for p in workers.sent.parameters())


def test_a_worker_s_environment_draws_with_the_prior_that_is_sent():
    agent, env = team("maven")
    workers = Here(spread(), agent, env, print)
    [make] = workers.makers(0, [0])
    with fork_rng(0):
        collector = WorkerCollector(
            make,
            workers.sent,
            frames_per_batch=2,
            total_frames=-1,
            **OWN_TRANSFORMS,
        )
    [part] = drawing_parts(collector.env)
    assert part.module is collector.policy.drawing[0]
    assert part.module is not drawing_parts(env)[0].module
    # Ray asks for it when a method raises, and dies of an exception in the answer.
    assert collector
    collector.shutdown()


@pytest.mark.parametrize("kind", ["multi_sync", "multi_async"])
def test_processes_play_random_frames_then_the_weights_that_were_sent(kind):
    agent, env = team("maddpg", exploration_noise=0.0)
    threads = torch.get_num_threads()
    said = []
    steps = spread_collecting(
        agent, env, spread(kind), frames=0, random_frames=12, restarted=said.append
    )
    try:
        turns = iter(steps)
        for process in steps.workers.started:
            # A scheduler's signal reaches the whole group, and is the parent's.
            os.kill(process.pid, signal.SIGTERM)
        random = [next(turns) for _ in range(STEPS)]
        chosen = [next(turns)]
        before = copy.deepcopy(agent.policy)
        with torch.no_grad():
            for parameter in agent.policy.parameters():
                parameter.zero_()
        chosen += [next(turns) for _ in range(STEPS - 1)]
        late = [next(turns) for _ in range(4 * STEPS)][-STEPS:]
    finally:
        steps.close()
    assert multiprocessing.active_children() == []
    assert said == []
    assert torch.get_num_threads() == threads
    # A deterministic policy: who plays is told by the actions.
    with torch.no_grad():
        zero = agent.policy(late[0].steps.clone()).get(ACTION)
        own = [before(turn.steps.clone()).get(ACTION) for turn in (*random, *chosen)]
    played = [turn.steps[ACTION] for turn in (*random, *chosen)]
    by_policy = torch.stack(
        [(a - b).abs().amax((-3, -2, -1)) < 1e-5 for a, b in zip(played, own, strict=True)]
    )
    # As many random frames as were asked for, whichever worker's came first.
    assert int(by_policy.sum()) == by_policy.numel() - 12
    assert all(torch.allclose(turn.steps[ACTION], zero) for turn in late)
    assert not any(torch.allclose(turn.steps[ACTION], zero) for turn in (*random, *chosen))
    assert random[0].steps[ACTION].unique().numel() == 2 * ROWS
    # Rows go on from step to step, and rows of other workers start elsewhere.
    place = ("agents", "observation")
    assert torch.equal(random[0].steps["next", *place], random[1].steps[place])
    assert random[0].steps[place].unique().numel() == 2 * ROWS
