"""Figure 6: what the latent and the temperature beta do for VM3-AC on multi-walker, N = 3 and 4.

    python recipes/reproduce/figure6.py --budget cpu [key=value]

``vm3ac reproduce figure6`` is the same program; ``--help`` says what it makes.
"""

import sys

from vm3ac_modules.cli.reproduce.figure6 import main

if __name__ == "__main__":
    main(sys.argv[1:], "python recipes/reproduce/figure6.py")
