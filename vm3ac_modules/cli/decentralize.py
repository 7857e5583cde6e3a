"""Execute trained agents one by one: a process each, no channel between them.

    vm3ac decentralize run_dir=runs/demo format=onnx episodes=20

Every agent runs in a process of the operating system, from its file of ``vm3ac export`` (written if
there is none), and sees its own observation and the time. This program steps the environment. All
rows play the same starts:

    centralized    the joint policy in this process, synchronized z: the reference
    synchronized   z from seed, episode and step, computed by every agent for itself
    mean           E[z] instead of z (constant for a categorical z): needs no clock
    independent    every agent has a seed of its own: what the common z is worth
    late           one agent's clock is one step late
    missed_episode one agent's count of episodes is one behind
    restarted      one agent's process is killed in mid-episode and started again; it reads the time
    restarted_counting  the same, but that agent counts its own steps from zero
    wrong_seed     one agent has another seed
    dropped        observations are lost at random, and the agent acts on the last one it has
    delayed        with deadline=SECONDS: one agent's answers are late at random, and it acts by its
                   last action until it is in step again

A game of one step has no row that is about a later one.

Rows about z that all equal synchronized are one line: the agents do not use z. The table is
printed and written to RUN_DIR/decentralized.json and decentralized.csv: mean return,
its 95% interval, and the difference from synchronized on the same starts with its own; of games
with an adversary also what the team is worth against the best response.

    vm3ac decentralize run_dir=runs/demo kill=1@50 [rejoin=true]

kills agent 1's process at step 50. Without rejoin=true the team is stopped, with one sentence on
what happened; with it the agent is started again and goes on, in step with the others.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from vm3ac_modules.cli.arguments import program
from vm3ac_modules.cli.export import export
from vm3ac_modules.evaluation import EvaluationResult, evaluate
from vm3ac_modules.evaluation.names import decimals, plus_minus
from vm3ac_modules.execution.export._latent_source import LatentInput
from vm3ac_modules.execution.export._parity import with_clock
from vm3ac_modules.execution.export.agents import default_latent
from vm3ac_modules.execution.runtime.agent_file import FORMATS, AgentFileError, check_team
from vm3ac_modules.execution.team.disturbance import Disturbance
from vm3ac_modules.execution.team.team import DecentralizedTeam
from vm3ac_modules.files import write_csv, write_json
from vm3ac_modules.learning.seeding import evaluation_seed
from vm3ac_modules.options import Options, OptionsError, option
from vm3ac_modules.runs import (
    TrainedAgent,
    agent_identity,
    files_directory,
    git_commit,
    load_agent,
    versions,
)

__all__ = ["Decentralized", "main"]

OF_LATENT = ("independent", "late", "missed_episode", "wrong_seed", "mean", "constant")
"""Rows that differ from synchronized by the agents' z alone."""


