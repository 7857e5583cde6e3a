"""Optional dependencies, named by the extra that installs them."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from importlib.util import find_spec

__all__ = ["require_extra", "require_version"]


def require_extra(module: str, extra: str, feature: str) -> None:
    """Check that an optional dependency is installed.

    Args:
        module: the module that must be importable.
        extra: the extra of this package that installs it.
        feature: what needs it, for the message.

    Raises:
        ImportError: names the extra to install.

    Example:
        >>> from vm3ac_modules.extras import require_extra
        >>> require_extra("torch", "core", "everything")
    """
    if find_spec(module) is None:
        raise ImportError(
            f"{feature} needs the package {module!r}, which is not installed: "
            f"pip install 'vm3ac-modules[{extra}]'"
        )


def require_version(
    package: str,
    least: str,
    below: str,
    feature: str,
    fix: str,
    version: Callable[[str], str] = metadata.version,
) -> None:
    """Check that an optional dependency is installed in a version that fits.

    Args:
        package: its name.
        least: the first version that fits.
        below: the first that does not.
        feature: what needs it, for the message.
        fix: what to do, for the message.
        version: tells the version of an installed package.

    Raises:
        ImportError: if there is none, or another one; says what to do.

    Example:
        >>> require_version("torch", "2.8", "4", "everything", "install it")
        >>> require_version("torch", "1", "2", "all", "get 1.9", version=lambda name: "2.0.1")
        Traceback (most recent call last):
        ...
        ImportError: all needs torch>=1,<2, not 2.0.1: get 1.9
    """
    wanted = f"{package}>={least},<{below}"
    try:
        found = version(package)
    except metadata.PackageNotFoundError:
        raise ImportError(f"{feature} needs {wanted}, which is not installed: {fix}") from None
    if not _numbers(least) <= _numbers(found) < _numbers(below):
        raise ImportError(f"{feature} needs {wanted}, not {found}: {fix}")


def _numbers(version: str) -> tuple[int, ...]:
    """Leading numbers of a version: 1.5.2rc1+cpu is 1, 5."""
    parts = version.split("+")[0].split(".")
    end = next((k for k, part in enumerate(parts) if not part.isdigit()), len(parts))
    return tuple(int(part) for part in parts[:end])
