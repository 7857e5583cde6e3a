"""A trained team of battles through evaluation, export and processes of its own."""

from __future__ import annotations

import json
from importlib.util import find_spec

import pytest
from contracts.training import BATTLES, configuration

if find_spec("jaxmarl") is None:
    pytest.skip("needs the extra smax", allow_module_level=True)
pytest.importorskip("tensorboard")

from vm3ac_modules.cli import decentralize, evaluate, export, play
from vm3ac_modules.runs import read_csv_log, train


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Directories of runs, trained when they are first asked for."""
    place, known = tmp_path_factory.mktemp("battles"), {}

    def run(algorithm):
        if algorithm not in known:
            known[algorithm] = place / algorithm
            options = {**BATTLES, "run_dir": str(known[algorithm]), "draw": False}
            train(configuration(f"algorithm={algorithm}", tiny=options))
        return known[algorithm]

    return run


def test_a_trained_run_is_evaluated_with_every_latent(runs):
    run = runs("vm3ac")
    evaluate.main([f"run_dir={run}", "episodes=4"])
    written = json.loads((run / "evaluation.json").read_text())
    found, coordination = written["results"], written["coordination"]
    assert list(found) == ["sample", "constant", "synchronized", "independent", "random"]
    assert coordination["exact"]
    assert coordination["mi_lower_bound"] == coordination["mi_upper_bound"]
    assert (run / "evaluation.png").stat().st_size > 0
    assert all(0.0 <= row["battle_won"] <= 1.0 for row in found.values())
    assert written["actions"] == "both"
    for name, row in found.items():
        beside = {"greedy_win_rate", "greedy_return_mean", "policy_entropy", "logit_gap"}
        assert beside & set(row) == (set() if name == "random" else beside)


def test_a_film_plays_as_the_evaluations_do(runs, monkeypatch):
    run, seen = runs("vm3ac"), []
    monkeypatch.setattr(play, "draw_episode", lambda *given, **_: seen.append(given[3]))
    for chosen in ([], ["actions=mean"]):
        play.main([f"run_dir={run}", "format=gif", *chosen])
    drawn, greedy = seen
    last = {name: column[-1] for name, column in read_csv_log(run / "eval.csv").items()}
    # eval.csv has six digits.
    assert drawn.mean == pytest.approx(last["return_mean"], rel=1e-5)
    assert greedy.mean == pytest.approx(last["greedy_return_mean"], rel=1e-5)
    assert drawn.mean != greedy.mean


@pytest.mark.parametrize(("algorithm", "latent"), [("vm3ac", "constant"), ("maven", "given")])
def test_a_trained_run_s_agents_are_exported(runs, algorithm, latent):
    run = runs(algorithm)
    export.main([str(run), f"latent={latent}"])
    folder = run / "agents" / latent
    assert json.loads((folder / "parity_torch.json").read_text())["largest_difference"] <= 1e-5
    assert len(list(folder.glob("agent_*.pt2"))) == 3


def test_a_trained_run_is_executed_by_processes(runs, capsys):
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    run = runs("fop")
    decentralize.main([str(run), "format=onnx", "episodes=3"])
    rows = json.loads((run / "decentralized.json").read_text())["results"]
    # Without a latent there is no clock that could be wrong.
    assert [row["latent"] for row in rows] == [
        *("centralized", "synchronized", "restarted", "dropped")
    ]
    assert rows[0]["difference"] == pytest.approx(0.0, abs=1e-3)
    assert all(0.0 <= row["win_rate"] <= 1.0 for row in rows)
    assert "win rate" in capsys.readouterr().out
