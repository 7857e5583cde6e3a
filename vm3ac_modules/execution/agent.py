"""The former place of :mod:`vm3ac_modules.execution.runtime.agent`, which it runs."""

from __future__ import annotations

import sys

from vm3ac_modules.execution.runtime.agent import main

__all__: list[str] = []

if __name__ == "__main__":
    sys.stderr.write("It is python -m vm3ac_modules.execution.runtime.agent now.\n")
    main()
