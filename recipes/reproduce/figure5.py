"""Figure 5: ``vm3ac reproduce figure5`` is the same program."""

import sys

from vm3ac_modules.cli.reproduce.figure5 import main

if __name__ == "__main__":
    main(sys.argv[1:], "python recipes/reproduce/figure5.py")
