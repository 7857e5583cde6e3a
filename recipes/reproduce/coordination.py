"""Coordination: ``vm3ac reproduce coordination`` is the same program."""

import sys

from vm3ac_modules.cli.reproduce.coordination import main

if __name__ == "__main__":
    main(sys.argv[1:], "python recipes/reproduce/coordination.py")
