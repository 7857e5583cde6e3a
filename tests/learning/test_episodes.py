"""Rounds of whole episodes."""

from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import Composite, Unbounded
from torchrl.envs import EnvBase

from vm3ac_modules.keys import Keys
from vm3ac_modules.learning import EpisodeCollector
from vm3ac_modules.learning.sources import cut_to_longest

KEYS = Keys()
ROWS, AGENTS = 3, 2
LENGTHS = (2, 4, 1)


class Scripted(EnvBase):
    """Row r lasts ``LENGTHS[r]`` steps; everything that it reports tells row and step."""

    def __init__(self, limit=9):
        super().__init__(batch_size=[ROWS])
        group = (ROWS, AGENTS)
        self.action_spec = Composite(
            agents=Composite(action=Unbounded(group, dtype=torch.int64), shape=group),
            shape=[ROWS],
        )
        self.reward_spec = Composite(
            agents=Composite(reward=Unbounded((*group, 1)), shape=group), shape=[ROWS]
        )
        self.observation_spec = Composite(
            agents=Composite(observation=Unbounded((*group, 1)), shape=group),
            info=Composite(battle_won=Unbounded((ROWS, 1)), shape=[ROWS]),
            shape=[ROWS],
        )
        self.limit = limit

    def seen(self):
        rows = torch.arange(ROWS).float()
        value = 100 * rows + self.step_now
        return {
            "agents": {"observation": value[:, None, None].expand(ROWS, AGENTS, 1).clone()},
            "info": {"battle_won": value.unsqueeze(-1)},
        }

    def _reset(self, tensordict=None, **_):
        self.step_now = 0
        return TensorDict(self.seen(), [ROWS])

    def _step(self, tensordict):
        self.step_now += 1
        out = TensorDict(self.seen(), [ROWS])
        over = self.step_now >= torch.tensor(LENGTHS).clamp_max(self.limit)
        # The second row is cut off, the others end.
        terminated = over & torch.tensor([True, False, True])
        reward = torch.full((ROWS, AGENTS, 1), float(self.step_now))
        reward[:, 1] = 0.0
        out.set(KEYS.reward, reward)
        for name, value in {"done": over, "terminated": terminated}.items():
            out.set(name, value.unsqueeze(-1))
        return out

    def _set_seed(self, seed):
        return None


def acting(td):
    """An action that tells the observation that it was chosen at."""
    return td.set(KEYS.action, td.get(KEYS.observation).squeeze(-1).long())


RECORD = [KEYS.observation, KEYS.action, KEYS.reward, KEYS.terminated, KEYS.mask]


def play(limit=9, **options):
    return EpisodeCollector(Scripted(), acting, limit, RECORD).play(**options)


def test_a_round_by_hand():
    played = play()
    td = played.episodes
    assert td.shape == (ROWS, 10)
    assert played.lengths.tolist() == list(LENGTHS)
    for row, length in enumerate(LENGTHS):
        steps = torch.arange(10)
        observation = td.get(KEYS.observation)[row, :, 0, 0]
        # What was seen last stands behind the last transition; the rest is zeros.
        assert observation.tolist() == (100.0 * row + steps).masked_fill(steps > length, 0).tolist()
        assert td.get(KEYS.mask)[row, :, 0].tolist() == (steps < length).tolist()
        action = td.get(KEYS.action)[row, :length, 0]
        assert action.tolist() == (100 * row + steps[:length]).tolist()
        reward = td.get(KEYS.reward)[row, :, 0, 0]
        assert reward.tolist() == (steps + 1.0).masked_fill(steps >= length, 0).tolist()
        ended = td.get(KEYS.terminated)[row, :, 0]
        expected = [row != 1 and t == length - 1 for t in range(10)]
        assert ended.tolist() == expected
        # The mean over two agents, of which one is paid.
        assert played.returns[row] == sum(range(1, length + 1)) / 2
        assert played.info["battle_won"][row] == 100 * row + length


def test_observer_sees_the_start_and_every_step():
    trace = play(observer=lambda env: torch.full((ROWS,), float(env.step_now))).trace
    assert trace.tolist() == [[0.0, 1.0, 2.0, 3.0, 4.0]] * ROWS


def test_an_episode_longer_than_a_row_is_an_error():
    assert play(limit=4).episodes.shape == (ROWS, 5)
    with pytest.raises(ValueError, match="longer than the 3 steps"):
        play(limit=3)
    with pytest.raises(ValueError, match="max_steps must be at least 1"):
        play(limit=0)


def test_cut_to_longest():
    td = play().episodes
    assert cut_to_longest(td).shape == (ROWS, 5)
    assert cut_to_longest(td[2:]).shape == (1, 2)
