"""The list of lines that were broken once stays in step with the code."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIST = ROOT / "docs/results/suite/mutations.csv"
ROWS = list(csv.DictReader(LIST.read_text(encoding="utf-8").splitlines(keepends=True)))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["row"])
def test_what_is_broken_stands_once_in_its_file(row):
    assert (ROOT / row["file"]).read_text(encoding="utf-8").count(row["old"]) == 1
    assert (ROOT / row["after"].partition("::")[0]).is_file()
