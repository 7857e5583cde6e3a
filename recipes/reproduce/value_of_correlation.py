"""The value of correlation: ``vm3ac reproduce value_of_correlation`` is the same program."""

import sys

from vm3ac_modules.cli.reproduce.value_of_correlation import main

if __name__ == "__main__":
    main(sys.argv[1:], "python recipes/reproduce/value_of_correlation.py")
