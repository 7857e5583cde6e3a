r"""Milliseconds of one VM3-AC update against plain torch and against TorchRL's SACLoss.

One update is loss, backward, optimizers and target network on a batch that is already sampled.
The contestants run in one process, alternating. Sizes are fixed: O = 20, A = 2, Z = 8, K = 0,
networks of 2 x 128, critics on all observations, fused Adam.

    python recipes/benchmarks/update_step.py agents=2 batch=128 [threads=2] [json=true]
    python recipes/benchmarks/update_step.py agents=2,4,8,16,32,64 pairs=1 threads=1 clock=cpu \
        out=docs/results/update_step

Of several numbers of agents the exponent of the cost is fitted, by least squares of its logarithm.
`out` keeps the rows in `update_step.csv`, in place of earlier ones of the same name, and draws
them. Plain torch knows all pairs, plain critics and unshared networks only, and stands aside
elsewhere; SACLoss stays unshared with plain critics whatever VM3-AC has.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from cost_curve import curves, exponent, record, table
from tensordict import TensorDict
from tensordict.nn import NormalParamExtractor, TensorDictModule
from timing import take_turns
from torch import Tensor, nn
from torchrl.data import Bounded
from torchrl.modules import MultiAgentMLP, ProbabilisticActor, TanhNormal
from torchrl.objectives import SACLoss, SoftUpdate

import vm3ac_modules as vm
from vm3ac_modules.cli.arguments import run
from vm3ac_modules.learning import FusedSoftUpdate, seed_everything
from vm3ac_modules.learning.capture import CapturedUpdate
from vm3ac_modules.options import Options, option
from vm3ac_modules.testing.plain_vm3ac import PlainVM3AC

OBS, A, Z, H = 20, 2, 8, 128
BETA, GAMMA, TAU, LR, SIGMA = 0.1, 0.99, 0.005, 3e-4, 0.2


@dataclass(frozen=True, kw_only=True)
class UpdateStep(Options):
    """Options of this program."""

    agents: tuple[int, ...] = option((2,), "numbers of agents N", least=2)
    batch: int = option(128, "transitions per update B", least=1)
    threads: int = option(2, "intra-op threads of torch", least=1)
    repeats: int = option(
        200, "timed updates of each contestant with two agents; with N 2/N of them", least=1
    )
    pairs: int | None = option(
        None, "partners of every agent that VM3-AC draws, N - 1 at most; null: all", least=1
    )
    critic: str = option("plain", "VM3-AC's critics", choices=("plain", "emphasized", "attention"))
    share_params: bool = option(False, "one network of each kind for all agents of VM3-AC")
    clock: str = option(
        "wall",
        "the median of wall time, or the least CPU time, which other programs disturb less",
        choices=("wall", "cpu"),
    )
    profile: int = option(
        0, "print so many of the operations that VM3-AC's update spends most time in", least=0
    )
    json: bool = option(False, "print one JSON object")
    out: str = option("", "directory where rows, table and picture are kept")

    @property
    def name(self) -> str:
        """What sets this VM3-AC apart."""
        parts = ["all pairs" if self.pairs is None else f"pairs={self.pairs}"]
        parts += [f"critic={self.critic}"] if self.critic != "plain" else []
        parts += ["share_params"] if self.share_params else []
        return f"vm3ac ({', '.join(parts)})"


def make_batch(num_agents: int, batch: int) -> TensorDict:
    """Random transitions with done flags at the root and under the group (for SACLoss)."""
    agents = {"observation": torch.randn(batch, num_agents, OBS)}
    following = {
        "observation": torch.randn(batch, num_agents, OBS),
        "reward": torch.randn(batch, num_agents, 1),
        "done": torch.zeros(batch, num_agents, 1, dtype=torch.bool),
        "terminated": torch.zeros(batch, num_agents, 1, dtype=torch.bool),
    }
    agents["action"] = torch.rand(batch, num_agents, A) * 2 - 1
    flag = torch.zeros(batch, 1, dtype=torch.bool)
    return TensorDict(
        {"agents": agents, "next": {"agents": following, "terminated": flag, "done": flag}}, [batch]
    )


def vm3ac_update(
    num_agents: int,
    td: TensorDict,
    chosen: UpdateStep | None = None,
    *,
    captured: bool = False,
    compiled: bool = False,
) -> Callable[[], object]:
    """The library's own update, as trainings do it; ``captured`` as one CUDA graph."""
    chosen = UpdateStep() if chosen is None else chosen
    spec = Bounded(-1.0, 1.0, (num_agents, A))
    sampler = vm.LatentSampler(vm.GaussianPrior(Z))
    shared: dict[str, Any] = {"share_params": chosen.share_params}
    loss = vm.VM3ACLoss(
        vm.make_policy(sampler, vm.make_actor(OBS, Z, spec, **shared)),
        vm.make_action_value(OBS, A, num_agents, form=chosen.critic, **shared),
        vm.make_state_value(OBS, num_agents, form=chosen.critic, **shared),
        vm.VariationalPredictor(OBS, spec, scale=SIGMA, normalized=False, **shared),
        beta=BETA,
        gamma=GAMMA,
        pairs=None if chosen.pairs is None else min(chosen.pairs, num_agents - 1),
    ).to(td.device)
    if compiled:
        loss.compile()
    target = FusedSoftUpdate(loss, tau=TAU)
    optimizers = {
        name: torch.optim.Adam(group, lr=LR, fused=True)
        for name, group in loss.parameter_groups().items()
    }

    def update(batch: TensorDict = td, max_grad_norm: float | None = None) -> dict[str, Tensor]:
        losses = loss(batch, loss.draw_noise(batch))
        torch.stack([losses[name] for name in optimizers]).sum().backward()
        for optimizer in optimizers.values():
            optimizer.step()
            optimizer.zero_grad()
        target.step()
        return {str(name): value.detach() for name, value in losses.items()}

    if not captured:
        return update
    graph = CapturedUpdate(update, list(optimizers.values()))
    return lambda: graph(td, None)


