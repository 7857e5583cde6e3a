"""VMAS, an optional extra, imported without a notice of its dependency."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
from functools import cache
from types import ModuleType

from vm3ac_modules.extras import require_extra

LOG = logging.getLogger("vm3ac_modules")


@cache
def load_vmas() -> ModuleType:
    """Import VMAS without the notice that its dependency gym prints."""
    require_extra("vmas", "vmas", "a VMAS environment")
    LOG.info("VMAS is imported, which is licensed under the GPL-3.0 (SECURITY.md).")
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        return importlib.import_module("vmas")
