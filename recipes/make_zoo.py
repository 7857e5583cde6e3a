"""Make the trained agents of the package (zoo/<name>): train, pack, evaluate.

    python recipes/make_zoo.py [names=guard,predator_prey_2] [runs=runs/zoo_runs] [out=zoo]

A run that has a checkpoint already is packed as it is. The package's own entries lie in
vm3ac_modules/runs/trained; out=vm3ac_modules/runs/trained replaces them. The five take about forty
CPU minutes.
"""

import subprocess
import sys
from pathlib import Path

from vm3ac_modules.runs import has_checkpoint

# The settings of loop=demo, one thread. Sizes are what a CPU can do, not what is best.
DEMO = "loop=demo threads=1 replay_checkpoint_bytes=0"
# What the program `vm3ac reproduce value_of_correlation budget=cpu` trains.
GUARD = (
    "task.env.num_modes=4 task.env.num_agents=2 task.env.width=0.3 algorithm.latent_dim=4 "
    "num_envs=64 updates_per_step=1 batch_size=128 buffer_size=1280 hidden=[64,64] lr=1e-3 "
    "frames=64000 eval_every_frames=8000 eval_episodes=1024 threads=1 replay_checkpoint_bytes=0"
)
ENTRIES = {
    "guard": (
        f"train task=guard algorithm=vm3ac_tight {GUARD}",
        "Two agents meet at one of four modes, against a guard who stands where they meet most.",
        1024,
    ),
    "predator_prey_2": (
        f"train {DEMO} task=predator_prey_2 algorithm=vm3ac",
        "Two predators catch preys that stand still.",
        100,
    ),
    "predator_prey_4": (
        f"train {DEMO} task=predator_prey_4 algorithm=vm3ac algorithm.beta=0.02 frames=128064 "
        "algorithm.share_params=true task.agent_index=true information_rows=16",
        "Four predators with one network; a prey needs two of them at once.",
        100,
    ),
    "cooperative_navigation_3": (
        f"train {DEMO} task=cooperative_navigation_3 algorithm=vm3ac frames=65792 "
        "information_rows=16",
        "Three agents cover three landmarks.",
        100,
    ),
    "battle_3m": (
        "battle algorithm=fop_cpu map=3m reward=sparse frames=67102 eval_every_frames=15000 "
        "threads=1 replay_checkpoint_bytes=0",
        "Three marines against three, on SMAX; FOP, a baseline, which has no latent.",
        64,
    ),
}
VM3AC = [sys.executable, "-m", "vm3ac_modules.cli.main"]


def make(name: str, runs: Path, out: Path) -> None:
    """Train an entry unless its run is finished, and pack it."""
    words, about, episodes = ENTRIES[name]
    run_dir = runs / name
    if not has_checkpoint(run_dir):
        subprocess.run([*VM3AC, *words.split(), f"run_dir={run_dir}"], check=True)
    said = [f"out={out / name}", f"episodes={episodes}", f"about={about}"]
    subprocess.run([*VM3AC, "pack", str(run_dir), *said], check=True)


def main(arguments: list[str]) -> None:
    """Read key=value arguments, and make what they name."""
    given = {"names": ",".join(ENTRIES), "runs": "runs/zoo_runs", "out": "zoo"}
    for text in arguments:
        key, separator, value = text.partition("=")
        if not separator or key not in given:
            sys.exit(f"{text!r} is no option; valid: {', '.join(given)} (key=value).")
        given[key] = value
    names = given["names"].split(",")
    if unknown := [name for name in names if name not in ENTRIES]:
        sys.exit(f"no entry {', '.join(unknown)}; valid: {', '.join(ENTRIES)}.")
    for name in names:
        make(name, Path(given["runs"]), Path(given["out"]))


if __name__ == "__main__":
    main(sys.argv[1:])
