"""The command line in process: a stub stands where a run is trained."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from vm3ac_modules.runs import Settings, to_yaml


@dataclass
class Said:
    """What the command line came to."""

    code: int
    out: str
    err: str
    jobs: list[Settings] = field(default_factory=list)

    @property
    def job(self) -> Settings:
        """The only job."""
        [job] = self.jobs
        return job


SUMMARY = {
    "algorithm": "a",
    "task": "t",
    "eval_return_mean": 1.0,
    "eval_return_ci95": 0.5,
    "random_return_mean": 0.0,
    "frames": 10,
    "updates": 2,
    "wall_seconds": 3.0,
}


@pytest.fixture
def say(tmp_path, monkeypatch, capsys):
    """Give arguments to ``vm3ac train`` (or another main), with a loop that only takes notes.

    A job leaves its ``config.yaml`` behind, as a run does. ``fails`` refuses some of them.
    """
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, main=None, fails=lambda settings: False) -> Said:
        from vm3ac_modules.cli.training import train_main

        said = Said(0, "", "")

        def loop(settings):
            said.jobs.append(settings)
            if fails(settings):
                raise RuntimeError("this job fails")
            place = Path(settings.training.run_dir)
            place.mkdir(parents=True, exist_ok=True)
            (place / "config.yaml").write_text(to_yaml(settings.to_dict()))
            return SUMMARY

        monkeypatch.setattr(sys, "argv", list(sys.argv))
        capsys.readouterr()
        try:
            (main or train_main)(list(arguments), loop=loop)
        except SystemExit as ended:
            said.code = ended.code if isinstance(ended.code, int) else 1
        said.out, said.err = capsys.readouterr()
        return said

    return run
