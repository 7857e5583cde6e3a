"""A scenario's file that cannot be read stops no other task, and is named where it matters."""

from __future__ import annotations

import sys

import pytest

import vm3ac_modules.envs.vmas.scenarios as scenarios
from vm3ac_modules.envs import find_task
from vm3ac_modules.envs.tasks import check_task, own_tasks

RULE = "TASKS must be a literal that maps each task's name to its options"
BROKEN = {
    "TASKS = {f'meet_{n}': {'max_steps': 9} for n in (2, 3)}\n": RULE,
    "TASKS = {'meet_2': {'num_agents': 2}}\n": RULE,
    "TASKS = ['meet_2']\n": RULE,
    "TASKS: dict = {[]: {}}\n": RULE,
    "class Meet(:\n": "line 1: invalid syntax",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder whose files are scenarios, besides those of the package."""
    monkeypatch.setattr(scenarios, "__path__", [*scenarios.__path__, str(tmp_path)])
    own_tasks.cache_clear()
    yield tmp_path
    own_tasks.cache_clear()


@pytest.mark.parametrize(("text", "rule"), BROKEN.items())
def test_a_file_that_cannot_be_read_is_named_and_left_out(folder, text, rule):
    (folder / "meet.py").write_text(text)
    with pytest.warns(UserWarning, match=f"left out: .*meet.py.*{rule}"):
        assert find_task("guard").max_steps == 1
    with pytest.raises(ValueError, match=rf"unknown task 'meet_2'.*meet\.py.*{rule}"):
        check_task("meet_2")


def test_tasks_may_have_a_type(folder):
    (folder / "meet.py").write_text("TASKS: dict = {'meet_2': {'max_steps': 9, 'n': 2}}\n")
    assert (find_task("meet_2").max_steps, find_task("meet_2").options) == (9, {"n": 2})


@pytest.mark.parametrize("names", ["", "__all__ = []\n", "__all__ = ['Meet']\n"])
def test_a_file_without_a_scenario_is_named(folder, names):
    pytest.importorskip("vmas")
    (folder / "meet.py").write_text(names + "TASKS = {'meet_2': {'max_steps': 9}}\n")
    with pytest.raises(ValueError, match=r"meet\.py: the first name of __all__ must be"):
        find_task("meet_2").make(1)
    sys.modules.pop("vm3ac_modules.envs.vmas.scenarios.meet", None)
