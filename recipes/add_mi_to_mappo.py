"""Add the mutual-information loss to TorchRL's own PPO, and train with and without it.

    python recipes/add_mi_to_mappo.py run_dir=runs/add_mi_to_mappo actions=continuous seeds=3

ClipPPOLoss, GAE and the collector are untouched. PPO scores stored actions, so it is handed
`policy.replaying()`: its ratio is 1 at the first look, as `check_host` verifies on the first batch.
`loss_mi` draws a latent of its own and joins PPO's loss and optimizer. The critic is centralized
(MAPPO). The game is `GuardEnv`: a team scores where all meet and the guard does not stand; policies
without common randomness reach 2^-N at most, with it 1 - 1/M.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import torch
from torch import nn
from torchrl.collectors import Collector
from torchrl.envs import TransformedEnv
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE

import vm3ac_modules as vm
from vm3ac_modules.cli.arguments import run
from vm3ac_modules.envs import ExpandDone, GuardEnv
from vm3ac_modules.evaluation import evaluate_guard, write_comparison
from vm3ac_modules.learning import seed_everything
from vm3ac_modules.options import Options, option

KEYS = vm.Keys()


@dataclass(frozen=True, kw_only=True)
class AddMI(Options):
    """Options of this program."""

    run_dir: str = option("runs/add_mi_to_mappo", "where curves.csv and curves.png are written")
    actions: str = option("continuous", "of the game", choices=("continuous", "discrete"))
    num_agents: int = option(2, "agents N", least=1)
    num_modes: int = option(4, "modes M", least=2)
    frames: int = option(64_000, "environment steps of each training", least=1)
    num_envs: int = option(64, "environments at once", least=1)
    steps: int = option(8, "steps of all rows per batch", least=1)
    epochs: int = option(4, "passes over a batch, in four updates each", least=1)
    lr: float = option(1e-3, "learning rate of Adam", above=0)
    entropy: float = option(0.01, "PPO's own entropy bonus", least=0)
    latent_dim: int = option(4, "size of the latent z", least=1)
    mi_weight: float = option(0.1, "weight of the term with MI (reward per nat)", least=0)
    num_latents: int = option(16, "extra latents K of its entropy", least=0)
    seeds: int = option(3, "trainings of each kind", least=1)
    seed: int = option(0, "the first seed", least=0)
    threads: int = option(1, "intra-op threads of torch", least=1)


def make_team(cfg: AddMI, env: TransformedEnv) -> tuple[vm.LatentPolicy, nn.Module]:
    """The policy and its predictor."""
    spec = env.full_action_spec[KEYS.action]
    sampler = vm.LatentSampler(vm.GaussianPrior(cfg.latent_dim))
    if cfg.actions == "continuous":
        actor = vm.make_actor(1, cfg.latent_dim, spec, hidden=(64, 64))
        return vm.make_policy(sampler, actor), vm.VariationalPredictor(1, spec, scale="learned")
    actor = vm.make_categorical_actor(1, cfg.latent_dim, spec, hidden=(64, 64))
    sizes = cfg.num_agents, cfg.num_modes
    predictor = vm.CategoricalPredictor(1, *sizes, situation="observations")
    return vm.make_policy(sampler, actor), predictor


def train(cfg: AddMI, mi_weight: float, seed: int) -> tuple[list[int], list[float]]:
    """Train one team; frames, and what the frozen team was worth there."""
    seed_everything(seed)
    sizes = {"num_agents": cfg.num_agents, "num_modes": cfg.num_modes, "actions": cfg.actions}
    game = GuardEnv(cfg.num_envs, seed=seed, **sizes)
    env = TransformedEnv(game, ExpandDone("agents"))
    policy, predictor = make_team(cfg, env)
    critic = vm.make_state_value(1, cfg.num_agents, hidden=(64, 64))
    ppo = ClipPPOLoss(policy.replaying(), critic, entropy_coeff=cfg.entropy)
    ppo.set_keys(value=KEYS.state_value)
    gae = GAE(gamma=0.99, lmbda=0.95, value_network=critic)
    ends = {"done": ("agents", "done"), "terminated": ("agents", "terminated")}
    gae.set_keys(value=KEYS.state_value, reward=KEYS.reward, **ends)
    form = {"weight": mi_weight, "entropy_weight": 1.0, "num_latents": cfg.num_latents}
    mi = vm.MutualInformationLoss(policy, predictor, **form)
    host = torch.optim.Adam(ppo.parameters(), lr=cfg.lr)
    own = torch.optim.Adam(mi.parameter_groups()["loss_predictor"], lr=cfg.lr)

    size = cfg.num_envs * cfg.steps
    frames = {"frames_per_batch": size, "total_frames": cfg.frames}
    collector = Collector(env, policy, auto_register_policy_transforms=False, **frames)
    points, values = [], []
    for index, batch in enumerate(collector):
        flat = gae(batch).reshape(-1)
        if index == 0:
            vm.check_host(ppo, policy, flat, optimizers=[host, own], mi=mi)
        for _ in range(cfg.epochs):
            for rows in torch.randperm(size).chunk(4):
                found, shared = ppo(flat[rows]), mi(flat[rows])
                loss = sum(value for name, value in found.items() if name.startswith("loss_"))
                (loss + shared["loss_mi"] + shared["loss_predictor"]).backward()
                for optimizer in (host, own):
                    optimizer.step()
                    optimizer.zero_grad()
        if index % 10 == 0 or (index + 1) * size >= cfg.frames:
            points.append((index + 1) * size)
            values.append(evaluate_guard(policy, game))
    collector.shutdown(close_env=False)
    return points, values


def compare(cfg: AddMI) -> dict[str, float]:
    """Train with and without the loss, write the curves, print and return the mean last values."""
    torch.set_num_threads(cfg.threads)
    weights = {"MAPPO": 0.0, "MAPPO + MI": cfg.mi_weight}
    title = f"guard game, N={cfg.num_agents}, M={cfg.num_modes}, {cfg.actions}"
    seeds = range(cfg.seed, cfg.seed + cfg.seeds)
    curves = {k: [train(cfg, weight, seed) for seed in seeds] for k, weight in weights.items()}
    last = write_comparison(cfg.run_dir, title, curves, ylabel="value against the best guard")
    print(", ".join(f"{label}: {value:.3f}" for label, value in last.items()))
    return last


def main(arguments: list[str]) -> dict[str, float]:
    """Read the command line and do what it says."""
    return run(compare, "add_mi_to_mappo.py", __doc__, AddMI, arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
