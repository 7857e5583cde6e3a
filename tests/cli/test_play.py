"""``vm3ac play``: films of trained agents."""

from __future__ import annotations

import importlib.util
from types import SimpleNamespace

import pytest

pytest.importorskip("imageio")
pytest.importorskip("matplotlib")
pytest.importorskip("hydra")
pytest.importorskip("safetensors")

import imageio.v3 as iio

from vm3ac_modules.cli import play
from vm3ac_modules.runs import _pictures


@pytest.fixture(autouse=True)
def short(tmp_path, monkeypatch):
    """Films of two games, in an empty directory."""
    monkeypatch.chdir(tmp_path)
    for module in (play, _pictures):
        monkeypatch.setattr(module, "GAMES", 2)


def without_ffmpeg(name):
    return None if name == "imageio_ffmpeg" else importlib.util.find_spec(name)


def test_it_draws_an_agent_of_the_zoo(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("vm3ac_modules.extras.find_spec", without_ffmpeg)
    play.main(["zoo/guard"])
    said = capsys.readouterr().out
    assert "No MP4: Writing an MP4 needs" in said
    assert "32 games, mean return" in said
    assert len(iio.imread(tmp_path / "runs/zoo/guard/rollout.gif")) == 2
    play.main(["zoo/guard", "latent=independent", f"out={tmp_path / 'o'}"])
    assert (tmp_path / "o/rollout_independent.gif").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["format=mp4"], "vm3ac-modules[video]"),
        (["format=avi"], "format must be"),
        (["episode=-1"], "episode must be"),
        (["latent=other"], "latent must be"),
    ],
)
def test_what_cannot_be_drawn_is_said(arguments, said, capsys, monkeypatch):
    monkeypatch.setattr("vm3ac_modules.extras.find_spec", without_ffmpeg)
    with pytest.raises(SystemExit):
        play.main(["zoo/guard", *arguments])
    assert said in capsys.readouterr().err


def test_an_agent_without_a_sampled_latent(capsys, monkeypatch):
    without = SimpleNamespace(policy=SimpleNamespace(sampler=None))
    monkeypatch.setattr(play, "load_agent", lambda *_, **__: without)
    with pytest.raises(SystemExit):
        play.main(["zoo/battle_3m", "latent=mean"])
    assert "zoo/battle_3m has no sampled latent" in capsys.readouterr().err