@dataclass(frozen=True, kw_only=True)
class Decentralized(Options):
    """Options of ``vm3ac decentralize``."""

    run_dir: str | None = option(None, "directory of a run, or zoo/<name>")
    format: str | None = option(
        None, "of the agents' files; null: onnx where it is installed", choices=tuple(FORMATS)
    )
    agents: str | None = option(None, "directory of the agents' files; null: under run_dir")
    episodes: int = option(20, "episodes, of which an interval is made", least=2)
    seed: int | None = option(None, "of starts and latents; null: evaluation's", least=0)
    agent: int = option(0, "the disturbed agent", least=0)
    drop: float = option(0.1, "share of lost observations", least=0, most=1)
    kill: str | None = option(None, "kill an agent's process: AGENT@STEP, as 1@50")
    rejoin: bool = option(False, "start it again")
    deadline: float | None = option(
        None, "that a step waits; then the late agent's last action", unit="seconds", above=0
    )
    delay: float = option(
        0.05, "of the disturbed agent's answers, in the row 'delayed'", unit="seconds", least=0
    )
    delayed: float = option(0.1, "share of its answers that are late", least=0, most=1)
    timeout: float = option(120.0, "how long to wait for an agent", unit="seconds", above=0)
    trust: bool = option(
        False, "import the module of a task that run_dir names, and run agents' .pt2 files"
    )
    threads: int = option(1, "intra-op threads of torch", least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kill is not None:
            killed(self.kill)
        for name in ("delay", "delayed"):
            default = type(self).__dataclass_fields__[name].default
            if self.deadline is None and getattr(self, name) != default:
                raise OptionsError(f"{name} is of the row 'delayed', which needs a deadline.")
        if self.seed is not None and self.seed >= 2**63:
            raise OptionsError(f"seed must satisfy 0 <= seed < 2^63, got {self.seed}.")


class Bench:
    """One run, its environment and its agents' files."""

    def __init__(self, options: Decentralized) -> None:
        self.options, self.source = options, Path(str(options.run_dir))
        best = "onnx" if find_spec("onnx") and find_spec("onnxruntime") else "torch"
        self.format = options.format or best
        self.identity = agent_identity(self.source)
        self.run_dir = files_directory(self.source)
        self.trained: TrainedAgent = load_agent(self.source, trust=options.trust)
        own = evaluation_seed(self.trained.seed)
        self.seed = own if options.seed is None else options.seed
        env = self.trained.make_env(options.episodes, seed=self.seed)
        self.env = with_clock(env, self.trained.agent.keys)
        self.max_steps = self.trained.task.limit(env)
        self.latent = default_latent(self.trained.policy)
        # Files that were written a moment ago need nobody's word.
        self.exported: set[LatentInput] = set()

    def files(self, latent: LatentInput) -> list[Path]:
        """Files of all agents with this source of the latent; exported if there is none."""
        given = None if self.options.agents is None else Path(self.options.agents)
        folder = self.run_dir / "agents" / latent
        if given is not None and latent == self.latent:
            folder = given
        suffix = FORMATS[self.format]
        numbered = [p for p in folder.glob(f"agent_*{suffix}") if p.stem[6:].isdigit()]
        found = sorted(numbered, key=lambda p: int(p.stem[6:]))
        if folder == given and not found:
            raise AgentFileError(f"{folder} holds no agent_*{suffix}.")
        # Code that lies there is not believed but written again.
        if folder != given and not (found and self.vouched(latent)):
            export(self.source, self.trained, self.format, latent, folder)
            self.exported.add(latent)
            return self.files(latent)
        records = check_team(found)
        source = records[0]["latent"]["source"]
        if source != latent:
            raise AgentFileError(
                f"{folder} holds agents with latent {source!r}, but {latent!r} is wanted: export "
                f"them with vm3ac export latent={latent}."
            )
        if records[0]["checkpoint"]["sha256"] != self.identity["sha256"]:
            raise AgentFileError(
                f"{folder} holds agents of another checkpoint (frame "
                f"{records[0]['checkpoint']['frame']}) than {self.source} (frame "
                f"{self.identity['frame']}): export them again with vm3ac export."
            )
        return found

    def vouched(self, latent: LatentInput) -> bool:
        """Whether the agents' files may be run: data, code of this moment, or somebody's word."""
        said = self.options.trust or self.options.format == "torch"
        return self.format != "torch" or said or latent in self.exported

    def team(self, latent: LatentInput, *, rejoin: bool = False) -> DecentralizedTeam:
        """A process for every agent."""
        keys, timeout = self.trained.agent.keys, self.options.timeout
        files = self.files(latent)
        return DecentralizedTeam(
            files,
            rejoin=rejoin,
            timeout=timeout,
            keys=keys,
            trust=self.vouched(latent),
            deadline=self.options.deadline,
        )

    def play(self, policy: Any, **options: Any) -> EvaluationResult:
        """One episode in every row."""
        return evaluate(
            policy,
            self.env,
            max_steps=self.max_steps,
            seed=self.seed,
            keys=self.trained.agent.keys,
            plays=self.trained.task.plays,
            **options,
        )

    def apart(self, team: DecentralizedTeam, what: Disturbance | None = None) -> EvaluationResult:
        """The same by a team of processes, while something goes wrong."""
        team.begin(self.seed, what)
        result = self.play(team)
        if team.disturbance.kill_at is not None and team.tally.killed_at is None:
            raise ValueError(
                f"no agent was killed: no episode has a step {team.disturbance.kill_at}, the "
                f"longest had {int(result.lengths.max())} steps."
            )
        for line in team.tally.restarts:
            sys.stdout.write(f"{line}\n")
        if any(team.tally.missed):
            steps = f"of {team.tally.steps} steps"
            sys.stdout.write(f"deadlines missed, by agent: {team.tally.missed} {steps}\n")
        return result


def disturbances(agent: int, drop: float, steps: int, source: str) -> dict[str, Disturbance]:
    """What the table's rows differ by; rows about the clock need agents that read it.

    ``steps`` is the usual length of an episode: half of them still go on at its middle.
    """
    middle = min(max(steps // 2, 1), steps - 1)
    found: dict[str, Disturbance] = {}
    if source == "synchronized":
        found["independent"] = Disturbance(own_seeds=True)
        if steps > 1:
            found["late"] = Disturbance(agent, clock="late")
        found["missed_episode"] = Disturbance(agent, episodes_late=1)
    found["restarted"] = Disturbance(agent, kill_at=middle)
    if source == "synchronized":
        if steps > 1:
            found["restarted_counting"] = Disturbance(agent, clock="own_count", kill_at=middle)
        found["wrong_seed"] = Disturbance(agent, seed_offset=1)
    found["dropped"] = Disturbance(dropped=drop)
    return found


def table(bench: Bench) -> list[dict[str, Any]]:
    """Play every row of the table."""
    options = bench.options
    central = "synchronized" if bench.latent == "synchronized" else "sample"
    results = {"centralized": bench.play(bench.trained.policy, latent=central)}
    with bench.team(bench.latent, rejoin=True) as team:
        undisturbed = results["synchronized"] = bench.apart(team)
        steps = int(undisturbed.lengths.float().median())
        rows = disturbances(options.agent, options.drop, steps, bench.latent)
        if options.deadline is not None:
            delayed = Disturbance(options.agent, delay=options.delay, delayed=options.delayed)
            rows["delayed"] = delayed
        results |= {name: bench.apart(team, what) for name, what in rows.items()}
    if bench.latent == "synchronized":
        # The mean of a categorical latent is none of its outcomes.
        categorical = team.records[0]["latent"]["prior"]["law"] == "categorical"
        fixed: LatentInput = "constant" if categorical else "mean"
        with bench.team(fixed) as team:
            results[fixed] = bench.apart(team)
    reference = results["synchronized"]
    judge = bench.trained.task.judge
    return [row(name, found, reference) | judge(found.info) for name, found in results.items()]


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
    agent, step = killed(str(bench.options.kill))
    what = Disturbance(agent, kill_at=step)
    with bench.team(bench.latent, rejoin=bench.options.rejoin) as team:
        result = bench.apart(team, what)
        seconds = team.tally.seconds_to_rejoin[0]
    sys.stdout.write(f"it acted again after {seconds:.1f} s\n")
    sys.stdout.write(f"return {plus_minus(result.mean, result.ci95)}\n")


def report(bench: Bench, rows: list[dict[str, Any]]) -> None:
    """Print the table and write it."""
    options, trained = bench.options, bench.trained
    about = {
        "algorithm": trained.agent.algorithm,
        "task": trained.task_name,
        "checkpoint": bench.identity,
        "format": bench.format,
        "latent": bench.latent,
        "episodes": options.episodes,
        "seed": bench.seed,
        "disturbed_agent": options.agent,
        "dropped": options.drop,
    }
    if options.deadline is not None:
        about |= {key: getattr(options, key) for key in ("deadline", "delay", "delayed")}
    record = {**about, "results": rows, "versions": versions(), "git_commit": git_commit()}
    write_json(bench.run_dir / "decentralized.json", record)
    cells = [{k: v if isinstance(v, str) else f"{v:.6g}" for k, v in line.items()} for line in rows]
    write_csv(bench.run_dir / "decentralized.csv", cells)
    lines = [
        f"{trained.agent.algorithm} on {trained.task_name}, {trained.frame} frames trained, "
        f"{options.episodes} episodes, {bench.format} agents, one process each"
    ]
    digits = decimals(*(line["return_mean"] for line in rows))
    alike = unused(rows)
    for line in rows:
        if line["latent"] in alike:
            continue
        won = f"  win rate {line['win_rate']:.2f}" if "win_rate" in line else ""
        if "best_response_value" in line:
            won = f"  against the best response {line['best_response_value']:.3f}"
        apart = f"{line['difference']:+8.{digits}f} +- {line['difference_ci95']:.{digits}f}"
        own = plus_minus(line["return_mean"], line["return_ci95"], digits)
        lines.append(f"  {line['latent']:20s} return {own:>18s} against synchronized {apart}{won}")
    if alike:
        lines.append(f"  {', '.join(alike)}: as synchronized, so z changes nothing here")
    sys.stdout.write("\n".join(lines) + "\n")


def unused(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Rows about z and its clock if all of them, and more than one, play as synchronized ones."""
    about = [line for line in rows if line["latent"] in OF_LATENT]
    same = all(line["difference"] == 0 and line["difference_ci95"] == 0 for line in about)
    return [line["latent"] for line in about] if same and len(about) > 1 else []


def killed(text: str) -> tuple[int, int]:
    """Read AGENT@STEP."""
    agent, separator, step = text.partition("@")
    if not (separator and agent.isdigit() and step.isdigit()):
        raise OptionsError(f"kill must be AGENT@STEP, as 1@50, got {text!r}.")
    return int(agent), int(step)


def _decentralize(options: Decentralized) -> None:
    torch.set_num_threads(options.threads)
    bench = Bench(options)
    if options.kill is None:
        report(bench, table(bench))
    else:
        kill(bench)


main = program(_decentralize, "vm3ac decentralize", __doc__, Decentralized)
"""Read a command line, and do what it says."""

if __name__ == "__main__":
    main()
