"""Write one file per agent of a trained run, for execution without the others and without torch.

    python recipes/export_agents.py runs/demo --format onnx

writes runs/demo/agents/synchronized/agent_0.onnx, agent_1.onnx, ... Each holds the actor of that
agent alone, the source of its latent, its action bounds, and a record of names, shapes, units,
versions and the checkpoint's hash:

    python -m vm3ac_modules.execution.runtime.agent runs/demo/agents/synchronized/agent_0.onnx

--latent says where the agents have their latent from:

    synchronized  computed from seed, episode and step: agents with one clock agree without talking
    mean          E[z] for ever: needs no clock (Appendix H); refused for a categorical latent
    constant      one agreed outcome for ever, the most probable one of a categorical latent
    given         an input of the program
    none          the policy has no latent

Every file is then run beside the joint policy on the run's own task; a difference above 1e-5 is an
error, and the files are not put in place. The largest one is printed and written to
parity_<format>.json beside the files.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import torch
from command_line import fail

from vm3ac_modules.execution.export.agents import TeamPolicy, export_agents
from vm3ac_modules.execution.export.latent_source import LatentInput
from vm3ac_modules.execution.export.parity import TOLERANCE, largest_difference
from vm3ac_modules.execution.runtime.agent_file import FORMATS, AgentFileError
from vm3ac_modules.files import write_json
from vm3ac_modules.learning import evaluation_seed
from vm3ac_modules.runs import CheckpointError, TrainedAgent, checkpoint_identity, load_agent

ROWS, STEPS = 16, 20


def policy_of(trained: TrainedAgent) -> Any:
    """The policy to be executed: without exploration."""
    return trained.agent.greedy if trained.plays_battles else trained.agent.policy


def default_latent(trained: TrainedAgent) -> LatentInput:
    """Where agents have their latent from if nothing is said."""
    return TeamPolicy.of(policy_of(trained)).default_source()


def export(
    run_dir: Path, trained: TrainedAgent, kind: Any, latent: LatentInput, folder: Path
) -> float:
    """Write the files of all agents and compare them with the joint policy.

    Args:
        run_dir: directory of the run.
        trained: its agent.
        kind: format of the files.
        latent: source of the latent.
        folder: where they go.

    Returns:
        The largest difference.
    """
    identity = checkpoint_identity(run_dir)
    if identity["frame"] != trained.frame:
        raise CheckpointError(
            f"{run_dir} wrote a checkpoint while it was read (frame {trained.frame}, now "
            f"{identity['frame']}): export when the training is over."
        )
    about = {
        "algorithm": trained.agent.algorithm,
        "task": trained.task,
        "checkpoint": identity,
    }
    policy, seed = policy_of(trained), evaluation_seed(trained.config["seed"])
    env = trained.make_env(ROWS, seed=seed)
    options = {"latent": latent, "seed": seed, "steps": STEPS, "keys": trained.agent.keys}
    folder.mkdir(parents=True, exist_ok=True)
    # What fails or is killed half way leaves nothing where agents are looked for.
    with tempfile.TemporaryDirectory(prefix=".tmp_", dir=folder) as place:
        paths = export_agents(policy, place, format=kind, latent=latent, about=about)
        found = largest_difference(policy, env, paths, **options)
        if not found <= TOLERANCE:
            raise AgentFileError(
                f"{folder}: the exported agents differ from the joint policy by {found:.2g}, more "
                f"than {TOLERANCE:g}; they are not put in place."
            )
        for path in paths:
            os.replace(path, folder / path.name)
    compared = {"largest_difference": found, "tolerance": TOLERANCE, "rows": ROWS, "steps": STEPS}
    write_json(folder / f"parity_{kind}.json", {"format": kind, "latent": latent, **compared})
    return found


def run(args: argparse.Namespace) -> None:
    """Load, export, compare, print."""
    # The run's own complaint about a missing checkpoint, before anything is built.
    checkpoint_identity(args.run_dir)
    trained = load_agent(args.run_dir)
    latent = default_latent(trained) if args.latent is None else args.latent
    folder = args.run_dir / "agents" / latent if args.out is None else args.out
    found = export(args.run_dir, trained, args.format, latent, folder)
    suffix = FORMATS[args.format]
    number = TeamPolicy.of(policy_of(trained)).num_agents
    print(f"{number} agents of {trained.agent.algorithm} on {trained.task}, latent {latent}:")
    for agent in range(number):
        path = folder / f"agent_{agent}{suffix}"
        print(f"  {path}  {path.stat().st_size / 1000:.0f} kB")
    print(f"largest difference from the joint policy: {found:.1e} ({ROWS} rows, {STEPS} steps)")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run_dir", type=Path, help="directory of a run")
    parser.add_argument(
        "--format", choices=list(FORMATS), default="torch", help="format (default torch)"
    )
    parser.add_argument(
        "--latent", choices=get_args(LatentInput), help="source of the latent (see above)"
    )
    parser.add_argument("--out", type=Path, help="directory of the files")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and export."""
    args = parse(arguments)
    torch.set_num_threads(1)
    try:
        run(args)
    except (CheckpointError, AgentFileError, ValueError, ImportError) as error:
        fail(str(error))


if __name__ == "__main__":
    main()
