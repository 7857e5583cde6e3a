"""A launcher of trainings that only takes notes."""

from __future__ import annotations

import pytest


@pytest.fixture
def launched(monkeypatch):
    """Commands that would be run; each leaves what a training of its seeds leaves."""
    from contracts.reproduction import arguments, fake

    from vm3ac_modules.cli.reproduce import _trainings as runs

    commands = []

    def launch(command, log):
        commands.append(arguments(command))
        fake(commands[-1])

    monkeypatch.setattr(runs, "launch", launch)
    return commands
