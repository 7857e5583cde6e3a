"""The value of correlation: games as they are written, and the program on real runs cut short."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("hydra")
pytest.importorskip("rliable")

from contracts.reproduction import table

from vm3ac_modules.cli.reproduce import _trainings as runs
from vm3ac_modules.cli.reproduce import value_of_correlation as program
from vm3ac_modules.cli.reproduce._cases import settings_of
from vm3ac_modules.cli.reproduce._command import Command
from vm3ac_modules.cli.reproduce._games import Game, game_case, games_of
from vm3ac_modules.cli.reproduce._results import cell
from vm3ac_modules.envs import GuardEnv, find_task
from vm3ac_modules.evaluation.joint_actions import meetings
from vm3ac_modules.keys import Keys
from vm3ac_modules.options import OptionsError
from vm3ac_modules.runs import train


@pytest.mark.parametrize(
    ("text", "game"),
    [
        ("4:2", (4, 2, 0.3)),
        ("8:4", (8, 4, 0.6)),
        ("4:6", (4, 6, 0.8)),
        ("2:3:0.8", (2, 3, 0.8)),
    ],
)
def test_games_as_they_are_written(text, game):
    assert Game.of(text) == (*game, "guard")


def test_games_of_many_steps():
    guarded = Game.of("4:2", "guarded_rendezvous")
    assert str(guarded) == "guarded_rendezvous M=4, N=2"
    assert guarded.values == {"with a common z": 0.75, "independent": 0.25}
    prey = Game.of("4:2", "learning_prey")
    assert prey.values == {"with a common z": 0.25, "independent": 0.0625}
    with pytest.raises(OptionsError, match="tasks of games are guard, guarded_rendezvous"):
        Game.of("4:2", "predator_prey_2")


@pytest.mark.parametrize("text", ["4", "a:2", "4:2:x", "1:2", "4:0", ""])
def test_games_that_are_none(text):
    with pytest.raises(OptionsError, match="game"):
        Game.of(text)


def row(seed, latent, value, algorithm="vm3ac_tight", actions="mean"):
    known = {"game": "M=4, N=2", "algorithm": algorithm, "seed": seed, "latent": latent}
    return {**known, "actions": actions, "best_response_value": value}


def test_the_table():
    rows = [row(seed, "sample", 0.7 + 0.01 * seed) for seed in (0, 2)]
    rows += [row(0, "independent", 0.2), row(0, "mean", 0.0), row(0, "none", 0.1, "ma_sac")]
    rows += [row(0, "none", 0.2, "ma_sac", "drawn"), row(0, "independent", 0.9, actions="drawn")]
    lines = program.markdown(rows, {"M=4, N=2": Game.of("4:2")}).splitlines()
    head = "| game | algorithm | seeds | common z | a z each | z = E[z] | common z, drawn actions |"
    assert lines[0] == head
    assert lines[2] == "| M=4, N=2 | vm3ac_tight | 2 | 0.710 [0.583, 0.837] | 0.200 | 0.000 | - |"
    assert lines[3] == "| M=4, N=2 | ma_sac | 1 | 0.100 | - | - | 0.200 |"
    assert lines[4] == "| M=4, N=2 | can be reached | - | 0.7500 | 0.2500 | - | - |"


def test_games_that_differ_by_width_alone_are_two():
    games = games_of(Command(program.ValueOfCorrelation(games="4:2,4:2:0.6"), {}, ""))
    assert {title: game.width for title, game in games.items()} == {
        "M=4, N=2": 0.3,
        "M=4, N=2, width 0.6": 0.6,
    }


def test_a_rounded_zero_has_no_sign():
    assert cell([-1e-6], 3) == "0.000"
    assert cell([-2e-6, 1e-6], 3) == "0.000 [0.000, 0.000]"


def test_real_runs(tmp_path, monkeypatch):
    def launch(command, log):
        train(settings_of(command[4:]))

    monkeypatch.setattr(runs, "launch", launch)
    threads = torch.get_num_threads()
    line = ["budget=smoke", "algorithms=vm3ac_tight,ma_sac,maven,maddpg", f"out={tmp_path}"]
    line.append("episodes=64")
    program.main(line)
    torch.set_num_threads(threads)
    rows = table(tmp_path / "values.csv")
    found = {(r["algorithm"], r["seed"], r["latent"]) for r in rows}
    # Deterministic policies draw nothing.
    ways = {name: {r["actions"] for r in rows if r["algorithm"] == name} for name, *_ in found}
    assert ways.pop("maddpg") == {"mean"}
    assert all(each == {"mean", "drawn"} for each in ways.values())
    assert len(rows) == 2 * len(found) - 2
    modes = [("vm3ac_tight", "sample"), ("vm3ac_tight", "independent"), ("vm3ac_tight", "mean")]
    modes += [("ma_sac", "none"), ("maven", "sample"), ("maddpg", "none")]
    assert found == {(name, seed, mode) for name, mode in modes for seed in ("0", "1")}
    assert all(0.0 <= float(r["best_response_value"]) <= 0.75 for r in rows)
    labels = {r["label"] for r in table(tmp_path / "curves.csv")}
    assert labels == {"vm3ac_tight", "ma_sac", "maven", "maddpg"}
    for name in ("value_of_correlation.png", "modes.png", "curves.png"):
        assert (tmp_path / name).stat().st_size > 1000
    # Made again, nothing is trained.
    monkeypatch.setattr(runs, "launch", None)
    program.main(line)
    torch.set_num_threads(threads)
    assert table(tmp_path / "values.csv") == rows


def test_a_game_of_many_steps(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "launch", lambda command, log: train(settings_of(command[4:])))
    threads = torch.get_num_threads()
    line = ["budget=smoke", "tasks=guarded_rendezvous", "algorithms=ma_sac_latent", "episodes=16"]
    program.main([*line, "seeds=1", f"out={tmp_path}"])
    torch.set_num_threads(threads)
    rows = table(tmp_path / "values.csv")
    assert {row["game"] for row in rows} == {"guarded_rendezvous M=4, N=2"}
    assert {row["latent"] for row in rows} == {"sample", "independent", "mean"}
    assert (tmp_path / "guarded_rendezvous_4_2.png").stat().st_size > 1000


class Walker:
    """Both agents walk to the shelter that they see second."""

    def with_latent(self, mode, seed):
        return self

    def __call__(self, td):
        step = (10 * td["agents", "observation"][..., 4:6]).clamp(-1, 1)
        return td.set(("agents", "action"), step)


def test_where_episodes_end():
    task, agent = find_task("guarded_rendezvous"), SimpleNamespace(keys=Keys())
    trained = SimpleNamespace(task=task, make_env=task.make, policy=Walker(), agent=agent, seed=0)
    met, counts = meetings(program.ends_of(trained, "sample", 16), GuardEnv(1), within=True)
    assert met.all()
    assert counts.tolist() == [0, 16, 0, 0]


def test_long_games_are_trained_longer_unless_told_otherwise():
    def frames(*line, task="guarded_rendezvous"):
        chosen = program.ValueOfCorrelation().changed({"budget": "cpu"}, "the program")
        command = Command(chosen, dict(line), "")
        case = game_case(command, Game.of("4:2", task), "ma_sac")
        return case.settings.training.frames, case.settings.training.buffer_size

    assert frames() == (512_000, 20_480)
    assert frames(("frames", "999")) == (999, 20_480)
    assert frames(task="guard") == (64_000, 1280)


def test_an_unknown_game_is_one_sentence(tmp_path, capsys):
    with pytest.raises(SystemExit):
        program.main(["budget=smoke", "games=1:1", f"out={tmp_path}"])
    assert "a game has M >= 2 modes" in capsys.readouterr().err
