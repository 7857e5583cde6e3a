"""The search of figure 4: as many settings for each algorithm, the best on other seeds."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest

pytest.importorskip("hydra")
pytest.importorskip("rliable")

from contracts.reproduction import arguments, fake, table

from vm3ac_modules.algorithms import find_preset
from vm3ac_modules.algorithms.searched import BEST, LOOP, SEARCHED, best
from vm3ac_modules.algorithms.tuning import tuned
from vm3ac_modules.cli.reproduce import _trainings as runs
from vm3ac_modules.cli.reproduce import battle_settings, figure4
from vm3ac_modules.cli.reproduce._cases import settings_of
from vm3ac_modules.runs.settings import BattleTraining

SEARCH = ("budget=cpu", "tuning_seeds=1", "tasks=3m", "seeds=2", "num_envs=4", "batch_size=4")
BATTLE = "battle/smax/sparse/3s_vs_3z"
RESULTS = Path(__file__).parents[3] / "docs/results/battles/search"


@pytest.fixture
def rates(monkeypatch):
    """Win rates by entropy weight, which trainings that only take notes leave; and their notes."""
    found, notes = {}, []

    def launch(line, log):
        given = arguments(line)
        notes.append(given)
        won, returned = found.get(given.get("algorithm.entropy_weight"), (0.0, -9.0))
        early = [(0, 0.0, 0.0), (40, 1.0, 99.0)]
        rows = [*early, (41, won - 0.25, returned), (60, won + 0.25, returned)]
        lines = [",".join(map(str, row)) for row in rows]
        log = "\n".join(["frame,win_rate,return_mean", *lines, ""])
        fake(given, log=log, win_rate=won, backend="smax", updates=7)

    monkeypatch.setattr(runs, "launch", launch)
    return found, notes


def search(tmp_path, *more):
    figure4.main([*SEARCH, "algorithms=lica,fop_cpu", f"out={tmp_path}", *more])


def test_the_best_setting_is_reported_on_other_seeds(tmp_path, rates):
    levels, notes = rates
    weights = [str(one["entropy_weight"]) for one in SEARCHED["lica"]]
    assert len(set(weights)) == len(weights)
    # Who wins less is not chosen for a higher return.
    levels[weights[0]] = (0.25, 99.0)
    levels[weights[1]], levels[weights[2]] = (0.5, -3.0), (0.5, 40.0)
    search(tmp_path)
    tried, reported = notes[: len(weights)], notes[len(weights) :]
    assert [one["algorithm.entropy_weight"] for one in tried] == weights
    assert {(one["seed"], one["frames"], one["eval_every_frames"]) for one in tried} == {
        ("100", "60000", "6000")
    }
    # Where win rates are equal, the return decides.
    names = [(one["algorithm"], one["seed"]) for one in reported]
    assert names == [("lica", "0"), ("lica", "1"), ("fop_cpu", "0"), ("fop_cpu", "1")]
    assert reported[0]["algorithm.entropy_weight"] == weights[2]
    assert {one["frames"] for one in reported} == {"150000"}
    # What has no settings is what it is.
    assert "algorithm.entropy_weight" not in reported[2]
    # What the command line says is no matter of choice.
    assert {(one["num_envs"], one["batch_size"]) for one in notes} == {("4", "4")}
    rows = table(tmp_path / "tuning.csv")
    assert [row["chosen"] for row in rows] == [str(k == 2) for k in range(len(weights))]
    # What was before the last third counts nothing.
    assert [float(row["win_rate"]) for row in rows] == [0.25, 0.5, 0.5, *[0.0] * (len(rows) - 3)]
    assert f"algorithm.entropy_weight={weights[2]}" in rows[2]["settings"]
    text = (tmp_path / "figure4.md").read_text()
    assert "| 3m | `lica` | 0.50 | 0.50 | 0.50 [0.50, 0.50] | 7 |" in text
    found = {row["algorithm"]: row for row in table(tmp_path / "statistics.csv")}
    assert float(found["lica"]["win_rate_late"]) == 0.5
    # The same command trains nothing.
    count = len(notes)
    search(tmp_path)
    assert len(notes) == count


def test_frames_of_the_command_line_are_those_of_the_reported_runs(tmp_path, rates):
    search(tmp_path, "frames=900", "tuning_frames=45", "+eval_every_frames=300")
    tried = [one for one in rates[1] if one["seed"] == "100"]
    reported = [one for one in rates[1] if one["seed"] != "100"]
    assert {(one["frames"], one["eval_every_frames"]) for one in tried} == {("45", "5")}
    assert {one["frames"] for one in reported} == {"900"}


def test_without_a_search_the_presets_are_trained(tmp_path, rates):
    figure4.main(["budget=cpu", "tasks=3m", "seeds=1", "algorithms=lica", f"out={tmp_path}"])
    [given] = rates[1]
    assert "algorithm.entropy_weight" not in given
    assert not (tmp_path / "tuning.csv").exists()


def test_the_search_is_of_one_size_and_the_presets_are_what_it_found():
    assert len({len(settings) for settings in SEARCHED.values()}) == 1
    assert {field.name for field in fields(BattleTraining)} >= LOOP
    for name, settings in SEARCHED.items():
        reference = find_preset(name, "discrete").options
        own = {field.name for field in fields(reference)}
        assert all(one.keys() - LOOP <= own for one in settings)
        assert all(a != b for k, a in enumerate(settings) for b in settings[:k])
        found = find_preset(f"{name}_cpu", "discrete").options
        assert found == replace(reference, **best(name, loop=False))
        assert found != reference
        # The loop of a preset is that of the runs in which it was found.
        loop = tuned(name, BATTLE) | best(name, loop=True)
        assert tuned(f"{name}_cpu", BATTLE) == loop


def test_the_presets_are_what_the_committed_search_chose():
    rows = table(RESULTS / "tuning.csv")
    for name in SEARCHED:
        tried = [row["chosen"] for row in rows if row["algorithm"] == name]
        assert [k for k, chosen in enumerate(tried) if chosen == "True"] == [BEST[name]]


def settings(tmp_path, *more):
    small = ["budget=smoke", "tasks=3m", "seeds=1", f"out={tmp_path}"]
    battle_settings.main([*small, *more])


def test_each_setting_of_a_preset_goes_back_alone(tmp_path, rates):
    settings(tmp_path, "algorithms=fop_cpu", "batch_size=4")
    whole, *others = rates[1]
    assert {one["algorithm"] for one in rates[1]} == {"fop_cpu"}
    changes = [
        {key: value for key, value in one.items() if whole.get(key) != value and key != "run_dir"}
        for one in others
    ]
    # The batch is said by the command line: it stays. Both ends of the temperature go together.
    assert changes == [
        {"algorithm.epsilon_frames": "50000"},
        {"algorithm.lr": "0.0005"},
        {"algorithm.mask_soft_values": "False"},
        {"algorithm.reward_scale": "1.0"},
        {"algorithm.target_tau": "null"},
        {"algorithm.temperature_end": "0.05", "algorithm.temperature_start": "0.5"},
        {"updates_per_episode": "0.5"},
    ]
    # What was sent is what the training understands.
    found = settings_of([f"{k}={v}" for k, v in others[4].items() if k != "threads"])
    assert found.algorithm.target_tau is None
    rows = table(tmp_path / "battle_settings.csv")
    assert [row["preset"] for row in rows][:2] == ["fop_cpu", "fop_cpu, epsilon_frames=50000"]
    assert {float(row["win_rate"]) for row in rows} == {0.0}
    text = (tmp_path / "battle_settings.md").read_text()
    assert "| 3m | `fop_cpu, target_tau=null` | 0.00 | 0.00 | 7 |" in text
    assert (tmp_path / "battle_settings.png").stat().st_size > 1000


def test_a_preset_without_a_reference(tmp_path, capsys):
    with pytest.raises(SystemExit):
        settings(tmp_path, "algorithms=fop")
    assert "fop has no reference to go back to: give a preset NAME_cpu" in capsys.readouterr().err
