"""Figure 3: VM3-AC against its baselines on the eight continuous tasks, learning curves over seeds.

    python recipes/reproduce/figure3.py --budget cpu [key=value]

``vm3ac reproduce figure3`` is the same program; ``--help`` says what it makes.
"""

import sys

from vm3ac_modules.cli.reproduce.figure3 import main

if __name__ == "__main__":
    main(sys.argv[1:], "python recipes/reproduce/figure3.py")
