"""The versions of BenchMARL that the algorithms here fit."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata

__all__ = ["require_benchmarl"]

LEAST, BELOW = (1, 5, 2), (1, 6)


def require_benchmarl(version: Callable[[str], str] = metadata.version) -> None:
    """Check that a BenchMARL is installed that the algorithms here fit.

    Args:
        version: tells the version of an installed package.

    Raises:
        ImportError: if there is none, or another one; says what to do.

    Example:
        >>> require_benchmarl(lambda name: "1.5.2")
        >>> require_benchmarl(lambda name: "1.4.0")
        Traceback (most recent call last):
        ...
        ImportError: vm3ac_modules.integrations.benchmarl fits BenchMARL >=1.5.2,<1.6, not 1.4.0: ...
    """
    how = (
        "in an environment of its own, pip install -c constraints-benchmarl.txt "
        "'vm3ac-modules[benchmarl]' (docs/benchmarl.md)"
    )
    try:
        found = version("benchmarl")
    except metadata.PackageNotFoundError:
        raise ImportError(
            f"vm3ac_modules.integrations.benchmarl needs BenchMARL, which is not installed: {how}."
        ) from None
    numbers = tuple(int(part) for part in found.split(".")[:3] if part.isdigit())
    if not LEAST <= numbers < BELOW:
        wanted = f">={'.'.join(map(str, LEAST))},<{'.'.join(map(str, BELOW))}"
        raise ImportError(
            f"vm3ac_modules.integrations.benchmarl fits BenchMARL {wanted}, not {found}: {how}."
        )
