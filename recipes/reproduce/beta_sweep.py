"""The sweep over beta: ``vm3ac reproduce beta_sweep`` is the same program."""

import sys

from vm3ac_modules.cli.reproduce.beta_sweep import main

if __name__ == "__main__":
    main(sys.argv[1:], "python recipes/reproduce/beta_sweep.py")
