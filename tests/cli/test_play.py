"""``vm3ac play``: films of trained agents."""

from __future__ import annotations

import importlib.util
import shutil
from types import SimpleNamespace

import pytest

pytest.importorskip("imageio")
pytest.importorskip("matplotlib")
pytest.importorskip("hydra")
pytest.importorskip("safetensors")

import imageio.v3 as iio

from vm3ac_modules.cli import play
from vm3ac_modules.cli.evaluate import Evaluation, report
from vm3ac_modules.runs import _pictures, read_card
from vm3ac_modules.runs.packed import ZOO
from vm3ac_modules.runs.record import write_config


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
        (["fps=51"], "fps must be an integer >= 1 and <= 50"),
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


def test_the_film_is_an_episode_of_the_evaluations(tmp_path, monkeypatch):
    pytest.importorskip("vmas")
    seen = []
    monkeypatch.setattr(play, "draw_episode", lambda *given, **_: seen.append(given[3]))

    def played(source, episode):
        play.main([str(source), f"episode={episode}", "format=gif"])
        return seen[-1]

    def evaluated(episodes):
        options = {"latent": "sample", "actions": "mean", "coordination": False}
        found = report(Evaluation(run_dir="zoo/predator_prey_2", episodes=episodes, **options))
        return found["results"]["sample"]["return_mean"]

    inside, behind = (played("zoo/predator_prey_2", episode) for episode in (3, 20))
    assert inside.mean == evaluated(20)
    assert (len(inside.returns), len(behind.returns)) == (20, 21)
    # A run says itself how many episodes its evaluations have.
    run = shutil.copytree(ZOO / "predator_prey_2", tmp_path / "run")
    config = read_card(run)["config"]
    write_config(run / "config.yaml", {**config, "eval_episodes": 3})
    assert played(run, 1).mean == evaluated(3)
