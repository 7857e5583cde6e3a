"""The sweep over beta: what it accepts, its table, and the program on real runs cut short."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("hydra")
pytest.importorskip("rliable")

from contracts.reproduction import table

from vm3ac_modules.cli.reproduce import _trainings as runs
from vm3ac_modules.cli.reproduce import beta_sweep as program
from vm3ac_modules.cli.reproduce._cases import settings_of
from vm3ac_modules.options import OptionsError
from vm3ac_modules.runs import train


def test_temperatures():
    assert program.betas_of("0.1") == [0.1]
    assert program.betas_of("0.01,0.1,1") == [0.01, 0.1, 1.0]


@pytest.mark.parametrize("text", ["", "a", "0.1,", "0,0.1", "-1", "0.2,0.1", "0.1,0.1", "nan"])
def test_temperatures_that_are_none(text):
    with pytest.raises(OptionsError, match="betas must be"):
        program.betas_of(text)


def test_the_table():
    known = {"game": "M=4, N=2", "algorithm": "vm3ac", "latent": "sample"}
    rows = [
        {**known, "beta": beta, "seed": seed, "actions": "mean", "best_response_value": value}
        for beta, seed, value in [("0.1", 0, 0.5), ("0.1", 1, 0.7), ("0.2", 0, 0.3)]
    ]
    head, _, line = program.markdown(rows).splitlines()
    assert head == "| game | algorithm | actions | beta = 0.1 | beta = 0.2 |"
    assert line.startswith("| M=4, N=2 | vm3ac | mean | 0.600 [")
    assert line.endswith("| 0.300 |")


def test_real_runs(tmp_path, monkeypatch):
    settings = []

    def launch(command, log):
        settings.append(settings_of(command[4:]))
        train(settings[-1])

    monkeypatch.setattr(runs, "launch", launch)
    threads = torch.get_num_threads()
    line = ["budget=smoke", "algorithms=vm3ac_tight,ma_sac", "betas=0.1,0.3", f"out={tmp_path}"]
    program.main([*line, "episodes=64"])
    torch.set_num_threads(threads)
    assert sorted(s.algorithm.beta for s in settings) == [0.1, 0.1, 0.3, 0.3]
    assert all(s.algorithm.beta_end is s.algorithm.beta_frames is None for s in settings)
    rows = table(tmp_path / "sweep.csv")
    found = {(r["algorithm"], r["beta"], r["seed"], r["actions"], r["latent"]) for r in rows}
    assert len(found) == len(rows) == 2 * 2 * 2 * 2
    assert {(r["algorithm"], r["latent"]) for r in rows} == {
        ("vm3ac_tight", "sample"),
        ("ma_sac", "none"),
    }
    assert (tmp_path / "beta_sweep.png").stat().st_size > 1000


def test_an_algorithm_without_a_temperature(tmp_path, capsys):
    with pytest.raises(SystemExit):
        program.main(["budget=smoke", "algorithms=ma_sac,maddpg", f"out={tmp_path}"])
    assert "maddpg has no beta" in capsys.readouterr().err


def test_what_the_program_chooses_is_not_taken_from_the_command_line(tmp_path, capsys):
    for key in ("algorithm.beta", "+algorithm.beta", "task.beta", "task.env.width"):
        with pytest.raises(SystemExit):
            program.main(["budget=smoke", f"out={tmp_path}", f"{key}=0.7"])
        name = "task.env.width" if key.endswith("width") else "algorithm.beta"
        assert f"{name} is this program's to choose" in capsys.readouterr().err


def test_only_temperatures_that_every_seed_has_are_drawn():
    curve = program.over_beta([[(0.1, 1.0), (0.2, 2.0), (0.3, 3.0)], [(0.1, 3.0), (0.3, 5.0)]])
    assert curve.frames.tolist() == [0.1, 0.3]
    assert curve.mean.tolist() == [2.0, 4.0]
    assert program.over_beta([[(0.1, 1.0)], [(0.2, 1.0)]]) is None
