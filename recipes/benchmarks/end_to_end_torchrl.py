"""A multi-agent SAC from TorchRL's parts alone, with the sizes of end_to_end.py.

python recipes/benchmarks/end_to_end_torchrl.py FRAMES

Collect a quarter of the frames, do their updates, evaluate, as TorchRL's own multi-agent programs
do: VmasEnv, Collector, replay buffer, SACLoss, SoftUpdate; critics of every agent see all
observations and actions.
"""

from __future__ import annotations

import sys

import torch
from tensordict import TensorDictBase
from tensordict.nn import NormalParamExtractor, TensorDictModule, TensorDictSequential
from torch import nn
from torchrl.collectors import Collector
from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer
from torchrl.envs import EnvBase, MarlGroupMapType, StepCounter, TransformedEnv, VmasEnv
from torchrl.envs.utils import ExplorationType, set_exploration_type
from torchrl.modules import MultiAgentMLP, ProbabilisticActor, TanhNormal
from torchrl.objectives import SACLoss, SoftUpdate

ROWS, BATCH, LIMIT = 32, 128, 100
OBSERVATION, ACTION = ("agents", "observation"), ("agents", "action")


def make_env(rows: int) -> EnvBase:
    """Navigation of three agents with a time limit."""
    group = MarlGroupMapType.ALL_IN_ONE_GROUP
    env = VmasEnv("navigation", num_envs=rows, seed=0, n_agents=3, group_map=group)
    return TransformedEnv(env, StepCounter(LIMIT))


def network(inputs: int, outputs: int, *, centralized: bool) -> nn.Module:
    """A network of 2 x 128 per agent."""
    return MultiAgentMLP(
        inputs,
        outputs,
        n_agents=3,
        centralized=centralized,
        share_params=False,
        depth=2,
        num_cells=128,
        activation_class=nn.ReLU,
    )


def make_loss(env: EnvBase) -> SACLoss:
    """Policy, twin critics and SAC's loss with its target critics."""
    spec = env.full_action_spec_unbatched[ACTION]
    observed = env.observation_spec[OBSERVATION].shape[-1]
    heads = nn.Sequential(
        network(observed, 2 * spec.shape[-1], centralized=False), NormalParamExtractor()
    )
    parameters = [("agents", "loc"), ("agents", "scale")]
    actor = ProbabilisticActor(
        TensorDictModule(heads, in_keys=[OBSERVATION], out_keys=parameters),
        spec=spec,
        in_keys=parameters,
        out_keys=[ACTION],
        distribution_class=TanhNormal,
        distribution_kwargs={"low": spec.space.low, "high": spec.space.high},
        return_log_prob=True,
        log_prob_key=("agents", "log_prob"),
    )
    both = ("agents", "both")
    join = TensorDictModule(
        lambda seen, done: torch.cat((seen, done), -1),
        in_keys=[OBSERVATION, ACTION],
        out_keys=[both],
    )
    value = TensorDictModule(
        network(observed + spec.shape[-1], 1, centralized=True),
        in_keys=[both],
        out_keys=[("agents", "state_action_value")],
    )
    loss = SACLoss(actor, TensorDictSequential(join, value), num_qvalue_nets=2)
    loss.set_keys(
        action=ACTION,
        state_action_value=("agents", "state_action_value"),
        log_prob=("agents", "log_prob"),
        reward=("agents", "reward"),
        done=("agents", "done"),
        terminated=("agents", "terminated"),
    )
    loss.make_value_estimator(gamma=0.99)
    return loss


def completed(data: TensorDictBase) -> TensorDictBase:
    """The ends of episodes under the group too, one per agent, as the loss reads them."""
    shape = data["next", "agents", "reward"].shape
    for name in ("done", "terminated"):
        data["next", "agents", name] = data["next", name].unsqueeze(-1).expand(shape).clone()
    return data.reshape(-1)


def main(frames: int) -> None:
    """Collect, update, evaluate."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    quarter, env = frames // 4, make_env(ROWS)
    loss = make_loss(env)
    target = SoftUpdate(loss, tau=0.005)
    optimizer = torch.optim.Adam(loss.parameters(), lr=3e-4, fused=True)
    replay = TensorDictReplayBuffer(storage=LazyTensorStorage(frames), batch_size=BATCH)
    collector = Collector(
        env,
        loss.actor_network,
        frames_per_batch=quarter,
        total_frames=frames,
        init_random_frames=320,
    )
    judge = make_env(10)
    for data in collector:
        replay.extend(completed(data))
        for _ in range(2 * quarter // ROWS):
            losses = loss(replay.sample())
            total = sum(value for key, value in losses.items() if key.startswith("loss_"))
            total.backward()
            optimizer.step()
            optimizer.zero_grad()
            target.step()
        with torch.no_grad(), set_exploration_type(ExplorationType.DETERMINISTIC):
            judge.rollout(LIMIT, loss.actor_network, break_when_any_done=False)
    collector.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]))
