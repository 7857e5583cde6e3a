"""Figure 4: ``vm3ac reproduce figure4`` is the same program."""

import sys

from vm3ac_modules.cli.reproduce.figure4 import main

if __name__ == "__main__":
    main(sys.argv[1:], "python recipes/reproduce/figure4.py")
