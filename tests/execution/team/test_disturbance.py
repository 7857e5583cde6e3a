"""What a disturbed team believes: clocks, seeds and counts of episodes."""

from __future__ import annotations

import numpy as np
import pytest

from vm3ac_modules.execution.team.disturbance import Disturbance
from vm3ac_modules.execution.team.server import PerceivedClock


def test_clocks_as_agents_believe_them():
    steps = [np.array([7, 0]), np.array([8, 1]), np.array([0, 2]), np.array([1, 3])]
    believed = {
        "reference": steps,
        "late": [[6, 0], [7, 0], [0, 1], [0, 2]],
        "own_count": [[0, 0], [1, 1], [0, 2], [1, 3]],
    }
    for reading, expected_steps in believed.items():
        clock = PerceivedClock(reading)
        assert [clock.read(s).tolist() for s in steps] == [
            list(map(int, e)) for e in expected_steps
        ]
    with pytest.raises(ValueError, match="unknown clock 'sundial'; valid: reference, late"):
        PerceivedClock("sundial")


def test_seeds_of_a_disturbed_team():
    wrong = Disturbance(1, seed_offset=3)
    assert [wrong.seed_of(agent, 2**64 - 1) for agent in (0, 1)] == [2**64 - 1, 2]
    assert [Disturbance(own_seeds=True).seed_of(agent, 5) for agent in (0, 1)] == [6, 7]


def test_episodes_of_a_disturbed_team():
    late, episodes = Disturbance(1, episodes_late=2), np.array([0, 1, 7])
    assert late.episode_of(0, episodes).tolist() == [0, 1, 7]
    assert late.episode_of(1, episodes).tolist() == [0, 0, 5]


def test_disturbances_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="episodes_late must not be negative, got -1"):
        Disturbance(episodes_late=-1)
    with pytest.raises(ValueError, match="unknown clock 'sundial'"):
        Disturbance(clock="sundial")
    with pytest.raises(ValueError, match=r"a probability, got 1\.5"):
        Disturbance(dropped=1.5)
    with pytest.raises(ValueError, match="at least 0, got -1"):
        Disturbance(kill_at=-1)
