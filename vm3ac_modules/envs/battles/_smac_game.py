"""The games that SMACEnv plays: what it asks of one, and where StarCraft's come from."""

from __future__ import annotations

import copy
import importlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np

from vm3ac_modules.envs.battles._maps import unknown_map
from vm3ac_modules.envs.battles.smacv2_maps import FIELDS
from vm3ac_modules.options import check_taken

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
    games = importlib.import_module(f"{backend}.env")
    check_taken(games.StarCraft2Env, options, f"backend={backend!r}")
    try:
        if backend == "smac":
            game: SMACGame = games.StarCraft2Env(**options)
            return game
        return _random_teams(games.StarCraftCapabilityEnvWrapper, **options)
    except KeyError as error:
        # What its table of maps raises; maps that others have entered there are as good.
        name = options.get("map_name")
        if name is None or error.args != (name,):
            raise
        known = FIELDS if backend == "smacv2" else ()
        raise unknown_map(f"backend={backend!r}", name, backend, known=known) from None


def _random_teams(wrapper: Any, *, seed: int, **options: Any) -> SMACGame:
    """SMACv2 with teams and places that are drawn at every reset."""
    if "capability_config" not in options:
        raise ValueError(
            "make_smac_env: SMACv2 draws its teams as a capability_config says, and none was given"
        )
    # The wrapper writes in the configuration that it is given.
    config = copy.deepcopy(options["capability_config"])
    game = wrapper(seed=seed, **{**options, "capability_config": config})
    return SeededTeams(game, seed)


class SeededTeams:
    """SMACv2's wrapper, whose teams come from the game's seed, as its battles do.

    SMACv2 hands its seed to StarCraft II alone. It draws teams and places from generators without
    one, their order from Python's global stream, and what it observes from that and from NumPy's.
    Here all of these come from the seed, and the global streams stay as they are. The teams of an
    episode do not depend on how long the ones before it were. Attacks that may fail (``attack`` in
    the configuration) come from generators that no seed reaches.

    Args:
        game: a ``StarCraftCapabilityEnvWrapper``.
        seed: the seed.
    """

    def __init__(self, game: Any, seed: int) -> None:
        self._game = game
        seeds = np.random.SeedSequence(seed)
        for distribution in game.env_key_to_distribution_map.values():
            _seed_generators(distribution, seeds)
        self._streams = {name: _streams_of(seed) for name in ("teams", "battle")}

    def reset(self) -> Any:
        """Draw teams and places, and start an episode."""
        with self._own_streams("teams"):
            return self._game.reset()

    def step(self, actions: list[int]) -> Any:
        """Go on by the actions."""
        with self._own_streams("battle"):
            return self._game.step(actions)

    def get_obs(self) -> Any:
        """An observation of each agent."""
        with self._own_streams("battle"):
            return self._game.get_obs()

    def get_state(self) -> Any:
        """The state, which SMACv2 can make of observations."""
        with self._own_streams("battle"):
            return self._game.get_state()

    @contextmanager
    def _own_streams(self, name: str) -> Iterator[None]:
        """Put streams of the seed's in the place of Python's and NumPy's global ones."""
        outside = _global_streams()
        _set_global_streams(self._streams[name])
        try:
            yield
        finally:
            self._streams[name] = _global_streams()
            _set_global_streams(outside)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._game, name)


def _streams_of(seed: int) -> tuple[Any, Any]:
    """States of Python's and of NumPy's stream, of a seed."""
    words = np.random.SeedSequence(seed).generate_state(4)
    return random.Random(seed).getstate(), np.random.RandomState(words).get_state()


def _global_streams() -> tuple[Any, Any]:
    return random.getstate(), np.random.get_state()  # noqa: NPY002


def _set_global_streams(streams: tuple[Any, Any]) -> None:
    random.setstate(streams[0])
    np.random.set_state(streams[1])  # noqa: NPY002


def _seed_generators(owner: Any, seeds: np.random.SeedSequence) -> None:
    """Give an object, and what it draws with, generators of a seed."""
    for name, value in vars(owner).items():
        if isinstance(value, np.random.Generator):
            setattr(owner, name, np.random.default_rng(seeds.spawn(1)[0]))
        elif hasattr(value, "generate") and hasattr(value, "__dict__"):
            _seed_generators(value, seeds)


def _has_game(backend: str) -> bool:
    try:
        return find_spec(f"{backend}.env.starcraft2") is not None
    except ImportError:
        # Raised where a package of this name has no such subpackage.
        return False
