"""CPU seconds of every test file, by a plugin: what ``make check`` chooses by.

    python -m pytest -n 0 -p cpu_seconds -m "not slow" tests/runs tests/nn

It writes the files that were run to docs/results/suite/cpu_seconds.csv, in place of their
former rows. A file's seconds are those of this process and of the children it waited for, with
fixtures; what tests share is counted where it was made first.
"""

from __future__ import annotations

import csv
import os
from collections import Counter
from pathlib import Path

import pytest

COSTS = Path(__file__).resolve().parents[1] / "docs" / "results" / "suite" / "cpu_seconds.csv"
_seconds: Counter[str] = Counter()
_tests: Counter[str] = Counter()


def _spent() -> float:
    return sum(os.times()[:4])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Count a test with its fixtures."""
    before = _spent()
    try:
        return (yield)
    finally:
        name = item.nodeid.partition("::")[0]
        _seconds[name] += _spent() - before
        _tests[name] += 1


def pytest_sessionfinish(session):
    """Replace the rows of the files that were run."""
    rows = {}
    if COSTS.exists():
        with COSTS.open(newline="") as file:
            rows = {row["file"]: row for row in csv.DictReader(file)}
    for name, seconds in _seconds.items():
        if name.startswith("tests/"):
            row = {"file": name, "tests": _tests[name], "cpu_seconds": f"{seconds:.1f}"}
            rows[name] = row
    with COSTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["file", "tests", "cpu_seconds"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows[name] for name in sorted(rows))
