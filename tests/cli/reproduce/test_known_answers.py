"""Known answers: when one counts as found, the table, and the program on real runs cut short."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("hydra")
pytest.importorskip("rliable")

from contracts.reproduction import table

from vm3ac_modules.cli.reproduce import known_answers as program
from vm3ac_modules.runs import Run, Settings


def log(column, *values):
    return {"frame": [0.0, 10.0, 20.0, 30.0], column: list(values)}


@pytest.mark.parametrize(
    ("game", "values", "since"),
    [
        ("climbing", (11, 11, 11, 11), 0.0),
        ("climbing", (5, 11, 7, 11), 30.0),
        ("climbing", (11, 11, 11, 10.9), None),
        ("two_step", (7, 8, 8, 8), 10.0),
        ("penalty", (2, 2, 2, 2), None),
    ],
)
def test_an_answer_is_found_from_where_on_it_stays(game, values, since):
    assert program.found_at(log("return_mean", *values), game) == since


def test_the_guard_s_answer_lies_above_the_middle_of_both_values():
    column = "best_response_value"
    assert program.answer_of("guard") == (column, 0.5)
    assert program.found_at(log(column, 0.25, 0.49, 0.5, 0.74), "guard") == 20.0


def test_of_matrix_games_the_likeliest_actions_are_judged():
    both = {**log("return_mean", 1.0, 8.0, 8.0, 8.0), "greedy_return_mean": [1.0, 1.0, 8.0, 8.0]}
    assert program.found_at(both, "two_step") == both["frame"][2]


def row(game, algorithm, seed, found_at, actions="mean", latent="sample", **values):
    known = {"game": game, "algorithm": algorithm, "seed": seed, "found_at": found_at}
    known |= {"critic_knows": {"0": "yes", "1": "no"}[seed] if algorithm == "vm3ac" else ""}
    return {**known, "actions": actions, "latent": latent, "best_response_value": "", **values}


def test_the_table():
    rows = [
        row("two_step", "vm3ac", "0", "20", return_mean=8.0),
        row("two_step", "vm3ac", "1", "60", return_mean=7.0),
        row("two_step", "vm3ac", "0", "20", latent="independent", return_mean=6.0),
        row("two_step", "vm3ac", "0", "20", actions="drawn", return_mean=7.5),
        row("guard", "fop", "0", "", latent="none", return_mean=0.1, best_response_value=0.2),
    ]
    lines = program.markdown(rows).splitlines()
    head = "| game | best | algorithm | found | episodes | common z | a z each | drawn |"
    head += " critic knows |"
    assert lines[0] == head
    # An episode of two steps is two frames; the slower seed is told.
    cells = "7.50 [1.15, 13.85] | 6.00 | 7.50 |"
    assert lines[2] == f"| two_step | 8 | vm3ac | 2 of 2 | 30 | {cells} 1 of 2 |"
    assert lines[3] == "| guard | 0.75 | fop | 0 of 1 | - | 0.20 | - | - | - |"


def test_real_runs(tmp_path):
    threads = torch.get_num_threads()
    line = ["budget=smoke", "tasks=two_step,guard", "algorithms=vm3ac,vdac,maven"]
    line.append(f"out={tmp_path}")
    program.main(line)
    torch.set_num_threads(threads)
    rows = table(tmp_path / "known_answers.csv")
    found = {(r["game"], r["algorithm"], r["latent"], r["actions"]) for r in rows}
    latents = [("vm3ac", "sample"), ("vm3ac", "independent"), ("vdac", "none")]
    assert found == {
        (game, name, latent, actions)
        for game in ("two_step", "guard")
        for name, latent in latents
        for actions in ("mean", "drawn")
    } | {(game, "maven", "sample", "mean") for game in ("two_step", "guard")}
    assert {r["seed"] for r in rows} == {"0", "1"}
    for one in rows:
        assert (one["best_response_value"] != "") == (one["game"] == "guard")
        assert 0.0 <= float(one["return_mean"]) <= 8.0
    # Made again, nothing is trained.
    before = (tmp_path / "results.csv").read_text()
    program.main(line)
    torch.set_num_threads(threads)
    assert (tmp_path / "results.csv").read_text() == before
    assert table(tmp_path / "known_answers.csv") == rows


@torch.no_grad()
@pytest.mark.parametrize(("optimal", "said"), [(True, "yes"), (False, "no")])
def test_a_critic_that_knows_the_optimum(optimal, said, tmp_path):
    """Individual values that prefer action 2 of both agents, for which penalty pays 10, or 1."""
    settings = {"map": "penalty", "backend": "games", "algorithm": {"name": "fop"}, "threads": 1}
    settings |= {"run_dir": str(tmp_path), "hidden_size": 8, "num_envs": 2}
    with Run(Settings.of(settings)) as run:
        for name, value in run.agent.loss.named_parameters():
            if name.startswith("qvalue_network_params"):
                value.zero_()
            if name.endswith("values.layers.2.bias"):
                value[..., 2 if optimal else 1] = 1.0
            if name.endswith("mixer.key.bias"):
                # Weights of advantages: four heads, each a quarter.
                value.fill_(1.0)
        run.save()
    command = SimpleNamespace(runs=tmp_path.parent)
    row = {"run_dir": tmp_path.name}
    assert program.critic_knows(command, row, "penalty") == said
    assert program.critic_knows(command, row, "guard") == ""


def test_an_unknown_game_is_one_sentence(tmp_path, capsys):
    with pytest.raises(SystemExit):
        program.main(["budget=smoke", "tasks=chess", f"out={tmp_path}"])
    assert "chess is no game with a known answer; valid: coordination" in capsys.readouterr().err
