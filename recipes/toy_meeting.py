"""The paper's toy example, Appendix A: two agents meet because they hear the same z.

    python recipes/toy_meeting.py run_dir=runs/toy_meeting seed=0

Agents start at (-1, 1) and (1, 1); neither sees the other. Their actions are displacements, linear
in the own place and in a common z ~ Unif[0, 0.1]^2 (Eqs. (16), (17), (19), (20)):

    a_i = [[0, 0], [0, 0.1]] o_i + W_i z + n_i

Only W_1 and W_2 are learned, by Adam on the instantaneous reward, the negative distance after the
step, of states that the present policies visit. They start on the wrong side: small random weights
with the signs that part the agents. docs/toy_meeting.md walks through it. Written are figure9.png
(weights over training), figure10.png (an episode with z drawn, one with z = E[z]), weights.csv and
summary.json, which compares the covariance of the two actions, measured, with W_1 C_z W_2^T,
Eq. (18).
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tensordict.nn import TensorDictModule, TensorDictSequential
from torch import Tensor
from torchrl.envs import Compose, StepCounter, TransformedEnv

from vm3ac_modules.cli.arguments import run
from vm3ac_modules.envs import EpisodeCounter, MeetingEnv
from vm3ac_modules.evaluation import evaluate
from vm3ac_modules.evaluation.figures import new_figure
from vm3ac_modules.files import write_json, write_text
from vm3ac_modules.keys import Keys
from vm3ac_modules.learning import evaluation_seed, seed_everything
from vm3ac_modules.modules.latent import LatentSampler, UniformPrior
from vm3ac_modules.modules.policy import Policy
from vm3ac_modules.nn import LinearLatentPolicy, action_covariance
from vm3ac_modules.options import Options, option
from vm3ac_modules.runs import git_commit, open_run_directory, versions

MODES = ("sample", "synchronized", "mean", "independent")
ENTRIES = ("w11", "w12", "w21", "w22")


@dataclass(frozen=True, kw_only=True)
class Toy(Options):
    """Options of this program."""

    run_dir: str = option("runs/toy_meeting", "where files are written")
    overwrite: bool = option(False, "replace what run_dir holds")
    seed: int = option(0, "of weights, latents and noise", least=0)
    updates: int = option(10_000, "one per step of all rows", least=0)
    num_envs: int = option(64, "rows, the batch of an update", least=1)
    lr: float = option(3e-4, "learning rate of Adam", above=0, source="Appendix A")
    latent_high: float = option(0.1, "z ~ Unif[0, latent_high]^2", above=0, source="Appendix A")
    noise_std: float = option(0.001, "of n_i, in training and after it", least=0)
    init_std: float = option(0.05, "of the first weights", least=0)
    max_steps: int = option(50, "steps of an episode", least=1)
    meeting_distance: float = option(0.2, "nearer than this is a meeting", above=0, most=2)
    record_every: int = option(50, "updates between two rows of weights.csv", least=1)
    episodes: int = option(1000, "episodes per latent, before and after training", least=1)
    draws: int = option(100_000, "joint actions for the covariance", least=2)
    threads: int = option(1, "intra-op threads of torch", least=1)


def first_weights(std: float) -> Tensor:
    """Small random weights ``[2, 2, 2]`` that lead Agent 1 to the left and Agent 2 to the right."""
    weights = std * torch.randn(2, 2, 2)
    wrong = torch.tensor([-1.0, 1.0])
    weights[:, 0] *= (wrong * weights[:, 0].sum(-1).sign()).unsqueeze(-1)
    return weights


def make_policy(cfg: Toy) -> TensorDictSequential:
    """Eqs. (16) and (17) behind the common latent of (19) and (20)."""
    keys = Keys()
    linear = LinearLatentPolicy(first_weights(cfg.init_std), noise_std=cfg.noise_std)
    return TensorDictSequential(
        LatentSampler(UniformPrior(2, low=0.0, high=cfg.latent_high), num_agents=2),
        TensorDictModule(linear, in_keys=[keys.observation, keys.latent], out_keys=[keys.action]),
    )


def make_env(cfg: Toy, num_envs: int) -> MeetingEnv:
    """The task with the knobs of the run."""
    options = {"max_steps": cfg.max_steps, "meeting_distance": cfg.meeting_distance}
    return MeetingEnv(num_envs, **options)


def counted(env: MeetingEnv) -> TransformedEnv:
    """The task with the clock that synchronized latents are computed from."""
    return TransformedEnv(env, Compose(StepCounter(), EpisodeCounter(env.batch_size)))


def train(cfg: Toy, policy: TensorDictSequential) -> list[tuple[int, Tensor]]:
    """Climb the instantaneous reward of visited states; the weights over time."""
    env, weights, history = make_env(cfg, cfg.num_envs), policy[1].module.weights, []
    optimizer = torch.optim.Adam([weights], lr=cfg.lr)
    visited = env.reset()
    for update in range(cfg.updates + 1):
        if update % cfg.record_every == 0 or update == cfg.updates:
            history.append((update, weights.detach().clone()))
        if update < cfg.updates:
            stepped, visited = env.step_and_maybe_reset(policy(visited))
            optimizer.zero_grad()
            (-stepped["next", Keys().reward].mean()).backward()
            optimizer.step()
    return history


def meetings(cfg: Toy, policy: TensorDictSequential) -> dict[str, dict[str, float]]:
    """How many episodes end with a meeting, and after how many steps, for every latent."""
    env, found = counted(make_env(cfg, cfg.episodes)), {}
    for mode in MODES:
        seed = evaluation_seed(cfg.seed)
        result = evaluate(policy, env, max_steps=cfg.max_steps, seed=seed, latent=mode)
        met = result.info["met"].bool()
        steps = round(float(result.lengths[met].float().mean()), 2) if bool(met.any()) else None
        found[mode] = {"met": round(float(met.float().mean()), 4), "steps": steps}
    return found


@torch.no_grad()
def covariance(cfg: Toy, policy: TensorDictSequential) -> dict[str, Any]:
    """Measure the covariance of the two actions at the start and compare it with Eq. (18)."""
    weights = policy[1].module.weights.double()
    latent_covariance = torch.eye(2, dtype=torch.float64) * cfg.latent_high**2 / 12
    exact = action_covariance(weights[0], weights[1], latent_covariance)
    action = policy(make_env(cfg, cfg.draws).reset())[Keys().action].double()
    centered = action - action.mean(0)
    products = centered[:, 0].unsqueeze(-1) * centered[:, 1].unsqueeze(-2)
    measured = products.mean(0) * cfg.draws / (cfg.draws - 1)
    stderr = products.std(0) / cfg.draws**0.5
    return {
        "exact": exact.tolist(),
        "measured": measured.tolist(),
        "stderr": stderr.tolist(),
        "largest_deviation_in_stderr": round(float(((measured - exact) / stderr).abs().max()), 2),
    }


@torch.no_grad()
def trajectory(cfg: Toy, policy: TensorDictSequential, mode: str) -> Tensor:
    """Places of both agents in one episode, ``[T + 1, 2, 2]``."""
    steps = make_env(cfg, 1).rollout(cfg.max_steps, Policy.of(policy).with_latent(mode))
    after = steps["next", Keys().observation][0]
    return torch.cat((steps[Keys().observation][0, :1], after))


def write_weights(path: Path, history: list[tuple[int, Tensor]]) -> None:
    """Write one row per recorded update."""
    columns = ["update", *(f"agent{i}_{name}" for i in (1, 2) for name in ENTRIES)]
    rows = [[str(n), *(f"{w:.6g}" for w in weights.flatten().tolist())] for n, weights in history]
    write_text(path, "".join(",".join(row) + "\n" for row in [columns, *rows]))


def learn(cfg: Toy) -> dict[str, Any]:
    """Train, measure, draw and write the run's files; the summary."""
    torch.set_num_threads(cfg.threads)
    run_dir = open_run_directory(cfg.run_dir, resume=False, overwrite=cfg.overwrite)
    started = time.monotonic()
    seed_everything(cfg.seed)
    policy = make_policy(cfg)
    before = meetings(cfg, policy)
    history = train(cfg, policy)
    sums = [w[:, 0].sum(-1).tolist() for w in (history[0][1], history[-1][1])]
    summary: dict[str, Any] = {
        "first_weights": history[0][1].tolist(),
        "weights": history[-1][1].tolist(),
        "first_x_sums": sums[0],
        "x_sums": sums[1],
        "untrained": before,
        "trained": meetings(cfg, policy),
        "covariance": covariance(cfg, policy),
        "seed": cfg.seed,
        "updates": cfg.updates,
        "config": {k: v for k, v in cfg.to_dict().items() if k not in ("run_dir", "overwrite")},
        "versions": versions(),
        "git_commit": git_commit(Path(__file__).parent),
    }
    write_weights(run_dir / "weights.csv", history)
    draw_weights(run_dir / "figure9.png", history)
    episodes = {mode: trajectory(cfg, policy, mode) for mode in ("sample", "mean")}
    draw_trajectories(run_dir / "figure10.png", episodes, cfg.latent_high)
    summary["wall_seconds"] = round(time.monotonic() - started, 1)
    write_json(run_dir / "summary.json", summary)
    return summary


