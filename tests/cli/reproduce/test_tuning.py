"""The comparison on one protocol: what is the same for all, and what is chosen on other seeds."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

pytest.importorskip("vmas")
pytest.importorskip("hydra")
pytest.importorskip("rliable")

from contracts.reproduction import arguments, fake, table

from vm3ac_modules.cli.reproduce import _trainings as runs
from vm3ac_modules.cli.reproduce import figure3
from vm3ac_modules.cli.reproduce._cases import settings_of
from vm3ac_modules.cli.reproduce._command import Command
from vm3ac_modules.cli.reproduce._tuning import candidates, for_updates, protocol
from vm3ac_modules.options import OptionsError
from vm3ac_modules.runs import load_agent, train

SMOKE = ("budget=smoke", "tuning_seeds=2", "updates=40", "tasks=predator_prey_2")


def command(*overrides, **options):
    given = dict(text.split("=", 1) for text in overrides)
    return Command(figure3.Figure3(budget="cpu", **options), given, "")


@pytest.fixture
def better_shared(monkeypatch):
    """Trainings that only take notes; at lr 1e-3 shared parameters are best until late."""
    commands = []

    def launch(line, log):
        given = arguments(line)
        commands.append(given)
        fake(given)
        level = (given["lr"] == "1e-3") + (given["algorithm.share_params"] == "true")
        for file in Path(given["run_dir"]).rglob("eval.csv"):
            # What was before the half counts nothing.
            rows = [(0, 0), (128, 99 - 50 * level), (192, level), (256, level)]
            file.write_text("frame,return_mean\n" + "".join(f"{f},{r}\n" for f, r in rows))

    monkeypatch.setattr(runs, "launch", launch)
    return commands


def test_the_best_candidate_is_reported_on_other_seeds(tmp_path, better_shared):
    figure3.main([*SMOKE, "algorithms=vm3ac,ma_ac", f"out={tmp_path}", "seeds=3"])
    tried, reported = better_shared[:4], better_shared[4]
    assert {(g["seed"], g["seeds"]) for g in tried} == {("100", "2")}
    assert len({(g["lr"], g["algorithm.share_params"]) for g in tried}) == 4
    assert (reported["seed"], reported["seeds"]) == ("0", "3")
    assert (reported["lr"], reported["algorithm.share_params"]) == ("1e-3", "true")
    # An algorithm is finished before the next one is begun.
    assert [g["algorithm"] for g in better_shared] == ["vm3ac"] * 5 + ["ma_ac"] * 5
    # Who shares sees its index.
    for given in better_shared:
        shares = given["algorithm.share_params"] == "true"
        assert given.get("task.agent_index") == ("true" if shares else None)
    # One floor of exploration for those without entropy.
    assert "algorithm.exploration_noise" not in reported
    assert better_shared[-1]["algorithm.exploration_noise"] == "0.1"
    rows = table(tmp_path / "tuning.csv")
    assert [row["chosen"] for row in rows] == ["False", "False", "False", "True"] * 2
    assert [float(row["return_mean"]) for row in rows[:4]] == [0, 1, 1, 2]
    text = (tmp_path / "figure3.md").read_text()
    assert "| predator_prey_2 | ma_ac | 1e-3 | true |  | 2.0 | 100 101 |" in text
    assert "PP (N=2), 3 seeds" in text
    # The same command trains nothing.
    better_shared.clear()
    figure3.main([*SMOKE, "algorithms=vm3ac,ma_ac", f"out={tmp_path}", "seeds=3"])
    assert better_shared == []


def test_what_is_half_done_is_shown_as_far_as_it_is(tmp_path, better_shared, capsys):
    figure3.main([*SMOKE, "algorithms=vm3ac", f"out={tmp_path}"])
    done = len(better_shared)
    figure3.main([*SMOKE, "algorithms=vm3ac,ma_ac", f"out={tmp_path}", "draw_only=true"])
    assert len(better_shared) == done
    assert "missing: ma_ac" in capsys.readouterr().out
    text = (tmp_path / "figure3.md").read_text()
    assert "`vm3ac`" in text
    assert "ma_ac" not in text


def test_a_run_makes_as_many_updates_on_every_task():
    for task in ("predator_prey_2", "cooperative_navigation_3", "multiwalker_3"):
        own = protocol(command(), task, "vm3ac")
        length = for_updates(command(), task, "vm3ac", own, 20_000)
        said = {"num_envs": 64, "updates_per_step": 2, **own, **length}
        steps = (length["frames"] - length["init_random_frames"]) / said["num_envs"]
        assert steps * said["updates_per_step"] == 20_000
        # Ten evaluations beside the first.
        assert -(-length["frames"] // length["eval_every_frames"]) == 10
    assert own["num_envs"] == 16
    assert for_updates(command(), "predator_prey_2", "ma_ac", {}, 20_000)["frames"] == 641_280


def test_what_is_chosen_from():
    def found(task, algorithm, *overrides):
        return candidates(command(*overrides), task, algorithm)

    assert len(found("predator_prey_2", "vm3ac")) == 4
    assert len(found("predator_prey_4", "vm3ac")) == 8
    assert {own["algorithm.beta"] for own in found("predator_prey_4", "ma_sac")} == {"0.2", "0.02"}
    # Without entropy there is no beta.
    assert len(found("predator_prey_4", "maddpg")) == 4
    # What the command line says is no matter of choice.
    assert {own["lr"] for own in found("predator_prey_2", "ma_ac")} == {"3e-4", "1e-3"}
    assert all("lr" not in own for own in found("predator_prey_2", "ma_ac", "lr=1e-2"))
    for key in ("algorithm.lr", "lr"):
        assert len(found("predator_prey_2", "ma_ac", f"{key}=1e-2")) == 2
    for key in ("task.beta", "algorithm.beta"):
        assert len(found("predator_prey_4", "vm3ac", f"{key}=0.3")) == 4
    given = command("algorithm.exploration_noise=0.3", "num_envs=8", "eval_every_frames=8")
    assert protocol(given, "multiwalker_3", "ma_ac") == {}
    assert "eval_every_frames" not in for_updates(given, "multiwalker_3", "ma_ac", {}, 4)


def test_updates_without_choosing(tmp_path, launched):
    out = f"out={tmp_path}"
    figure3.main(["budget=smoke", "updates=40", "algorithms=ma_ac", "tasks=predator_prey_2", out])
    [given] = launched
    # Twenty steps of four rows, a quarter of them random ones before.
    assert (given["frames"], given["init_random_frames"]) == ("100", "20")
    assert "algorithm.exploration_noise" not in given
    assert not (tmp_path / "tuning.csv").exists()
    few = command("init_random_frames=6", "num_envs=4", "updates_per_step=1")
    found = for_updates(few, "predator_prey_2", "ma_ac", {}, 40)
    assert found["frames"] == 40 * 4 + 8
    assert "init_random_frames" not in found
    many = command("init_random_frames=41", "num_envs=4", "updates_per_step=1")
    with pytest.raises(OptionsError, match="40 at most"):
        for_updates(many, "predator_prey_2", "ma_ac", {}, 40)


def test_choosing_needs_updates(tmp_path, launched, capsys):
    with pytest.raises(SystemExit):
        figure3.main(["budget=smoke", "tuning_seeds=1", f"out={tmp_path}"])
    assert "tuning_seeds needs updates" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        figure3.main(["budget=smoke", "updates=8", "frames=64", f"out={tmp_path}"])
    assert "give updates or frames, not both" in capsys.readouterr().err
    assert launched == []


def test_every_algorithm_goes_through(tmp_path, monkeypatch):
    """The whole comparison, cut down: real trainings of a few updates in this process."""

    def launch(line, log):
        train(settings_of(line[4:]))

    monkeypatch.setattr(runs, "launch", launch)
    threads = torch.get_num_threads()
    tiny = ["lr=1e-3", "information_rows=0", "seeds=2", f"out={tmp_path}"]
    figure3.main(["budget=smoke", "tuning_seeds=1", "updates=8", "tasks=predator_prey_2", *tiny])
    torch.set_num_threads(threads)
    rows = table(tmp_path / "results.csv")
    reported = [row for row in rows if row["seed"] in ("0", "1")]
    assert [row["algorithm"] for row in reported[::2]] == list(figure3.ALGORITHMS)
    assert {row["updates"] for row in reported} == {"8"}
    assert {row["updates"] for row in rows if row["seed"] == "100"} == {"2"}
    # Random play is the same for all, MAVEN's latent or not.
    for seed in ("0", "1"):
        assert len({row["random_return_mean"] for row in reported if row["seed"] == seed}) == 1
    with (tmp_path / "tuning.csv").open() as file:
        chosen = [row for row in csv.DictReader(file) if row["chosen"] == "True"]
    shares = {row["algorithm"]: row["share_params"] == "true" for row in chosen}
    for row in reported:
        trained = load_agent(tmp_path / row["run_dir"])
        assert trained.agent.options.share_params is shares[row["algorithm"]]
        assert trained.agent.policy.sizes.obs_dim == 53 + 2 * shares[row["algorithm"]]
