"""Pictures: that they show what they are given, not only that they exist."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from vm3ac_modules.evaluation import learning_curve, rollout_gif

iio = pytest.importorskip("imageio.v3")
pytest.importorskip("matplotlib")

ROWS = {
    "frame": [0, 100_000, 200_000],
    "return_mean": [0.0, 4.0, 9.0],
    "return_ci95": [0.1, 1.0, float("nan")],
}
SCENE = {"half_width": 1.0, "radius": 0.1, "title": "vm3ac_x"}


def picture(draw, tmp_path, *args, **kwargs):
    path = tmp_path / "picture.png"
    draw(path, *args, **kwargs)
    return iio.imread(path)[..., :3].astype(int)


def test_learning_curve_shows_mean_band_and_baseline(tmp_path):
    full = picture(learning_curve, tmp_path, ROWS, baseline=1.0, title="t")
    assert full.std() > 10
    assert min(full.shape[:2]) > 300
    without = picture(learning_curve, tmp_path, ROWS, baseline=None, title="t")
    thin = {**ROWS, "return_ci95": [0.0, 0.0, 0.0]}
    narrow = picture(learning_curve, tmp_path, thin, baseline=1.0, title="t")
    assert (full != without).any()
    band = (full == 191).all(-1).sum()
    assert band > (narrow == 191).all(-1).sum() + 1000
    # Readable in grey: no color carries meaning.
    assert (full.max(-1) - full.min(-1)).max() == 0


@pytest.mark.parametrize("rows", [{}, {name: column[:1] for name, column in ROWS.items()}])
def test_learning_curve_of_few_evaluations(tmp_path, rows):
    assert picture(learning_curve, tmp_path, rows, baseline=None, title="t").std() > 5


def test_learning_curve_lacks_a_column(tmp_path):
    with pytest.raises(ValueError, match="return_ci95"):
        learning_curve(
            tmp_path / "a.png", {"frame": [1], "return_mean": [1]}, baseline=None, title="t"
        )


def test_rollout_gif_of_a_whole_episode_is_small(tmp_path):
    generator = torch.Generator().manual_seed(0)
    steps, agents, preys = 100, 4, 30
    moves = 0.05 * torch.randn(steps, agents, 2, generator=generator)
    positions = moves.cumsum(0).clamp(-1, 1)
    alive = torch.arange(steps)[:, None] < 3 * torch.arange(preys)[None]
    spots = 2 * torch.rand(preys, 2, generator=generator) - 1
    path = tmp_path / "rollout.gif"
    rollout_gif(path, positions, spots, alive, torch.ones(steps), **SCENE, fps=10)
    assert path.stat().st_size < 800_000
    assert iio.imread(path).shape[0] == steps
    assert iio.immeta(path)["duration"] == 100
    assert iio.immeta(path)["loop"] == 0


def test_rollout_gif_shows_moves_and_captures(tmp_path):
    path = tmp_path / "rollout.gif"
    positions = torch.zeros(3, 1, 2)
    positions[2] = 0.7  # up and right
    preys = torch.tensor([[-0.6, -0.6]])
    alive = torch.tensor([[True], [False], [False]])
    rollout_gif(path, positions, preys, alive, None, **SCENE)
    frames = iio.imread(path)[..., :3].astype(int)
    assert len(frames) == 3
    blue = (abs(frames - torch.tensor([0, 0x72, 0xB2]).numpy()).sum(-1) < 40).nonzero()
    rows, columns = ([blue[axis][blue[0] == t].mean() for t in range(3)] for axis in (1, 2))
    assert rows[2] < rows[0] - 30
    assert columns[2] > columns[0] + 30
    height, width = frames.shape[1:3]
    dark = (frames[:, height // 2 : -30, 30 : width // 2 - 30] < 60).all(-1).sum((1, 2))
    assert dark[0] > dark[1] + 10
    assert dark[1] == dark[2]


def test_rollout_gif_keeps_still_frames(tmp_path):
    path = tmp_path / "rollout.gif"
    rollout_gif(path, torch.zeros(5, 2, 2), None, None, None, **SCENE)
    frames = iio.imread(path)
    assert len(frames) == 5
    assert frames.std() > 10


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("positions", ((4, 2), None, None, None)),
        ("positions", ((0, 2, 2), None, None, None)),
        ("preys", ((4, 2, 2), (3, 3), None, None)),
        ("alive", ((4, 2, 2), (3, 2), (3, 3), None)),
        ("rewards", ((4, 2, 2), None, None, (4, 1))),
    ],
)
def test_rollout_gif_rejects_wrong_shapes(tmp_path, name, shapes):
    tensors = [None if shape is None else torch.zeros(shape) for shape in shapes]
    with pytest.raises(ValueError, match=f"{name} must be"):
        rollout_gif(tmp_path / "a.gif", *tensors, **SCENE)


def test_missing_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("vm3ac_modules.extras.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"vm3ac-modules\[recipes\]"):
        learning_curve(tmp_path / "a.png", ROWS, baseline=None, title="t")


def test_no_plotting_library_is_imported_before_use():
    code = (
        "import sys, vm3ac_modules.evaluation.film, vm3ac_modules.runs.record\n"
        "found = {'matplotlib', 'imageio', 'tensorboard'} & set(sys.modules)\n"
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