def torchrl_sac_update(num_agents: int, td: TensorDict) -> Callable[[], None]:
    """TorchRL's SACLoss over unshared multi-agent networks with a centralized critic."""
    options = {"n_agents": num_agents, "share_params": False, "depth": 2, "num_cells": H}
    options["activation_class"] = nn.ReLU
    policy = MultiAgentMLP(n_agent_inputs=OBS, n_agent_outputs=2 * A, centralised=False, **options)
    critic = MultiAgentMLP(n_agent_inputs=OBS + A, n_agent_outputs=1, centralised=True, **options)
    group = "agents"
    actor = ProbabilisticActor(
        TensorDictModule(
            nn.Sequential(policy, NormalParamExtractor()),
            in_keys=[(group, "observation")],
            out_keys=[(group, "loc"), (group, "scale")],
        ),
        in_keys=[(group, "loc"), (group, "scale")],
        out_keys=[(group, "action")],
        distribution_class=TanhNormal,
        distribution_kwargs={"low": -1.0, "high": 1.0},
        return_log_prob=True,
        log_prob_key=(group, "log_prob"),
    )
    q_value = TensorDictModule(
        lambda_cat(critic),
        in_keys=[(group, "observation"), (group, "action")],
        out_keys=[(group, "state_action_value")],
    )
    loss = SACLoss(
        actor,
        q_value,
        num_qvalue_nets=2,
        loss_function="l2",
        fixed_alpha=True,
        alpha_init=BETA,
        delay_qvalue=True,
        action_spec=Bounded(-1.0, 1.0, (num_agents, A)),
    )
    loss.set_keys(
        action=(group, "action"),
        log_prob=(group, "log_prob"),
        state_action_value=(group, "state_action_value"),
        reward=(group, "reward"),
        done=(group, "done"),
        terminated=(group, "terminated"),
    )
    loss.make_value_estimator(gamma=GAMMA)
    loss.to(td.device)
    target = SoftUpdate(loss, tau=TAU)
    optimizers = [
        torch.optim.Adam(params.flatten_keys().values(), lr=LR, fused=True)
        for params in (loss.actor_network_params, loss.qvalue_network_params)
    ]

    def update() -> None:
        # SACLoss writes into the batch that it is given.
        losses = loss(td.clone(False))
        (losses["loss_actor"] + losses["loss_qvalue"]).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        target.step()

    return update


