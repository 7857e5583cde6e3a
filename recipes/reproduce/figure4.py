"""Figure 4: VM3-AC on FOP against its baselines on StarCraft-like battles, win rates over seeds.

    python recipes/reproduce/figure4.py --budget cpu [key=value]

``vm3ac reproduce figure4`` is the same program; ``--help`` says what it makes.
"""

import sys

from vm3ac_modules.cli.reproduce.figure4 import main

if __name__ == "__main__":
    main(sys.argv[1:], "python recipes/reproduce/figure4.py")
