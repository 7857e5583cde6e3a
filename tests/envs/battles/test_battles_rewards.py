"""What pays for a step of a battle is said in one place."""

from __future__ import annotations

import math

import pytest

from vm3ac_modules.envs import SMACEnv, make_smac_env
from vm3ac_modules.testing import SMACStub


@pytest.mark.parametrize("make", [lambda **k: SMACEnv(SMACStub, **k), None], ids=["env", "factory"])
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"reward": "dense"}, "reward must be 'sparse' or 'shaped', got 'dense'"),
        ({"reward": "shaped", "win": 3.0}, "win is a constant of reward='sparse', got 'shaped'"),
        ({"win": "x"}, "win must be a finite number, got 'x'"),
        ({"ally_death": math.nan}, "ally_death must be a finite number, got nan"),
        ({"step_cost": -math.inf}, "step_cost must be a finite number, got -inf"),
        ({"enemy_death": True}, "enemy_death must be a finite number, got True"),
    ],
)
def test_rewards_that_cannot_be_meant(make, options, said):
    make = make or (lambda **k: make_smac_env("3m", backend=SMACStub, **k))
    with pytest.raises(ValueError, match=said):
        make(seed=0, **options)


def test_an_unknown_constant_is_refused():
    with pytest.raises(ValueError, match=r"unknown option 'wins' \(did you mean 'win'\?\)"):
        SMACEnv(SMACStub, seed=0, wins=3.0)
