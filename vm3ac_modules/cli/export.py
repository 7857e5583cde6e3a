"""Write one file per agent of a trained run, for execution without the others and without torch.

    vm3ac export run_dir=runs/demo format=onnx

writes runs/demo/agents/synchronized/agent_0.onnx, agent_1.onnx, ... Each holds the actor of that
agent alone, the source of its latent, its action bounds, and a record of names, shapes, units,
versions and the checkpoint's hash:

    python -m vm3ac_modules.execution.runtime.agent runs/demo/agents/synchronized/agent_0.onnx

latent says where the agents have their latent from:

    synchronized  computed from seed, episode and step: agents with one clock agree without talking
    mean          E[z] for ever: needs no clock (Appendix H); refused for a categorical latent
    constant      one agreed outcome for ever, the most probable one of a categorical latent
    given         an input of the program
    none          the policy has no latent

Every file is then run beside the joint policy on the run's own task; a difference above 1e-5 is an
error, and the files are not put in place. The largest one is printed and written to
parity_<format>.json beside the files. Files of an agent of the zoo (run_dir=zoo/<name>) go to
runs/zoo/<name>/agents.
"""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch

from vm3ac_modules.cli.arguments import program
from vm3ac_modules.envs.carried import affine_observation
from vm3ac_modules.execution.export._latent_source import LatentInput
from vm3ac_modules.execution.export._parity import TOLERANCE, largest_difference
from vm3ac_modules.execution.export.agents import default_latent, export_agents
from vm3ac_modules.execution.runtime.agent_file import FORMATS, AgentFileError
from vm3ac_modules.files import write_json
from vm3ac_modules.learning.seeding import evaluation_seed
from vm3ac_modules.options import Options, option
from vm3ac_modules.runs import (
    CheckpointError,
    TrainedAgent,
    agent_identity,
    files_directory,
    load_agent,
)

__all__ = ["Export", "main"]

ROWS, STEPS = 16, 20


@dataclass(frozen=True, kw_only=True)
class Export(Options):
    """Options of ``vm3ac export``."""

    run_dir: str | None = option(None, "directory of a run, or zoo/<name>")
    format: str = option("torch", "format of the files", choices=tuple(FORMATS))
    latent: str | None = option(
        None, "source of the latent; null: by itself if an agent can", choices=get_args(LatentInput)
    )
    out: str | None = option(None, "directory of the files; null: run_dir/agents/<latent>")
    trust: bool = option(False, "import the module of a task that run_dir names (python:...)")
    threads: int = option(1, "intra-op threads of torch", least=1)


def export(
    run_dir: Path, trained: TrainedAgent, kind: str, latent: LatentInput, folder: Path
) -> float:
    """Write the files of all agents; the largest difference from the joint policy."""
    identity = agent_identity(run_dir)
    if identity["frame"] != trained.frame:
        raise CheckpointError(
            f"{run_dir} wrote a checkpoint while it was read (frame {trained.frame}, now "
            f"{identity['frame']}): export when the training is over."
        )
    about = {
        "algorithm": trained.agent.algorithm,
        "task": trained.task_name,
        "checkpoint": identity,
    }
    seed = evaluation_seed(trained.seed)
    env = trained.make_env(ROWS, seed=seed)
    keys = trained.agent.keys
    normalization = affine_observation(env, keys)
    folder.mkdir(parents=True, exist_ok=True)
    # What fails or is killed half way leaves nothing where agents are looked for.
    with tempfile.TemporaryDirectory(prefix=".tmp_", dir=folder) as place:
        paths = export_agents(
            trained.policy,
            place,
            format=kind,
            latent=latent,
            about=about,
            normalization=normalization,
        )
        found = largest_difference(
            trained.policy, env, paths, latent=latent, seed=seed, steps=STEPS, keys=keys
        )
        if not found <= TOLERANCE:
            raise AgentFileError(
                f"{folder}: the exported agents differ from the joint policy by {found:.2g}, more "
                f"than {TOLERANCE:g}; they are not put in place."
            )
        for file in Path(place).iterdir():
            os.replace(file, folder / file.name)
    compared = {"largest_difference": found, "tolerance": TOLERANCE, "rows": ROWS, "steps": STEPS}
    write_json(folder / f"parity_{kind}.json", {"format": kind, "latent": latent, **compared})
    return found


def report(options: Export) -> str:
    """Load, export and compare; what to print."""
    torch.set_num_threads(options.threads)
    run_dir = Path(str(options.run_dir))
    # The run's own complaint about a missing checkpoint, before anything is built.
    agent_identity(run_dir)
    trained = load_agent(run_dir, trust=options.trust)
    latent: Any = default_latent(trained.policy) if options.latent is None else options.latent
    usual = files_directory(run_dir) / "agents" / latent
    folder = usual if options.out is None else Path(options.out)
    found = export(run_dir, trained, options.format, latent, folder)
    number = trained.policy.sizes.num_agents
    lines = [
        f"{number} agents of {trained.agent.algorithm} on {trained.task_name}, latent {latent}:"
    ]
    for agent in range(number):
        path = folder / f"agent_{agent}{FORMATS[options.format]}"
        lines.append(f"  {path}  {path.stat().st_size / 1000:.0f} kB")
    compared = f"({ROWS} rows, {STEPS} steps)"
    lines.append(f"largest difference from the joint policy: {found:.1e} {compared}")
    return "\n".join(lines) + "\n"


def _export(options: Export) -> None:
    sys.stdout.write(report(options))


main = program(_export, "vm3ac export", __doc__, Export)
"""Read a command line, and do what it says."""

if __name__ == "__main__":
    main()
