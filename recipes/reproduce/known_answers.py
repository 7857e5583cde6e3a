"""Known answers: ``vm3ac reproduce known_answers`` is the same program."""

import sys

from vm3ac_modules.cli.reproduce.known_answers import main

if __name__ == "__main__":
    main(sys.argv[1:], "python recipes/reproduce/known_answers.py")
