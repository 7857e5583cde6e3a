"""The comparison of estimators is measured, and the page shows the files that were written."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("matplotlib")

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "recipes" / "benchmarks"))

import estimators  # noqa: E402


@pytest.fixture(autouse=True)
def _same_threads_after():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def read(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_a_small_run_writes_its_tables(tmp_path, capsys):
    options = ["draws=2,4", "batch_size=8", "batches=105", "updates=1"]
    estimators.main([f"out={tmp_path}", *options])
    rows = read(tmp_path / "estimators.csv")
    assert len(rows) == 2 * len(estimators.NATS) * 7
    assert {row["draws"] for row in rows} == {"2", "4"}
    assert len(read(tmp_path / "cost.csv")) == 2 * len(estimators.ESTIMATORS)
    assert (tmp_path / "estimators.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "| M = 4 | 0.1 |" in printed
    assert "| `barber_agakov` | " in printed


@pytest.mark.parametrize("nats", estimators.NATS)
def test_the_games_have_the_information_that_is_said(nats):
    game = estimators.game_of(nats)
    assert float(game.mutual_information(0, 1)) == pytest.approx(nats, rel=1e-9)


def test_estimates_without_bias_have_none():
    torch.manual_seed(0)
    found = estimates = estimators.estimates(0.5, (200, 64), 8)
    for name in ("Barber-Agakov, exact entropy", "NWJ"):
        error = float(estimates[name].std()) / 200**0.5
        assert abs(float(found[name].mean()) - 0.5) < 5 * error, name
    for name in ("Barber-Agakov, H_M", "InfoNCE", "NWJ, held-out offset"):
        assert float(found[name].mean()) < 0.5, name
    for name in ("Donsker-Varadhan", "CLUB (from above)"):
        assert float(found[name].mean()) > 0.5, name


def test_the_page_says_what_each_estimator_trained():
    page = (ROOT / "docs" / "estimators.md").read_text()
    folder = ROOT / "docs" / "results" / "what_is_rewarded"
    runs = [json.loads((folder / f"estimators_seed{s}.json").read_text()) for s in range(3)]
    for name in estimators.ESTIMATORS[1:]:
        cells = [
            ", ".join(f"{run[f'vm3ac_tight_{name}_{part}_nats']:.2f}" for run in runs)
            for part in ("mi", "trained_bound")
        ]
        assert f"| `{name}` | {' | '.join(cells)} |" in page
        assert min(run[f"vm3ac_tight_{name}_mi_nats"] for run in runs) > 0.5


def numbers(path):
    return [
        {key: text if key == "estimator" else float(text) for key, text in row.items()}
        for row in read(path)
    ]


def test_the_page_shows_the_files():
    page = (ROOT / "docs" / "estimators.md").read_text()
    folder = ROOT / "docs" / "results" / "estimators"
    rows = [{**row, "draws": int(row["draws"])} for row in numbers(folder / "estimators.csv")]
    timed = [{**row, "draws": int(row["draws"])} for row in numbers(folder / "cost.csv")]
    lines = list(estimators.tables(rows, timed))
    assert len(lines) > 20
    assert all(line in page for line in lines)
