"""VMAS, an optional extra, imported without a notice of its dependency."""

from __future__ import annotations

import contextlib
import importlib
import io
from functools import cache
from types import ModuleType

from vm3ac_modules.extras import require_extra


@cache
def load_vmas() -> ModuleType:
    """Import VMAS without the notice that its dependency gym prints."""
    require_extra("vmas", "vmas", "a VMAS environment")
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        return importlib.import_module("vmas")