def lambda_cat(critic: nn.Module) -> nn.Module:
    """Concatenate observation and action before a critic."""

    class _Cat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.critic = critic

        def forward(self, observation: Tensor, action: Tensor) -> Tensor:
            return self.critic(torch.cat((observation, action), dim=-1))

    return _Cat()


def reference_update(num_agents: int, td: TensorDict) -> Callable[[], None]:
    """The same arithmetic by hand: stacked weights, ``baddbmm``, no modules, no tensordicts."""
    return PlainVM3AC(num_agents, td, beta=BETA, gamma=GAMMA, tau=TAU, lr=LR, sigma=SIGMA).update


def contestants(args: UpdateStep, num_agents: int) -> dict[str, Callable[[], None]]:
    """What takes turns, by name."""
    td = make_batch(num_agents, args.batch)
    found = {args.name: vm3ac_update(num_agents, td, args)}
    if args.pairs is None and args.critic == "plain" and not args.share_params:
        found["reference"] = reference_update(num_agents, td)
    return {**found, "torchrl_sac": torchrl_sac_update(num_agents, td)}


def measure(args: UpdateStep, num_agents: int) -> dict[str, float]:
    """Milliseconds of every contestant, alternating, after a warm-up."""
    wall = args.clock == "wall"
    clock, summary = (time.perf_counter, statistics.median) if wall else (time.process_time, min)
    rounds = max(args.repeats * 2 // num_agents, 1)
    times = take_turns(contestants(args, num_agents), rounds, warmup=min(20, rounds), clock=clock)
    return {name: 1e3 * summary(seconds) for name, seconds in times.items()}


def largest(update: Callable[[], None], count: int) -> Iterable[str]:
    """Lines of Markdown: where the time of an update goes, and in how many calls."""
    rounds = 10
    for _ in range(rounds):
        update()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as found:
        for _ in range(rounds):
            update()
    rows = sorted(found.key_averages(), key=lambda row: row.self_cpu_time_total, reverse=True)
    total = sum(row.self_cpu_time_total for row in rows)
    yield "| operation | ms per update | share | calls |"
    yield "|---|---|---|---|"
    for row in rows[:count]:
        ms, share = row.self_cpu_time_total / 1e3 / rounds, row.self_cpu_time_total / total
        yield f"| `{row.key}` | {ms:.2f} | {share:.0%} | {row.count / rounds:.0f} |"


def compare(args: UpdateStep) -> None:
    """Measure, print, keep."""
    torch.set_num_threads(args.threads)
    seed_everything(0)
    setting = {key: getattr(args, key) for key in ("batch", "threads", "clock")}
    rows: list[dict[str, Any]] = []
    for num_agents in args.agents:
        found = measure(args, num_agents)
        for name, ms in found.items():
            # Of the same turns, so that it holds whatever else the machine did meanwhile.
            times_sac = ms / found["torchrl_sac"]
            row = {"series": name, "agents": num_agents, "ms": ms, "times_sac": times_sac}
            rows.append({**row, **setting})
            if not args.json:
                head = f"N={num_agents} B={args.batch} threads={args.threads} {name:24s}"
                print(
                    f"{head} {ms:8.2f} ms   vm3ac / this = {found[args.name] / ms:.2f}", flush=True
                )
        if args.profile and not args.json:
            update = vm3ac_update(num_agents, make_batch(num_agents, args.batch), args)
            print("\n".join(largest(update, args.profile)))
    cost = curves(rows)
    if args.json:
        exponents = (
            {name: exponent(each) for name, each in cost.items()} if len(args.agents) > 1 else {}
        )
        print(json.dumps({"rows": rows, "exponents": exponents}))
    elif len(args.agents) > 1:
        print("\n".join(table(cost)))
    if args.out:
        record(Path(args.out), "update_step", rows)


def main(arguments: list[str]) -> None:
    """Read the command line and do what it says."""
    run(compare, "update_step.py", __doc__, UpdateStep, arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
