"""Figure 5: where four predators are five steps after they all started at the center.

    python recipes/reproduce/figure5.py --budget cpu [key=value]

``vm3ac reproduce figure5`` is the same program; ``--help`` says what it makes.
"""

import sys

from vm3ac_modules.cli.reproduce.figure5 import main

if __name__ == "__main__":
    main(sys.argv[1:], "python recipes/reproduce/figure5.py")
