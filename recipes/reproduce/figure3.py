"""Figure 3: ``vm3ac reproduce figure3`` is the same program."""

import sys

from vm3ac_modules.cli.reproduce.figure3 import main

if __name__ == "__main__":
    main(sys.argv[1:], "python recipes/reproduce/figure3.py")
