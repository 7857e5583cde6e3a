"""A scenario of one's own that tells wrong shapes is named with its method, once."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("vmas")

from vm3ac_modules.envs import VMASEnv
from vm3ac_modules.envs.vmas.scenarios._common import DiscWorld, JointScenario


class Meet(JointScenario):
    def make_world(self, batch_dim, device, **kwargs):
        self.start_stream(device)
        world = DiscWorld(batch_dim, device)
        world.add_discs([(0.05, 1.0)] * 2)
        return world

    def reset_world_at(self, env_index=None):
        _, count = self.rows_at(env_index)
        self.place(self.uniform((count, 2, 2), 1.0), env_index)

    def observations(self):
        return self.positions

    def rewards(self):
        return -self.positions.norm(dim=-1)


def test_right_shapes_pass():
    assert VMASEnv(Meet(), 3, seed=0).rollout(2)["next", "agents", "reward"].shape == (3, 2, 2, 1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"rewards": lambda self: torch.zeros(3)},
            r"Meet\.rewards\(\) returned \[3\], wanted \[3, 2\]",
        ),
        (
            {"observations": lambda self: self.positions[:, 0]},
            r"Meet\.observations\(\) returned \[3, 2\], wanted \[3, 2, O\]",
        ),
        ({"observations": lambda self: None}, r"Meet\.observations\(\) returned NoneType"),
        (
            {"metrics": lambda self: {"met": torch.zeros(3, 1)}},
            r"Meet\.metrics\(\)\['met'\] returned \[3, 1\], wanted \[3\]",
        ),
        ({"row_state": ("positions", "speeds")}, r"Meet\.row_state names 'speeds', .* NoneType"),
        ({"start_stream": lambda *_: None}, r"Meet\.make_world must call self\.start_stream\("),
    ],
)
def test_wrong_shapes_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        VMASEnv(type("Meet", (Meet,), wrong)(), 3, seed=0).rollout(1)
