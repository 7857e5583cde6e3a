"""Execute trained agents one by one: a process each, no channel between them.

    python recipes/run_decentralized.py runs/demo --format onnx --episodes 20

Every agent runs in a process of the operating system, from its file of export_agents.py (written if
there is none), and sees its own observation and the time. This program steps the environment. All
rows play the same starts:

    centralized    the joint policy in this process, synchronized z: the reference
    synchronized   z from seed, episode and step, computed by every agent for itself
    mean           E[z] instead of z (constant for a categorical z): needs no clock
    independent    every agent has a seed of its own: what the common z is worth
    late           one agent's clock is one step late
    restarted      one agent's process is killed in mid-episode and started again; it reads the time
    restarted_counting  the same, but that agent counts its own steps from zero
    wrong_seed     one agent has another seed
    dropped        observations are lost at random, and the agent acts on the last one it has

The table is printed and written to RUN_DIR/decentralized.json and decentralized.csv: mean return,
its 95% interval, and the difference from synchronized on the same starts with its own.

    python recipes/run_decentralized.py runs/demo --kill 1@50 [--rejoin]

kills agent 1's process at step 50. Without --rejoin the team is stopped, with one sentence on what
happened; with it the agent is started again and goes on, in step with the others.
"""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from command_line import fail
from export_agents import default_latent, export, policy_of

from vm3ac_modules.envs import time_limit
from vm3ac_modules.evaluation import EvaluationResult, evaluate, evaluate_battles
from vm3ac_modules.execution.export.latent_source import LatentInput
from vm3ac_modules.execution.export.parity import with_clock
from vm3ac_modules.execution.runtime.agent_file import FORMATS, AgentFileError, check_team
from vm3ac_modules.execution.team.agent_process import AgentLost
from vm3ac_modules.execution.team.disturbance import Disturbance
from vm3ac_modules.execution.team.team import DecentralizedTeam
from vm3ac_modules.files import write_json, write_text
from vm3ac_modules.learning import evaluation_seed
from vm3ac_modules.runs import (
    CheckpointError,
    TrainedAgent,
    checkpoint_identity,
    git_commit,
    load_agent,
    versions,
)

COLUMNS = ("latent", "return_mean", "return_ci95", "difference", "difference_ci95", "win_rate")


class Bench:
    """One run, its environment and its agents' files."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.identity = checkpoint_identity(args.run_dir)
        self.trained: TrainedAgent = load_agent(args.run_dir)
        self.seed = evaluation_seed(self.trained.config["seed"])
        if args.seed is not None:
            self.seed = args.seed
        env = self.trained.make_env(args.episodes, seed=self.seed)
        self.env = with_clock(env, self.trained.agent.keys)
        self.max_steps = (
            time_limit(env)
            if self.trained.plays_battles
            else self.trained.config["task"]["max_steps"]
        )
        self.latent = default_latent(self.trained)

    def files(self, latent: LatentInput) -> list[Path]:
        """Files of all agents with this source of the latent; exported if there is none."""
        folder = self.args.run_dir / "agents" / latent
        if self.args.agents is not None and latent == self.latent:
            folder = self.args.agents
        suffix = FORMATS[self.args.format]
        found = sorted(folder.glob(f"agent_*{suffix}"), key=lambda p: int(p.stem.split("_")[1]))
        if not found:
            if folder == self.args.agents:
                raise AgentFileError(f"{folder} holds no agent_*{suffix}.")
            export(self.args.run_dir, self.trained, self.args.format, latent, folder)
            return self.files(latent)
        records = check_team(found)
        source = records[0]["latent"]["source"]
        if source != latent:
            raise AgentFileError(
                f"{folder} holds agents with latent {source!r}, but {latent!r} is wanted: export "
                f"them with recipes/export_agents.py --latent {latent}."
            )
        if records[0]["checkpoint"]["sha256"] != self.identity["sha256"]:
            raise AgentFileError(
                f"{folder} holds agents of another checkpoint (frame "
                f"{records[0]['checkpoint']['frame']}) than {self.args.run_dir} (frame "
                f"{self.identity['frame']}): export them again with recipes/export_agents.py."
            )
        return found

    def team(self, latent: LatentInput, *, rejoin: bool = False) -> DecentralizedTeam:
        """A process for every agent."""
        options = {"rejoin": rejoin, "timeout": self.args.timeout, "keys": self.trained.agent.keys}
        return DecentralizedTeam(self.files(latent), **options)

    def play(self, policy: Any, **options: Any) -> EvaluationResult:
        """One episode in every row."""
        evaluation = evaluate_battles if self.trained.plays_battles else evaluate
        fixed = {"max_steps": self.max_steps, "seed": self.seed, "keys": self.trained.agent.keys}
        return evaluation(policy, self.env, **fixed, **options)

    def apart(self, team: DecentralizedTeam, what: Disturbance | None = None) -> EvaluationResult:
        """The same by a team of processes, while something goes wrong."""
        team.begin(self.seed, what)
        result = self.play(team)
        if team.disturbance.kill_at is not None and team.tally.killed_at is None:
            raise ValueError(
                f"no agent was killed: no episode has a step {team.disturbance.kill_at}, the "
                f"longest had {int(result.lengths.max())} steps."
            )
        for report in team.tally.restarts:
            print(report)
        return result


def disturbances(agent: int, drop: float, middle: int, source: str) -> dict[str, Disturbance]:
    """What the table's rows differ by; rows about the clock need agents that read it."""
    found: dict[str, Disturbance] = {}
    if source == "synchronized":
        found |= {
            "independent": Disturbance(own_seeds=True),
            "late": Disturbance(agent, clock="late"),
        }
    found["restarted"] = Disturbance(agent, kill_at=middle)
    if source == "synchronized":
        found |= {
            "restarted_counting": Disturbance(agent, clock="own_count", kill_at=middle),
            "wrong_seed": Disturbance(agent, seed_offset=1),
        }
    found["dropped"] = Disturbance(dropped=drop)
    return found


