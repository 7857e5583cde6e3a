"""Pictures of joint actions: who stands where, and what it is worth."""

from __future__ import annotations

import pytest
import torch

import vm3ac_modules as vm
from vm3ac_modules.envs import GuardEnv
from vm3ac_modules.evaluation import evaluate_guard, guard_actions, joint_actions_figure
from vm3ac_modules.evaluation.joint_actions import meetings
from vm3ac_modules.testing import guard_value

GAME = GuardEnv(num_envs=1)


def picture(tmp_path, panels, **options):
    iio = pytest.importorskip("imageio.v3")
    pytest.importorskip("matplotlib")
    path = tmp_path / "picture.png"
    joint_actions_figure(path, panels, GAME, **options)
    return iio.imread(path)[..., :3].astype(int)


def guarded(image):
    """Pixels of the filled circle."""
    return (image[..., 0] > image[..., 2] + 15) & (image.min(-1) > 150)


def at(*modes):
    """Joint actions in which both agents are at each of these modes."""
    return GAME.modes[list(modes)].unsqueeze(1).repeat(1, 2, 1)


def test_the_best_response_is_where_all_agents_are_most():
    # Mode 0 is chosen most, but mode 2 is where both agents are.
    choices = torch.tensor([[0, 1], [0, 3], [1, 0], [0, 0], [2, 2], [2, 2], [0, 2]])
    met, counts = meetings(GAME.modes[choices], GAME)
    assert counts.tolist() == [1, 0, 2, 0]
    assert float(counts.sum() - counts.max()) / len(choices) == guard_value(choices, 4)
    assert met.tolist() == [False, False, False, True, True, True, False]


def test_agents_may_have_to_be_within_a_mode():
    played = at(2, 2, 0)
    played[0, 1] += torch.tensor([0.0, GAME.width + 0.01])
    assert meetings(played, GAME)[1].tolist() == [1, 0, 2, 0]
    met, counts = meetings(played, GAME, within=True)
    assert met.tolist() == [False, True, True]
    assert counts.tolist() == [1, 0, 1, 0]


def test_the_guard_is_drawn_where_the_team_is(tmp_path):
    east = picture(tmp_path, {"a": {"z": at(0, 0, 1)}})
    north = picture(tmp_path, {"a": {"z": at(1, 1, 0)}})
    filled = [guarded(image) for image in (east, north)]
    columns = [float(torch.from_numpy(found).nonzero()[:, 1].float().mean()) for found in filled]
    assert all(found.sum() > 500 for found in filled)
    assert columns[0] > columns[1] + 50


def test_a_column_that_a_label_lacks_stays_empty(tmp_path):
    panels = {"a": {"z": at(0, 1), "each": at(1, 2)}, "b": {"z": at(0, 3)}}
    whole = picture(tmp_path, panels)
    height, width = whole.shape[:2]
    lower = [whole[height // 2 :, : width // 2], whole[height // 2 :, width // 2 :]]
    assert [guarded(image).sum() > 500 for image in lower] == [True, False]


def test_what_cannot_be_drawn(tmp_path):
    path = tmp_path / "a.png"
    with pytest.raises(ValueError, match="at least one panel"):
        joint_actions_figure(path, {}, GAME)
    with pytest.raises(ValueError, match=r"joint actions must be \[D, N, 2\] with D > 0"):
        joint_actions_figure(path, {"a": {"z": torch.zeros(4, 2)}}, GAME)
    with pytest.raises(ValueError, match="the game is discrete"):
        joint_actions_figure(path, {"a": {"z": at(0)}}, GuardEnv(1, actions="discrete"))


def test_played_actions_are_those_that_are_valued():
    torch.manual_seed(0)
    actor = vm.make_actor(1, 3, GAME.full_action_spec["agents", "action"])
    policy = vm.make_policy(vm.LatentSampler(vm.GaussianPrior(3)), actor)
    state = torch.random.get_rng_state()
    played = guard_actions(policy, GAME, latent="sample", actions="drawn", draws=500)
    torch.random.set_rng_state(state)
    value = evaluate_guard(policy, GAME, latent="sample", actions="drawn", draws=500)
    assert played.shape == (500, 2, 2)
    assert value == guard_value(GAME.choices(played), 4)
    with pytest.raises(ValueError, match="draws at least 1"):
        guard_actions(policy, GAME, draws=0)
