"""The falsifier as a fixture of pytest, found by pytest itself once the package is installed.

pytest imports this file at the start of every run, so nothing heavy is imported before a test asks
for the fixture: no torch, no hypothesis.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

__all__ = ["valid_lower_bound"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--bound-examples`` and ``--bound-coverage``."""
    group = parser.getgroup("vm3ac_modules", "bounds of mutual information")
    group.addoption(
        "--bound-examples",
        type=int,
        default=None,
        metavar="N",
        help="games that the fixture valid_lower_bound tries, where a test does not say",
    )
    group.addoption(
        "--bound-coverage",
        action="store_true",
        help="tell at the end how much information the games of valid_lower_bound have",
    )


@pytest.fixture
def valid_lower_bound(request: pytest.FixtureRequest) -> Callable[..., None]:
    """The falsifier of bounds: ``valid_lower_bound(my_bound)`` fails with a small game.

    Takes what :func:`vm3ac_modules.testing.assert_valid_lower_bound` takes.

    Args:
        request: given by pytest.

    Returns:
        The function to call.
    """
    from vm3ac_modules.testing import assert_valid_lower_bound

    examples: int | None = request.config.getoption("--bound-examples")

    def check(bound: Callable[[Any], Any], **options: Any) -> None:
        # The shrunk game is the message: the search's own frames say nothing.
        __tracebackhide__ = True
        if examples is not None:
            options.setdefault("max_examples", examples)
        request.config.stash[_SEARCHES].append((options.get("games"), options.get("max_examples")))
        assert_valid_lower_bound(bound, **options)

    return check


_SEARCHES: pytest.StashKey[list[tuple[Any, int | None]]] = pytest.StashKey()


def pytest_configure(config: pytest.Config) -> None:
    """Keep a record of what is searched."""
    config.stash[_SEARCHES] = []


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Tell what was covered, if ``--bound-coverage`` asks for it."""
    searches = config.stash[_SEARCHES]
    if not config.getoption("--bound-coverage") or not searches:
        return
    from vm3ac_modules.testing import covered_information

    terminalreporter.section("games of valid_lower_bound")
    for games, examples in dict.fromkeys(searches):
        options = {} if examples is None else {"max_examples": examples}
        terminalreporter.write_line(str(covered_information(games, **options)))
