"""Add the mutual-information loss to a stock TorchRL SACLoss, and train with and without it.

    python recipes/add_mi_to_sac.py run_dir=runs/add_mi_to_sac task=predator_prey_2 frames=128000

SACLoss is untouched: it is handed `policy.fresh()`, which opens with a latent sampler, so it draws
a latent for s and another for s' by itself. `loss_mi` joins the actor's loss and the actor's
optimizer; only the predictor has an optimizer of its own. The critics do not see the bonus.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchrl.collectors import Collector
from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer
from torchrl.envs import EnvBase
from torchrl.modules import MultiAgentMLP
from torchrl.objectives import SACLoss, SoftUpdate
from tqdm import tqdm

import vm3ac_modules as vm
from vm3ac_modules.cli.arguments import run
from vm3ac_modules.envs import ExpandDone
from vm3ac_modules.evaluation import evaluate
from vm3ac_modules.files import write_json
from vm3ac_modules.learning import evaluation_seed, seed_everything
from vm3ac_modules.modules.network import NetworkModule
from vm3ac_modules.options import Options, option
from vm3ac_modules.runs import versions


@dataclass(frozen=True, kw_only=True)
class AddMI(Options):
    """Options of this program."""

    run_dir: str = option("runs/add_mi_to_sac", "where summary.json is written")
    task: str = option("predator_prey_2", "see vm3ac train --help")
    frames: int = option(128_000, "environment steps of each training", least=1)
    num_envs: int = option(64, "environments at once", least=1)
    batch_size: int = option(256, "transitions per update", least=1)
    seed: int = option(0, "of networks, noise and environments", least=0)
    latent_dim: int = option(8, "size of the latent z", least=1)
    mi_weight: float = option(0.01, "nats to loss; rewards are scaled by reward_scale", least=0)
    reward_scale: float = option(0.1, "factor on rewards", above=0)
    alpha: float = option(0.015, "SAC's own entropy temperature, fixed", above=0)
    episodes: int = option(20, "episodes of the evaluation", least=1)
    threads: int = option(1, "intra-op threads of torch", least=1)


class JointCritic(nn.Module):
    """A stock centralized Q network over observations and actions, one output per agent."""

    def __init__(self, obs_dim: int, action_dim: int, num_agents: int) -> None:
        super().__init__()
        form = {"centralized": True, "share_params": False, "activation_class": nn.ReLU}
        sizes = {"depth": 2, "num_cells": 128}
        self.net = MultiAgentMLP(obs_dim + action_dim, 1, num_agents, **form, **sizes)

    def forward(self, observation: Tensor, action: Tensor) -> Tensor:
        """Value of every agent, ``[*B, N, 1]``."""
        return self.net(torch.cat((observation, action), dim=-1))


def stock_sac(policy: Any, env: EnvBase, obs_dim: int, alpha: float) -> SACLoss:
    """TorchRL's SACLoss with nested keys and nothing else changed."""
    spec, keys = env.full_action_spec[vm.Keys().action], vm.Keys()
    critic = NetworkModule(
        JointCritic(obs_dim, spec.shape[-1], spec.shape[-2]),
        {"observation": keys.observation, "action": keys.action},
        [keys.state_action_value],
    )
    options = {"fixed_alpha": True, "alpha_init": alpha, "loss_function": "l2"}
    loss = SACLoss(policy, critic, action_spec=spec, **options)
    loss.set_keys(action=keys.action, reward=keys.reward, log_prob=keys.action_log_prob)
    loss.set_keys(state_action_value=keys.state_action_value)
    loss.set_keys(done=("agents", "done"), terminated=("agents", "terminated"))
    loss.make_value_estimator(gamma=0.99)
    return loss


def train(cfg: AddMI, mi_weight: float) -> float:
    """Train one agent and return its mean evaluation return."""
    seed_everything(cfg.seed)
    env = vm.make_env(cfg.task, cfg.num_envs, seed=cfg.seed)
    env.append_transform(ExpandDone("agents"))
    obs_dim = env.observation_spec[vm.Keys().observation].shape[-1]
    spec = env.full_action_spec[vm.Keys().action]

    sampler = vm.LatentSampler(vm.GaussianPrior(cfg.latent_dim))
    policy = vm.make_policy(sampler, vm.make_actor(obs_dim, cfg.latent_dim, spec))
    sac = stock_sac(policy.fresh(), env, obs_dim, cfg.alpha)
    mi = vm.MutualInformationLoss(policy, vm.VariationalPredictor(obs_dim, spec), weight=mi_weight)
    groups = {
        "actor": sac.actor_network_params.parameters(),
        "critic": sac.qvalue_network_params.parameters(),
        "predictor": mi.parameter_groups()["loss_predictor"],
    }
    optimizers = [torch.optim.Adam(list(group), lr=3e-4, fused=True) for group in groups.values()]
    target = SoftUpdate(sac, tau=0.005)

    replay = TensorDictReplayBuffer(
        storage=LazyTensorStorage(cfg.frames), batch_size=cfg.batch_size
    )
    frames = {"frames_per_batch": cfg.num_envs, "total_frames": cfg.frames}
    frames["init_random_frames"] = 1280
    collector = Collector(env, policy, auto_register_policy_transforms=False, **frames)
    for steps in tqdm(collector, total=cfg.frames // cfg.num_envs, mininterval=1.0):
        steps["next", "agents", "reward"] *= cfg.reward_scale
        replay.extend(steps.reshape(-1))
        batch = replay.sample()
        if len(replay) == cfg.num_envs:
            vm.check_host(sac, policy, batch, optimizers=optimizers, mi=mi)
        host = sac(batch.clone(False))  # SACLoss writes into the batch that it is given
        shared = mi(batch)
        loss_actor = host["loss_actor"] + shared["loss_mi"]
        (loss_actor + host["loss_qvalue"] + shared["loss_predictor"]).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        target.step()
    collector.shutdown(close_env=False)
    seed = evaluation_seed(cfg.seed)
    return evaluate(policy, vm.make_env(cfg.task, cfg.episodes), max_steps=100, seed=seed).mean


def compare(cfg: AddMI) -> dict[str, Any]:
    """Train with and without the loss, print and write the returns."""
    torch.set_num_threads(cfg.threads)
    returns = {"with_mi": train(cfg, cfg.mi_weight), "without_mi": train(cfg, 0.0)}
    summary = {**returns, "config": cfg.to_dict(), "versions": versions()}
    Path(cfg.run_dir).mkdir(parents=True, exist_ok=True)
    write_json(f"{cfg.run_dir}/summary.json", summary)
    print(f"SAC with MI {returns['with_mi']:.1f}, without {returns['without_mi']:.1f}")
    return summary


def main(arguments: list[str]) -> dict[str, Any]:
    """Read the command line and do what it says."""
    return run(compare, "add_mi_to_sac.py", __doc__, AddMI, arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
