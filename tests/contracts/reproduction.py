"""Commands of vm3ac reproduce, and what a training leaves for them."""

from __future__ import annotations

import csv
from pathlib import Path

from vm3ac_modules.cli.reproduce import _results as results
from vm3ac_modules.files import write_json
from vm3ac_modules.runs.record import write_config

TINY = ("--budget", "smoke", "--tasks", "predator_prey_2", "--seeds", "1")
PAIR = (*TINY[:-1], "2", "frames=128")
TWO = ("--algorithms", "vm3ac,ma_sac")


def table(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def arguments(command):
    return dict(text.split("=", 1) for text in command[4:])


def fake(given, *, finished=True, log=None, **measures):
    """The run directories of a training, ``run_dir/seed_<k>`` each if there are several seeds.

    ``log`` is another ``eval.csv``, and ``measures`` are further entries of the summaries.

    As in a real training the summaries appear whole: with two jobs the rows of one are collected
    while the other writes.
    """
    first, count = int(given["seed"]), int(given.get("seeds", 1))
    for seed in range(first, first + count):
        place = Path(given["run_dir"]) / (f"seed_{seed}" if count > 1 else "")
        place.mkdir(parents=True, exist_ok=True)
        write_config(place / "config.yaml", {"seed": 0})
        final = 10.0 * seed + (5 if given["algorithm"] == "vm3ac" else 0)
        rows = [f"{frame},{final * frame / 256}\n" for frame in (0, 128, 256)]
        (place / "eval.csv").write_text(log or "frame,return_mean\n" + "".join(rows))
        summary = {name: given.get(name, 1) for name in results.COLUMNS}
        summary |= {"eval_return_mean": final, "eval_return_ci95": 1.0, "seed": seed}
        summary |= {"frames": 256, "versions": {"torch": "2"}, "git_commit": None, **measures}
        if finished:
            write_json(place / "summary.json", summary)
    if count > 1 and finished:
        write_json(Path(given["run_dir"]) / "summary.json", {"seeds": count})
