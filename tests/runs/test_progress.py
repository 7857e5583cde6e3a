"""How a training is watched: lines, a bar, or nothing."""

from __future__ import annotations

import sys

import pytest

from vm3ac_modules.runs._evaluating import said_of
from vm3ac_modules.runs._progress import (
    Progress,
    ProgressBar,
    ProgressLines,
    duration,
    make_progress,
)


def test_a_line_a_minute(capsys):
    now = [0.0]
    with ProgressLines(1000, 100, clock=lambda: now[0]) as progress:
        assert capsys.readouterr().err == "100 of 1,000 steps\n"
        progress.say("return 3.0 +- 0.1")
        for _ in range(4):
            now[0] += 29.0
            progress.update(10)
        # Two lines would be due at the third and the sixth call.
        [line] = capsys.readouterr().err.splitlines()
        assert line == "130 of 1,000 steps, 0 per second, 42:03 left, return 3.0 +- 0.1"
    assert capsys.readouterr().err.startswith("140 of 1,000 steps")


@pytest.mark.parametrize(("seconds", "text"), [(5.9, "0:05"), (61, "1:01"), (3725, "1:02:05")])
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_what_is_asked_for(monkeypatch):
    pytest.importorskip("tqdm")
    assert type(make_progress("off", 10, 0)) is Progress
    assert type(make_progress("lines", 10, 0)) is ProgressLines
    assert type(make_progress("bar", 10, 0)) is ProgressBar
    for watched, kind in ((True, ProgressBar), (False, ProgressLines)):
        monkeypatch.setattr(sys.stderr, "isatty", lambda watched=watched: watched, raising=False)
        assert type(make_progress("auto", 10, 0)) is kind


def test_off_says_nothing(capsys):
    with make_progress("off", 10, 0) as progress:
        progress.update(3)
        progress.say("return")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({}, "return 12.3 +- 0.5"),
        ({"mi_upper_bound": 0.254}, "return 12.3 +- 0.5, MI 0.25 nats"),
        ({"mutual_information": float("nan")}, "return 12.3 +- 0.5"),
        ({"win_rate": 0.5}, "win rate 0.50, return 12.3 +- 0.5"),
        ({"win_rate": 0.5, "greedy_win_rate": 1.0}, "win rate 0.50 (greedy 1.00), return 12.3"),
        ({"best_response_value": 0.71}, "against the best response 0.710, return 12.3"),
    ],
)
def test_an_evaluation_in_a_few_words(row, said):
    assert said_of({"return_mean": 12.3, "return_ci95": 0.5, **row}).startswith(said)
