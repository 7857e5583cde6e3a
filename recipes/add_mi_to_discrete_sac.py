"""Add the mutual-information loss to TorchRL's own discrete SAC, and train with and without it.

    python recipes/add_mi_to_discrete_sac.py run_dir=runs/add_mi_to_discrete_sac seeds=3

DiscreteSACLoss is untouched. Its critics see z, so that one agent's action is judged under the z
that its partner acts on: z is part of what is observed. The loss is therefore handed
`policy.replaying()`, and the replay buffer draws a z for every next state. `loss_mi` draws its own
and joins the actor's loss and optimizer; actions are summed over. The game is `GuardEnv`: policies
without common randomness reach 2^-N at most, with it 1 - 1/M.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import torch
from tensordict import TensorDict, TensorDictBase
from torchrl.collectors import Collector
from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer
from torchrl.envs import TransformedEnv
from torchrl.objectives import DiscreteSACLoss, SoftUpdate

import vm3ac_modules as vm
from vm3ac_modules.cli.arguments import run
from vm3ac_modules.envs import ExpandDone, GuardEnv
from vm3ac_modules.evaluation import evaluate_guard, write_comparison
from vm3ac_modules.learning import seed_everything
from vm3ac_modules.modules.network import NetworkModule
from vm3ac_modules.nn import LatentCategoricalNet
from vm3ac_modules.options import Options, option

KEYS = vm.Keys()


@dataclass(frozen=True, kw_only=True)
class AddMI(Options):
    """Options of this program."""

    run_dir: str = option("runs/add_mi_to_discrete_sac", "where curves.csv and curves.png go")
    num_agents: int = option(2, "agents N", least=1)
    num_modes: int = option(4, "modes M", least=2)
    frames: int = option(32_000, "environment steps of each training", least=1)
    num_envs: int = option(64, "environments at once", least=1)
    updates: int = option(2, "updates after every step of all rows", least=1)
    batch_size: int = option(128, "transitions per update", least=1)
    replay: int = option(1280, "transitions kept; the guard that old ones met has moved", least=1)
    lr: float = option(1e-3, "learning rate of Adam", above=0)
    alpha: float = option(0.05, "SAC's own entropy temperature, fixed", above=0)
    latent_dim: int = option(4, "size of the latent z", least=1)
    mi_weight: float = option(0.1, "weight of the term with MI (reward per nat)", least=0)
    num_latents: int = option(16, "extra latents K of its entropy", least=0)
    seeds: int = option(3, "trainings of each kind", least=1)
    seed: int = option(0, "the first seed", least=0)
    threads: int = option(1, "intra-op threads of torch", least=1)


def stock_sac(policy: vm.LatentPolicy, cfg: AddMI) -> DiscreteSACLoss:
    """TorchRL's DiscreteSACLoss; a critic per agent of its own action, given observation and z."""
    net = LatentCategoricalNet(1, cfg.latent_dim, cfg.num_modes, cfg.num_agents, hidden=(64, 64))
    read = {"observation": KEYS.observation, "latent": KEYS.latent}
    critic = NetworkModule(net, read, ["action_value"])
    form = {"action_space": "one-hot", "num_actions": cfg.num_modes, "loss_function": "l2"}
    form |= {"fixed_alpha": True, "alpha_init": cfg.alpha}
    loss = DiscreteSACLoss(policy.replaying(), critic, **form)
    loss.set_keys(action=KEYS.action, reward=KEYS.reward)
    loss.set_keys(done=("agents", "done"), terminated=("agents", "terminated"))
    loss.make_value_estimator(gamma=0.99)
    return loss


def train(cfg: AddMI, mi_weight: float, seed: int) -> tuple[list[int], list[float]]:
    """Train one team; frames, and what the frozen team was worth there."""
    seed_everything(seed)
    sizes = cfg.num_agents, cfg.num_modes
    game = GuardEnv(cfg.num_envs, num_agents=sizes[0], num_modes=sizes[1], actions="discrete")
    env = TransformedEnv(game, ExpandDone("agents"))
    sampler, spec = vm.LatentSampler(vm.GaussianPrior(cfg.latent_dim)), env.full_action_spec
    actor = vm.make_categorical_actor(1, cfg.latent_dim, spec[KEYS.action], hidden=(64, 64))
    policy = vm.make_policy(sampler, actor)
    predictor = vm.CategoricalPredictor(1, *sizes, situation="observations")
    sac = stock_sac(policy, cfg)
    form = {"weight": mi_weight, "entropy_weight": 1.0, "num_latents": cfg.num_latents}
    mi = vm.MutualInformationLoss(policy, predictor, **form)
    groups = [
        sac.actor_network_params.parameters(),
        sac.qvalue_network_params.parameters(),
        mi.parameter_groups()["loss_predictor"],
    ]
    optimizers = [torch.optim.Adam(list(group), lr=cfg.lr) for group in groups]
    target = SoftUpdate(sac, tau=0.005)

    def draw_next(td: TensorDictBase) -> TensorDict:
        return td.set("next", sampler(td["next"]))

    storage = LazyTensorStorage(cfg.replay)
    replay = TensorDictReplayBuffer(storage=storage, batch_size=cfg.batch_size, transform=draw_next)
    frames = {"frames_per_batch": cfg.num_envs, "total_frames": cfg.frames}
    collector = Collector(env, policy, auto_register_policy_transforms=False, **frames)
    points, values = [], []
    for index, steps in enumerate(collector):
        replay.extend(steps.reshape(-1))
        for _ in range(cfg.updates):
            batch = replay.sample()
            if index == 0:
                vm.check_host(sac, policy, batch, optimizers=optimizers, mi=mi)
            host, shared = sac(batch.clone(False)), mi(batch)
            actor_loss = host["loss_actor"] + shared["loss_mi"]
            (actor_loss + host["loss_qvalue"] + shared["loss_predictor"]).backward()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
            target.step()
        if index % 80 == 0 or (index + 1) * cfg.num_envs >= cfg.frames:
            points.append((index + 1) * cfg.num_envs)
            values.append(evaluate_guard(policy, game))
    collector.shutdown(close_env=False)
    return points, values


def compare(cfg: AddMI) -> dict[str, float]:
    """Train with and without the loss, write the curves, print and return the mean last values."""
    torch.set_num_threads(cfg.threads)
    weights = {"discrete SAC": 0.0, "discrete SAC + MI": cfg.mi_weight}
    title = f"guard game, N={cfg.num_agents}, M={cfg.num_modes}"
    seeds = range(cfg.seed, cfg.seed + cfg.seeds)
    curves = {k: [train(cfg, weight, seed) for seed in seeds] for k, weight in weights.items()}
    last = write_comparison(cfg.run_dir, title, curves, ylabel="value against the best guard")
    print(", ".join(f"{label}: {value:.3f}" for label, value in last.items()))
    return last


def main(arguments: list[str]) -> dict[str, float]:
    """Read the command line and do what it says."""
    return run(compare, "add_mi_to_discrete_sac.py", __doc__, AddMI, arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
