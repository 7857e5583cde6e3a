"""Settings of battles: ``vm3ac reproduce battle_settings`` is the same program."""

import sys

from vm3ac_modules.cli.reproduce.battle_settings import main

if __name__ == "__main__":
    main(sys.argv[1:], "python recipes/reproduce/battle_settings.py")
