"""Which SMAC is installed, if any, and what its table of maps says."""

from __future__ import annotations

import sys

import pytest

from vm3ac_modules.envs import make_smac_env

ACTION = ("agents", "action")
PACKAGE = """
from vm3ac_modules.testing import SMACStub

class StarCraft2Env(SMACStub):
    def __init__(self, map_name, seed, num_agents=3):
        {"3m": 60, "6h_vs_8z": 150}[map_name]  # as SMAC looks a map up
        super().__init__(seed=seed, num_agents=num_agents)
"""


@pytest.mark.parametrize(("backend", "map_name"), [("smac", "3m"), ("smacv2", "terran_5_vs_5")])
def test_a_missing_game_is_explained(backend, map_name, monkeypatch):
    monkeypatch.setattr(sys, "path", [p for p in sys.path if "site-packages" not in p])
    monkeypatch.delitem(sys.modules, backend, raising=False)
    with pytest.raises(ImportError, match=rf"PyPI does not have it.*oxwhirl/{backend}\.git"):
        make_smac_env(map_name, backend)


def test_the_wrong_smac_is_recognized(tmp_path, monkeypatch):
    (tmp_path / "smac" / "main").mkdir(parents=True)
    (tmp_path / "smac" / "__init__.py").touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "smac", raising=False)
    with pytest.raises(ImportError, match=r"AutoML optimizer.*pip uninstall smac, then pip ins"):
        make_smac_env("3m")
    sys.modules.pop("smac", None)


def test_the_right_smac_is_used(tmp_path, monkeypatch):
    folder = tmp_path / "smac" / "env" / "starcraft2"
    folder.mkdir(parents=True)
    (tmp_path / "smac" / "__init__.py").touch()
    (folder / "__init__.py").touch()
    (folder.parent / "__init__.py").write_text(PACKAGE)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    env = make_smac_env("3m", "smac", seed=0, num_agents=2)
    assert env.rollout(2)[ACTION].shape == (1, 2, 2)
    with pytest.raises(ValueError, match=r"'6h_vs_8x' \(did you mean '6h_vs_8z'\?\); avai"):
        make_smac_env("6h_vs_8x", "smac", seed=0)
    with pytest.raises(ValueError, match=r"'terran_5_vs_5': backend='smacv2' .* has it"):
        make_smac_env("terran_5_vs_5", "smac", seed=0)
    with pytest.raises(ValueError, match=r"'num_agent' \(did you mean 'num_agents'\?\)"):
        make_smac_env("3m", "smac", seed=0, num_agent=2)
    for name in [name for name in sys.modules if name.partition(".")[0] == "smac"]:
        monkeypatch.delitem(sys.modules, name)
