"""Table 3: VM3-AC executed with z ~ N(0, I) and with z = E[z], on predator-prey.

    python recipes/reproduce/table3.py --budget cpu [key=value]

``vm3ac reproduce table3`` is the same program; ``--help`` says what it makes.
"""

import sys

from vm3ac_modules.cli.reproduce.table3 import main

if __name__ == "__main__":
    main(sys.argv[1:], "python recipes/reproduce/table3.py")