def draw_weights(path: Path, history: list[tuple[int, Tensor]]) -> None:
    """Figure 9: the entries of both agents' weights over training."""
    figure = new_figure((9.0, 3.4), 110)
    panels = figure.subplots(1, 2, sharey=True)
    updates = [update for update, _ in history]
    values = torch.stack([weights.flatten(1) for _, weights in history])
    styles = [("black", "-"), ("black", "--"), ("0.6", "-"), ("0.6", "--")]
    for agent, axes in enumerate(panels):
        for entry, name in enumerate(ENTRIES):
            color, line = styles[entry]
            label = f"$w_{{{name[1:]}}}^{agent + 1}$"
            axes.plot(updates, values[:, agent, entry], color=color, ls=line, label=label)
        axes.axhline(0.0, color="black", lw=0.6)
        axes.grid(alpha=0.25)
        axes.set(xlabel="updates", title=f"({'ab'[agent]}) $W^{agent + 1}$ of Agent {agent + 1}")
        axes.legend(frameon=False, fontsize="small", ncols=2)
    panels[0].set_ylabel("weight of z")
    figure.savefig(path)


def draw_trajectories(path: Path, episodes: dict[str, Tensor], high: float) -> None:
    """Figure 10: where both agents go, with z drawn and with z = E[z]."""
    figure = new_figure((9.0, 3.6), 110)
    titles = {"sample": f"(a) z ~ Unif[0, {high:g}]$^2$", "mean": f"(b) z = E[z] = {high / 2:g}"}
    panels = figure.subplots(1, len(episodes), sharex=True, sharey=True)
    for axes, (mode, places) in zip(panels, episodes.items(), strict=True):
        for agent, (color, marker) in enumerate([("black", "o"), ("0.55", "s")]):
            label = f"Agent {agent + 1}"
            axes.plot(*places[:, agent].T, color=color, marker=marker, ms=4, label=label)
        axes.set(xlabel="x", title=f"{titles[mode]}, {len(places) - 1} steps")
        axes.grid(alpha=0.25)
        axes.legend(frameon=False, fontsize="small")
    panels[0].set_ylabel("y")
    figure.savefig(path)


def show(summary: dict[str, Any]) -> None:
    """Print what was found."""
    print("         " + "".join(f"{name:>8}" for name in ENTRIES) + " w11+w12")
    for agent, (weights, total) in enumerate(
        zip(summary["weights"], summary["x_sums"], strict=True), start=1
    ):
        numbers = [*weights[0], *weights[1], total]
        print(f"Agent {agent}  " + "".join(f"{x:8.3f}" for x in numbers))
    for mode in MODES:
        before, after = summary["untrained"][mode]["met"], summary["trained"][mode]
        took = f" after {after['steps']:.1f} steps" if after["steps"] else ""
        print(f"z {mode:13s} episodes with a meeting: {before:.3f} -> {after['met']:.3f}{took}")
    deviation = summary["covariance"]["largest_deviation_in_stderr"]
    print(f"covariance: at most {deviation:.2f} standard errors from W1 Cz W2^T, Eq. (18)")


def main(arguments: list[str]) -> dict[str, Any]:
    """Read the command line and do what it says."""
    summary = run(learn, "toy_meeting.py", __doc__, Toy, arguments)
    show(summary)
    return summary


if __name__ == "__main__":
    main(sys.argv[1:])
