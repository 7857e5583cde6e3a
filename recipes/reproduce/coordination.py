"""Is there coordination, and does it matter? Information, the latent's share, and an intervention.

    python recipes/reproduce/coordination.py --budget cpu [key=value]

``vm3ac reproduce coordination`` is the same program; ``--help`` says what it makes.
"""

import sys

from vm3ac_modules.cli.reproduce.coordination import main

if __name__ == "__main__":
    main(sys.argv[1:], "python recipes/reproduce/coordination.py")
