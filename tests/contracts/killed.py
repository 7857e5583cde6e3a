"""A training that kills itself: at a moment told on the command line, or when told from outside."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading

import torch

from vm3ac_modules.runs import train


def kill() -> None:
    """End as a power cut would."""
    os.kill(os.getpid(), signal.SIGKILL)


def kill_in_save(call: int) -> None:
    """Die at a call of those that write checkpoints, behind half of what it writes.

    Args:
        call: its number, over all calls.
    """
    count = 0

    def dying(function):
        def wrapped(*args, **kwargs):
            nonlocal count
            if count == call:
                target = args[1] if len(args) > 1 else None
                if function is save and hasattr(target, "write"):
                    target.write(b"half of a file")
                    target.flush()
                kill()
            count += 1
            return function(*args, **kwargs)

        return wrapped

    save = torch.save
    torch.save = dying(torch.save)
    os.replace = dying(os.replace)
    os.fsync = dying(os.fsync)


def main() -> None:
    """``killed.py CONFIG SECONDS|CALL how``: train until killed, or to the end."""
    config, moment, how = json.loads(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
    if how == "save":
        kill_in_save(int(moment))
    elif how == "time":
        timer = threading.Timer(moment, kill)
        timer.daemon = True
        timer.start()
    train(config)


if __name__ == "__main__":
    main()
