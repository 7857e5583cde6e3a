"""The table of the falsifier's power is measured, and the page shows the file that was written."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest

pytest.importorskip("hypothesis")

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "recipes" / "benchmarks"))

import falsifier  # noqa: E402

from vm3ac_modules.testing import WRONG_BOUNDS  # noqa: E402


def test_a_small_run_writes_its_table(tmp_path, capsys):
    falsifier.main([f"out={tmp_path}", "searches=2", "max_examples=30"])
    with (tmp_path / "power.csv").open() as file:
        rows = {row["mistake"]: row for row in csv.DictReader(file)}
    assert set(WRONG_BOUNDS) < set(rows)
    nan, small = rows["NaN"], rows["0.0005 nats too large"]
    assert (nan["caught"], nan["games_median"], nan["shown"]) == ("2/2", "1", "1.000")
    assert (small["caught"], small["games_most"], small["shown"]) == ("0/2", "", "0.000")
    printed = capsys.readouterr().out
    assert "| NaN | 2/2 | 1 | 1 | 1.000 | 2/2 |" in printed
    assert "300 games, " in printed


def test_the_page_shows_the_file():
    page = (ROOT / "docs" / "falsifier.md").read_text()
    with (ROOT / "docs" / "results" / "falsifier" / "power.csv").open() as file:
        rows = [list(row.values()) for row in csv.DictReader(file)]
    assert len(rows) > len(WRONG_BOUNDS)
    for row in rows:
        assert f"| {' | '.join(value or '-' for value in row)} |" in page


def test_every_mistake_with_a_name_is_caught_by_every_search():
    with (ROOT / "docs" / "results" / "falsifier" / "power.csv").open() as file:
        rows = {row["mistake"]: row["caught"] for row in csv.DictReader(file)}
    assert {rows[name] for name in WRONG_BOUNDS} == {"20/20"}
