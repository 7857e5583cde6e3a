"""Optional dependencies, named by the extra that installs them."""

from __future__ import annotations

from importlib.util import find_spec

__all__ = ["require_extra"]


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