def table(bench: Bench) -> list[dict[str, Any]]:
    """Play every row of the table."""
    args = bench.args
    central = "synchronized" if bench.latent == "synchronized" else "sample"
    results = {"centralized": bench.play(policy_of(bench.trained), latent=central)}
    with bench.team(bench.latent, rejoin=True) as team:
        undisturbed = results["synchronized"] = bench.apart(team)
        # Half of the episodes still go on then.
        middle = max(int(undisturbed.lengths.float().median()) // 2, 1)
        rows = disturbances(args.agent, args.drop, middle, bench.latent)
        results |= {name: bench.apart(team, what) for name, what in rows.items()}
    if bench.latent == "synchronized":
        # The mean of a categorical latent is none of its outcomes.
        categorical = team.records[0]["latent"]["prior"]["law"] == "categorical"
        fixed: LatentInput = "constant" if categorical else "mean"
        with bench.team(fixed) as team:
            results[fixed] = bench.apart(team)
    reference = results["synchronized"]
    return [row(name, result, reference) for name, result in results.items()]


def row(name: str, result: EvaluationResult, reference: EvaluationResult) -> dict[str, Any]:
    """A row of the table; the difference is taken start by start."""
    apart = EvaluationResult(result.returns - reference.returns, result.lengths, {})
    found = {
        "latent": name,
        "return_mean": result.mean,
        "return_ci95": result.ci95,
        "difference": apart.mean,
        "difference_ci95": apart.ci95,
    }
    if "battle_won" in result.info:
        found["win_rate"] = float(result.info["battle_won"].mean())
    return found


def kill(bench: Bench) -> None:
    """Play with synchronized latents while an agent's process is killed."""
    agent, step = bench.args.kill
    what = Disturbance(agent, kill_at=step)
    with bench.team(bench.latent, rejoin=bench.args.rejoin) as team:
        result = bench.apart(team, what)
        print(f"it acted again after {team.tally.seconds_to_rejoin[0]:.1f} s")
    print(f"return {result.mean:.1f} +- {result.ci95:.1f}")


def report(bench: Bench, rows: list[dict[str, Any]]) -> None:
    """Print the table and write it."""
    args, trained = bench.args, bench.trained
    about = {
        "algorithm": trained.agent.algorithm,
        "task": trained.task,
        "checkpoint": bench.identity,
        "format": args.format,
        "latent": bench.latent,
        "episodes": args.episodes,
        "seed": bench.seed,
        "disturbed_agent": args.agent,
        "dropped": args.drop,
    }
    record = {**about, "results": rows, "versions": versions(), "git_commit": git_commit()}
    write_json(args.run_dir / "decentralized.json", record)
    text = io.StringIO(newline="")
    columns = [name for name in COLUMNS if name in rows[0]]
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for line in rows:
        writer.writerow({k: v if isinstance(v, str) else f"{v:.6g}" for k, v in line.items()})
    write_text(args.run_dir / "decentralized.csv", text.getvalue())
    print(
        f"{trained.agent.algorithm} on {trained.task}, {trained.frame} frames trained, "
        f"{args.episodes} episodes, {args.format} agents, one process each"
    )
    for line in rows:
        won = f"  win rate {line['win_rate']:.2f}" if "win_rate" in line else ""
        apart = f"{line['difference']:+8.1f} +- {line['difference_ci95']:.1f}"
        own = f"{line['return_mean']:8.1f} +- {line['return_ci95']:.1f}"
        print(f"  {line['latent']:20s} return {own:18s} against synchronized {apart}{won}")


def killed(text: str) -> tuple[int, int]:
    """Read AGENT@STEP."""
    agent, separator, step = text.partition("@")
    if not (separator and agent.isdigit() and step.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form AGENT@STEP, as 1@50")
    return int(agent), int(step)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; end with one sentence if it cannot be meant."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    best = "onnx" if find_spec("onnx") and find_spec("onnxruntime") else "torch"
    parser.add_argument("run_dir", type=Path, help="directory of a run")
    parser.add_argument(
        "--format", choices=list(FORMATS), default=best, help="of the agents' files"
    )
    parser.add_argument("--agents", type=Path, help="directory of the agents' files")
    parser.add_argument("--episodes", type=int, default=20, help="episodes (default 20)")
    parser.add_argument("--seed", type=int, help="of starts and latents (default: evaluation's)")
    parser.add_argument("--agent", type=int, default=0, help="the disturbed agent (default 0)")
    parser.add_argument("--drop", type=float, default=0.1, help="share of lost observations")
    parser.add_argument("--kill", type=killed, metavar="AGENT@STEP", help="kill a process")
    parser.add_argument("--rejoin", action="store_true", help="start it again")
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds to wait for an agent")
    args = parser.parse_args(arguments)
    if args.episodes < 2:
        fail(f"--episodes must be at least 2 for an interval, got {args.episodes}.")
    if not 0.0 <= args.drop <= 1.0:
        fail(f"--drop must be in [0, 1], got {args.drop}.")
    if args.seed is not None and not 0 <= args.seed < 2**63:
        fail(f"--seed must satisfy 0 <= seed < 2^63, got {args.seed}.")
    return args


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, play, print and write."""
    args = parse(arguments)
    torch.set_num_threads(1)
    try:
        bench = Bench(args)
        if args.kill is None:
            report(bench, table(bench))
        else:
            kill(bench)
    except (CheckpointError, AgentFileError, AgentLost, ValueError, ImportError) as error:
        fail(str(error))


if __name__ == "__main__":
    main()
