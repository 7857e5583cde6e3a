"""The games that SMACEnv plays: what it asks of one, and where StarCraft's come from."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from typing import Any, Protocol

BACKENDS = ("smac", "smacv2")


class SMACGame(Protocol):
    """What is asked of a game: the methods of SMAC's ``MultiAgentEnv``."""

    def get_env_info(self) -> dict[str, Any]:
        """Has ``n_agents``, ``n_actions``, ``obs_shape``, ``state_shape``, ``episode_limit``."""

    def reset(self) -> Any:
        """Start an episode."""

    def step(self, actions: list[int]) -> tuple[float, bool, dict[str, Any]]:
        """Reward, whether the episode is over, and ``battle_won``, ``dead_allies``, ...."""

    def get_obs(self) -> list[Any]:
        """An observation of each agent."""

    def get_state(self) -> Any:
        """The state."""

    def get_avail_actions(self) -> list[Any]:
        """For each agent which actions are legal, as 0 and 1."""

    def close(self) -> None:
        """End the game's process."""


def starcraft(backend: str, **options: Any) -> SMACGame:
    """A game of StarCraft II, which starts with its first reset; says what is not installed."""
    if backend not in BACKENDS:
        raise ValueError(f"make_smac_env: backend must be 'smac' or 'smacv2', got {backend!r}")
    if not _has_game(backend):
        wrong = backend == "smac" and find_spec("smac") is not None
        remedy = "pip uninstall smac, then " if wrong else ""
        what = (
            "the installed package 'smac' is PyPI's AutoML optimizer, not the StarCraft challenge"
            if wrong
            else f"{backend!r} is not installed, and PyPI does not have it"
        )
        raise ImportError(
            f"make_smac_env: {what}; {remedy}pip install "
            f'"git+https://github.com/oxwhirl/{backend}.git" (it needs protobuf<3.21 and '
            "StarCraft II: python -m vm3ac_modules.doctor), or take backend 'smax' (SMAXEnv)"
        )
    game: SMACGame = importlib.import_module(f"{backend}.env").StarCraft2Env(**options)
    return game


def _has_game(backend: str) -> bool:
    try:
        return find_spec(f"{backend}.env.starcraft2") is not None
    except ImportError:
        # Raised where a package of this name has no such subpackage.
        return False
