"""``make check``: which tests a change brings."""

from __future__ import annotations

import csv
from pathlib import Path

import check
import pytest

ROOT = Path(__file__).parents[1]


def files(*names):
    return [ROOT / name for name in names]


@pytest.mark.parametrize(
    ("changed", "own", "neighbour"),
    [
        (
            "vm3ac_modules/nn/mixers.py",
            ["vm3ac_modules/nn/mixers.py", "tests/nn/test_mixers.py"],
            "tests/nn/test_blocks.py",
        ),
        (
            "vm3ac_modules/runs/_machine.py",
            ["vm3ac_modules/runs/_machine.py", "tests/runs/test_machine.py"],
            "tests/runs/test_directory.py",
        ),
        (
            "vm3ac_modules/envs/battles/smaclite_maps.py",
            ["vm3ac_modules/envs/battles/smaclite_maps.py"],
            "tests/envs/battles/test_smaclite.py",
        ),
        ("recipes/benchmarks/soak.py", ["tests/recipes/test_soak.py"], None),
        ("tests/nn/test_blocks.py", ["tests/nn/test_blocks.py"], None),
        ("README.md", [], None),
    ],
)
def test_a_change_brings_its_own_test_and_its_neighbours(changed, own, neighbour):
    must, may = check.wanted(files(changed))
    always = [check.TESTS / name for name in check.ALWAYS]
    assert must == [*always, *files(*own)]
    assert neighbour is None or ROOT / neighbour in may
    assert not set(must) & set(may)


def test_shared_parts_of_tests_bring_those_that_import_them():
    _, may = check.wanted(files("tests/contracts/base_contract.py"))
    # By way of loss_contract.py, which imports it.
    assert ROOT / "tests/objectives/test_actor_critic_contract.py" in may
    assert ROOT / "tests/nn/test_blocks.py" not in may


def test_the_budget_takes_the_cheapest_neighbours(monkeypatch):
    known = {f"tests/nn/test_{name}.py": cost for name, cost in (("blocks", 1), ("actors", 3))}
    monkeypatch.setattr(check, "costs", lambda: known)
    monkeypatch.setattr(check, "UNKNOWN", 100.0)
    must, may = [ROOT / "tests/nn/test_mixers.py"], [ROOT / name for name in known]
    monkeypatch.setattr(check, "wanted", lambda changed: (must, may))
    # The change's own tests run whatever they cost.
    for seconds, left in ((101, 1), (104, 0), (0, 2)):
        run, out = check.chosen([], seconds)
        assert run[0] == "tests/nn/test_mixers.py"
        assert len(out) == left
        assert left != 1 or run[1:] == ["tests/nn/test_blocks.py"]


def test_what_is_measured_is_there():
    with check.COSTS.open(newline="") as file:
        names = [row["file"] for row in csv.DictReader(file)]
    assert names
    assert [name for name in names if not (ROOT / name).is_file()] == []
