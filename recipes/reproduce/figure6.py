"""Figure 6: ``vm3ac reproduce figure6`` is the same program."""

import sys

from vm3ac_modules.cli.reproduce.figure6 import main

if __name__ == "__main__":
    main(sys.argv[1:], "python recipes/reproduce/figure6.py")
