"""Films: what is beside the scene, and in which forms they are written."""

from __future__ import annotations

import pytest
import torch

import vm3ac_modules as vm
from vm3ac_modules.envs import GuardEnv
from vm3ac_modules.evaluation import Area, battle_gif, evaluate, rollout_gif, write_film
from vm3ac_modules.evaluation.film import check_film

iio = pytest.importorskip("imageio.v3")
pytest.importorskip("matplotlib")

SCENE = {"half_width": 1.0, "radius": 0.1, "title": "vm3ac_x"}
STILL = (torch.zeros(2, 2, 2), None, None, None)
BLUE, ORANGE = (0x00, 0x72, 0xB2), (0xE6, 0x9F, 0x00)


def colored(frame, color):
    return int((abs(frame[..., :3].astype(int) - torch.tensor(color).numpy()).sum(-1) < 30).sum())


def film(tmp_path, *tensors, **options):
    rollout_gif(tmp_path / "a.gif", *tensors, **SCENE, **options)
    return iio.imread(tmp_path / "a.gif")


def test_the_latent_of_each_step_stands_beside_the_scene(tmp_path):
    latents = torch.tensor([[1.0, 0.0], [-1.0, 0.5]])
    frames = film(tmp_path, *STILL, latents=latents)
    assert frames.shape[2] > film(tmp_path, *STILL).shape[2] + 100
    beside = frames[:, :, frames.shape[2] * 2 // 3 :]
    grey = [colored(frame, (89, 89, 89)) for frame in beside]
    # The second step has another component besides.
    assert grey[1] > grey[0] + 50 > 100
    assert all(colored(frame, BLUE) == 0 for frame in beside)


def test_a_latent_for_each_agent_has_its_color(tmp_path):
    frames = film(tmp_path, *STILL, latents=torch.tensor([[[1.0], [-1.0]], [[0.0], [1.0]]]))
    beside = frames[:, :, frames.shape[2] * 2 // 3 :]
    assert colored(beside[0], BLUE) > 50 < colored(beside[0], ORANGE)
    assert colored(beside[1], BLUE) == 0


def test_areas_are_filled_where_something_stands(tmp_path):
    still = (torch.full((1, 1, 2), 0.9), None, None, None)
    sums = [
        int(film(tmp_path, *still, areas=[Area((0.0, 0.0), 0.5, filled)])[0].sum())
        for filled in (False, True)
    ]
    assert sums[1] < sums[0] - 10_000


@pytest.mark.parametrize(
    ("latents", "said"),
    [
        (torch.zeros(3, 1), "latents must be of 2 steps, got 3"),
        (torch.zeros(2), r"latents must be \[T, Z\]"),
    ],
)
def test_latents_of_another_shape(tmp_path, latents, said):
    with pytest.raises(ValueError, match=said):
        rollout_gif(tmp_path / "a.gif", *STILL, **SCENE, latents=latents)


def test_a_battle_shows_the_latent_too(tmp_path):
    # The latent is of two steps, the trace has the end besides.
    battle_gif(tmp_path / "b.gif", torch.zeros(3, 2, 7), title="3m", latents=torch.ones(2, 4))
    frames = iio.imread(tmp_path / "b.gif")
    assert len(frames) == 3
    assert colored(frames[2], (89, 89, 89)) > 200


# imageio's reader leaves the pipes of ffmpeg to the garbage collector.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_mp4_has_all_pictures(tmp_path):
    pytest.importorskip("imageio_ffmpeg")
    pictures = torch.zeros(3, 33, 41, 3, dtype=torch.uint8)
    pictures[1] = 255
    write_film([tmp_path / "a.mp4", tmp_path / "a.gif"], pictures.numpy(), fps=5)
    frames = iio.imread(tmp_path / "a.mp4", plugin="FFMPEG")
    assert frames.shape == (3, 32, 40, 3)
    assert frames[1].mean() > 200 > 50 > frames[0].mean()
    assert len(iio.imread(tmp_path / "a.gif")) == 3


def test_an_mp4_without_ffmpeg_names_the_extra(monkeypatch):
    import importlib.util

    def find_spec(name):
        return None if name == "imageio_ffmpeg" else importlib.util.find_spec(name)

    monkeypatch.setattr("vm3ac_modules.extras.find_spec", find_spec)
    check_film("a.gif")
    with pytest.raises(ImportError, match=r"vm3ac-modules\[video\]"):
        check_film("a.mp4")


def test_another_ending():
    with pytest.raises(ValueError, match=r"\.gif or \.mp4, got 'a\.avi'"):
        check_film("x/a.avi")


@pytest.mark.parametrize(
    ("latent", "shape"), [("sample", (5, 1, 3)), ("independent", (5, 1, 2, 3))]
)
def test_an_observed_evaluation_keeps_what_happened(latent, shape):
    env = GuardEnv(5, seed=0)
    actor = vm.make_actor(1, 3, env.full_action_spec["agents", "action"])
    policy = vm.make_policy(vm.LatentSampler(vm.GaussianPrior(3)), actor)
    options = {"max_steps": 1, "seed": 0, "latent": latent}
    result = evaluate(policy, env, **options, observer=lambda env: torch.zeros(5))
    torch.testing.assert_close(result.moves["rewards"].sum(-1), result.returns)
    assert result.moves["latents"].shape == shape
    assert result.moves["actions"].shape == (5, 1, 2, 2)
    assert [part.moves["rewards"].shape for part in result.split(5)] == [(1, 1)] * 5
    assert not evaluate(policy, env, **options).moves
