"""Algorithms of other installed packages."""

from __future__ import annotations

from importlib import metadata

import pytest

from vm3ac_modules.algorithms import Preset, find_preset, presets, registry


@pytest.fixture
def installed(monkeypatch):
    """Pretend that a package with one entry point is installed."""
    mine = Preset(presets("continuous")["ma_sac"].options, "mine")

    def install(name):
        entry = metadata.EntryPoint(name, "mine:PRESET", registry.ENTRY_POINTS)
        monkeypatch.setattr(metadata.EntryPoint, "load", lambda self: mine)
        monkeypatch.setattr(metadata, "entry_points", lambda group: [entry])
        registry._own.cache_clear()

    yield install
    monkeypatch.undo()
    registry._own.cache_clear()


def test_an_entry_point_is_an_algorithm(installed):
    installed("my_sac")
    assert find_preset("my_sac", "continuous").about == "mine"
    assert "vm3ac" in presets("continuous")


def test_an_entry_point_takes_no_name_that_exists(installed):
    installed("vm3ac")
    with pytest.raises(ValueError, match="mine:PRESET: there is an algorithm 'vm3ac' already"):
        presets("continuous")
