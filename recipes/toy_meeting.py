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
from pathlib import Path
from typing import Any

import torch
from command_line import boolean, fail, integer, number
from omegaconf import DictConfig, OmegaConf
from tensordict.nn import TensorDictModule, TensorDictSequential
from torch import Tensor
from torchrl.envs import Compose, StepCounter, TransformedEnv
from toy_meeting_figures import ENTRIES, draw_trajectories, draw_weights

from vm3ac_modules.envs import EpisodeCounter, MeetingEnv
from vm3ac_modules.evaluation import evaluate
from vm3ac_modules.evaluation.protocol import policy_with_latent
from vm3ac_modules.files import write_json, write_text
from vm3ac_modules.keys import Keys
from vm3ac_modules.learning import evaluation_seed, seed_everything
from vm3ac_modules.modules.latent import LatentSampler, UniformPrior
from vm3ac_modules.nn import LinearLatentPolicy, action_covariance
from vm3ac_modules.runs import RunDirectoryError, git_commit, open_run_directory, versions

DEFAULTS: dict[str, Any] = {
    "run_dir": "runs/toy_meeting",
    "overwrite": False,  # replace what run_dir holds
    "seed": 0,
    "updates": 10_000,  # one per step of all rows
    "num_envs": 64,  # rows, the batch of an update
    "lr": 3e-4,  # the paper's
    "latent_high": 0.1,  # z ~ Unif[0, latent_high]^2, the paper's
    "noise_std": 0.001,  # of n_i, in training and after it
    "init_std": 0.05,  # of the first weights
    "max_steps": 50,
    "meeting_distance": 0.2,
    "record_every": 50,  # updates between two rows of weights.csv
    "episodes": 1000,  # per latent, before and after training
    "draws": 100_000,  # joint actions for the covariance
    "threads": 1,
}
LEAST = {"seed": 0, "updates": 0, "draws": 2}  # of the other integers 1
MODES = ("sample", "synchronized", "mean", "independent")


def first_weights(std: float) -> Tensor:
    """Small random weights ``[2, 2, 2]`` that lead Agent 1 to the left and Agent 2 to the right."""
    weights = std * torch.randn(2, 2, 2)
    wrong = torch.tensor([-1.0, 1.0])
    weights[:, 0] *= (wrong * weights[:, 0].sum(-1).sign()).unsqueeze(-1)
    return weights


def make_policy(cfg: DictConfig) -> TensorDictSequential:
    """Eqs. (16) and (17) behind the common latent of (19) and (20)."""
    keys = Keys()
    linear = LinearLatentPolicy(first_weights(cfg.init_std), noise_std=cfg.noise_std)
    return TensorDictSequential(
        LatentSampler(UniformPrior(2, low=0.0, high=cfg.latent_high), num_agents=2),
        TensorDictModule(linear, in_keys=[keys.observation, keys.latent], out_keys=[keys.action]),
    )


def make_env(cfg: DictConfig, num_envs: int) -> MeetingEnv:
    """The task with the knobs of the run."""
    options = {"max_steps": cfg.max_steps, "meeting_distance": cfg.meeting_distance}
    return MeetingEnv(num_envs, **options)


def counted(env: MeetingEnv) -> TransformedEnv:
    """The task with the clock that synchronized latents are computed from."""
    return TransformedEnv(env, Compose(StepCounter(), EpisodeCounter(env.batch_size)))


def train(cfg: DictConfig, policy: TensorDictSequential) -> list[tuple[int, Tensor]]:
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


def meetings(cfg: DictConfig, policy: TensorDictSequential) -> dict[str, dict[str, float]]:
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
def covariance(cfg: DictConfig, policy: TensorDictSequential) -> dict[str, Any]:
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
def trajectory(cfg: DictConfig, policy: TensorDictSequential, mode: str) -> Tensor:
    """Places of both agents in one episode, ``[T + 1, 2, 2]``."""
    steps = make_env(cfg, 1).rollout(cfg.max_steps, policy_with_latent(policy, mode))
    after = steps["next", Keys().observation][0]
    return torch.cat((steps[Keys().observation][0, :1], after))


def write_weights(path: Path, history: list[tuple[int, Tensor]]) -> None:
    """Write one row per recorded update."""
    columns = ["update", *(f"agent{i}_{name}" for i in (1, 2) for name in ENTRIES)]
    rows = [[str(n), *(f"{w:.6g}" for w in weights.flatten().tolist())] for n, weights in history]
    write_text(path, "".join(",".join(row) + "\n" for row in [columns, *rows]))


def run(cfg: DictConfig) -> dict[str, Any]:
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
        "config": {k: v for k, v in cfg.items() if k not in ("run_dir", "overwrite")},
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


def configure(arguments: list[str]) -> DictConfig:
    """Read key=value arguments, or end with one sentence."""
    if any(argument in ("-h", "--help") for argument in arguments):
        knobs = "\n".join(f"  {key}={value}" for key, value in DEFAULTS.items())
        print(f"{__doc__}\nKnobs and their defaults:\n{knobs}")
        sys.exit(0)
    if bare := [argument for argument in arguments if "=" not in argument]:
        fail(f"{bare[0]!r} is not of the form key=value; see --help.")
    given = OmegaConf.from_cli(arguments)
    if unknown := [str(key) for key in given if key not in DEFAULTS]:
        fail(f"unknown key {', '.join(unknown)}; valid: {', '.join(DEFAULTS)}.")
    return OmegaConf.create(DEFAULTS | {str(k): checked(str(k), v) for k, v in given.items()})


def checked(key: str, value: Any) -> Any:
    """The value in its default's type; what would be bent to fit ends with one sentence."""
    default = DEFAULTS[key]
    if isinstance(default, bool):
        return boolean(key, value)
    if isinstance(default, int):
        return integer(key, value, LEAST.get(key, 1))
    return number(key, value) if isinstance(default, float) else str(value)


def main(arguments: list[str]) -> dict[str, Any]:
    """Run the recipe and print what it found."""
    cfg = configure(arguments)
    try:
        summary = run(cfg)
    except (RunDirectoryError, ValueError) as error:
        fail(str(error))
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
    return summary


if __name__ == "__main__":
    main(sys.argv[1:])
