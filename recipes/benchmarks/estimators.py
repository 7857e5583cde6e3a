"""Estimators of mutual information side by side: bias, spread and cost where the truth is known.

    python recipes/benchmarks/estimators.py out=docs/results/estimators [draws=16,64]

Two agents, one-dimensional actions `a_i = sqrt(r) z + sqrt(1 - r) n_i` with standard normal z and
n_i, so that `I = -1/2 log(1 - r^2)`. Every estimator has its best score, the true log-ratio (or log
q = the true conditional): what is left is its own. An estimate is the mean over a batch, each row
with M draws under other latents; bias and spread are over batches. Barber-Agakov takes the entropy
from the mixture over M extra latents, as `num_latents=M` of the losses does, or exactly.

The cost is that of a whole update of `MutualInformationLoss`: loss, backward, optimizers. Writes
`estimators.csv`, `cost.csv` and `estimators.png`, and prints the tables of docs/estimators.md.
"""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor
from torchrl.data import Bounded

import vm3ac_modules as vm
from vm3ac_modules.cli.arguments import run
from vm3ac_modules.files import write_text
from vm3ac_modules.functional import (
    barber_agakov_bound,
    club_bound,
    donsker_varadhan_bound,
    gaussian_log_density,
    held_out_nwj_bound,
    infonce_bound,
    mixture_log_prob,
    nwj_bound,
)
from vm3ac_modules.objectives.pairs import ESTIMATORS
from vm3ac_modules.options import Options, option
from vm3ac_modules.testing import LinearGaussianGame

NATS = (0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 4.0)


@dataclass(frozen=True, kw_only=True)
class Comparison(Options):
    """Options of this program."""

    out: str = option("runs/estimators", "where files are written")
    seed: int = option(0, "of the draws", least=0)
    draws: tuple[int, ...] = option((16, 64), "mismatched draws M per row", least=2)
    batch_size: int = option(256, "rows of an estimate", least=1)
    batches: int = option(1000, "estimates per case", least=2)
    updates: int = option(200, "timed updates per estimator", least=1)
    threads: int = option(1, "intra-op threads of torch", least=1)


def game_of(nats: float) -> LinearGaussianGame:
    """Two agents with this much information."""
    share = math.sqrt(1.0 - math.exp(-2.0 * nats))
    one = torch.ones(2, 1, 1, dtype=torch.float64)
    return LinearGaussianGame(share**0.5 * one, 0.0 * one[..., 0], (1.0 - share) * one, one[0])


def estimates(nats: float, batch: tuple[int, int], draws: int) -> dict[str, Tensor]:
    """Every estimator's mean over the rows of each batch, ``[batches]``."""
    game = game_of(nats)
    weight, noise = game.weights[0, 0, 0], game.noise[0, 0, 0].sqrt()
    z, extra = torch.randn(*batch, 1).double(), torch.randn(*batch, draws).double()
    a_i, a_j = weight * z + noise * torch.randn(2, *batch, 1).double()
    others = weight * extra + noise * torch.randn(*batch, draws).double()
    q = game.conditional(1, given=0)
    scale, slope = q.covariance[0, 0].sqrt(), q.matrix[0, 0]

    def log_q(target: Tensor) -> Tensor:
        return gaussian_log_density(target.unsqueeze(-1), (slope * a_i).unsqueeze(-1), scale)

    def log_ratio(target: Tensor) -> Tensor:
        return log_q(target) - gaussian_log_density(
            target.unsqueeze(-1), torch.zeros_like(target).unsqueeze(-1), torch.ones_like(scale)
        )

    heads = gaussian_log_density(
        a_j.unsqueeze(-1), (weight * torch.cat((z, extra), -1)).unsqueeze(-1), noise
    )
    mixture = mixture_log_prob(heads[..., 0], heads[..., 1:])
    matched, mismatched = log_ratio(a_j).squeeze(-1), log_ratio(others)
    # Two parabolas, of which that of q is the steeper one.
    peak = log_ratio(slope * a_i / (1.0 - scale.square()))
    conditional = log_q(a_j).squeeze(-1)
    summands = {
        "Barber-Agakov, exact entropy": barber_agakov_bound(game.entropy(1), conditional).total,
        "Barber-Agakov, H_M": barber_agakov_bound(-mixture, conditional).total,
        "InfoNCE": infonce_bound(matched, mismatched),
        "NWJ": nwj_bound(matched, mismatched),
        "NWJ, held-out offset": held_out_nwj_bound(matched, mismatched, peak.squeeze(-1)),
        "Donsker-Varadhan": donsker_varadhan_bound(matched, mismatched),
        "CLUB (from above)": club_bound(conditional, log_q(others)),
    }
    return {name: values.mean(-1) for name, values in summands.items()}


def compare(cfg: Comparison) -> list[dict[str, Any]]:
    """Bias and spread of every estimator, for every number of draws and amount of information."""
    rows = []
    for draws in cfg.draws:
        for nats in NATS:
            chunks = [
                estimates(nats, (size, cfg.batch_size), draws)
                for size in [100] * (cfg.batches // 100) + [cfg.batches % 100]
                if size
            ]
            for name in chunks[0]:
                found = torch.cat([chunk[name] for chunk in chunks])
                bias, spread = float(found.mean()) - nats, float(found.std())
                rows.append(
                    {
                        "estimator": name,
                        "draws": draws,
                        "information_nats": nats,
                        "bias_nats": bias,
                        "bias_stderr_nats": spread / math.sqrt(cfg.batches),
                        "spread_nats": spread,
                    }
                )
    return rows


def update_of(estimator: Any, draws: int, batch_size: int) -> Callable[[], None]:
    """One update of policies and predictor by an estimator."""
    spec = Bounded(-1.0, 1.0, (2, 2))
    policy = vm.make_policy(vm.LatentSampler(vm.GaussianPrior(8)), vm.make_actor(4, 8, spec))
    predictor = vm.VariationalPredictor(4, spec, scale="learned")
    loss = vm.MutualInformationLoss(policy, predictor, num_latents=draws, estimator=estimator)
    optimizers = [torch.optim.Adam(g, fused=True) for g in loss.parameter_groups().values()]
    agents = {"observation": torch.randn(batch_size, 2, 4), "action": torch.rand(batch_size, 2, 2)}
    batch = TensorDict({"agents": agents}, [batch_size])

    def update() -> None:
        found = loss(batch)
        (found["loss_mi"] + found["loss_predictor"]).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()

    return update


def costs(cfg: Comparison) -> list[dict[str, Any]]:
    """Median milliseconds of an update; estimators alternate."""
    jobs = {
        (name, draws): update_of(name, draws, cfg.batch_size)
        for draws in cfg.draws
        for name in ESTIMATORS
    }
    times: dict[tuple[str, int], list[float]] = {key: [] for key in jobs}
    for repeat in range(cfg.updates + 3):
        for key, job in jobs.items():
            start = time.perf_counter()
            job()
            if repeat >= 3:
                times[key].append(time.perf_counter() - start)
    return [
        {"estimator": name, "draws": draws, "update_ms": 1e3 * statistics.median(found)}
        for (name, draws), found in times.items()
    ]


def measure(cfg: Comparison) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Compare, time, write the files."""
    torch.set_num_threads(cfg.threads)
    torch.manual_seed(cfg.seed)
    Path(cfg.out).mkdir(parents=True, exist_ok=True)
    rows, timed = compare(cfg), costs(cfg)
    for name, table in (("estimators", rows), ("cost", timed)):
        lines = [",".join(table[0]), *(",".join(shown(row.values(), 5, '"')) for row in table)]
        write_text(Path(cfg.out) / f"{name}.csv", "\n".join(lines) + "\n")
    draw(Path(cfg.out) / "estimators.png", cfg, rows)
    return rows, timed


def shown(values: Iterable[Any], digits: int, quote: str = "") -> list[str]:
    """Values as text."""
    return [f"{quote}{x}{quote}" if isinstance(x, str) else f"{x:.{digits}g}" for x in values]


def draw(path: Path, cfg: Comparison, rows: list[dict[str, Any]]) -> None:
    """Bias and spread over the information, at the largest number of draws and the smallest."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.0, 6.4), dpi=110, layout="constrained")
    names = list(dict.fromkeys(row["estimator"] for row in rows))
    marks = dict(zip(names, "osv^<Dx", strict=True))
    numbers = sorted({min(cfg.draws), max(cfg.draws)})
    grid = figure.subplots(len(numbers), 2, squeeze=False)
    for number, (biases, spreads) in zip(numbers, grid, strict=True):
        for name in names:
            mine = [row for row in rows if (row["estimator"], row["draws"]) == (name, number)]
            x = [row["information_nats"] for row in mine]
            style = {"marker": marks[name], "ms": 4, "lw": 1.0, "label": name}
            biases.plot(x, [row["bias_nats"] for row in mine], **style)
            spreads.plot(x, [row["spread_nats"] for row in mine], **style)
        biases.axhline(0.0, color="black", lw=0.6)
        biases.set_ylim(-2.5, 2.5)
        spreads.set_yscale("log")
        biases.set_title(f"bias of a batch of {cfg.batch_size}, M = {number}", fontsize="medium")
        spreads.set_title(f"spread of the same, M = {number}", fontsize="medium")
        for axes in (biases, spreads):
            axes.set(xlabel="mutual information (nats)", ylabel="nats")
            axes.grid(alpha=0.25)
    grid[0, 0].legend(frameon=False, fontsize="small", ncols=2)
    figure.savefig(path)


def cell(bias: float, spread: float) -> str:
    """Bias and spread, with no more digits than they have."""
    return f"{bias:+.2f} ({spread:.2f})" if spread < 20.0 else f"{bias:+.0f} ({spread:.0f})"


def tables(rows: list[dict[str, Any]], timed: list[dict[str, Any]]) -> Iterable[str]:
    """The tables of docs/estimators.md."""
    head = " | ".join(f"{nats:g}" for nats in NATS)
    for number in dict.fromkeys(row["draws"] for row in rows):
        yield f"| M = {number} | {head} |\n|---|{'---|' * len(NATS)}"
        by_name: dict[str, list[Mapping[str, Any]]] = {}
        for row in rows:
            if row["draws"] == number:
                by_name.setdefault(row["estimator"], []).append(row)
        for name, mine in by_name.items():
            cells = [cell(row["bias_nats"], row["spread_nats"]) for row in mine]
            yield f"| {name} | {' | '.join(cells)} |"
        yield ""
    numbers = list(dict.fromkeys(row["draws"] for row in timed))
    yield f"| ms per update (times the first) | {' | '.join(f'M = {n}' for n in numbers)} |"
    yield f"|---|{'---|' * len(numbers)}"
    first = {row["draws"]: row["update_ms"] for row in timed if row["estimator"] == ESTIMATORS[0]}
    for name in ESTIMATORS:
        mine = [row for row in timed if row["estimator"] == name]
        cells = [f"{x['update_ms']:.0f} ({x['update_ms'] / first[x['draws']]:.2f})" for x in mine]
        yield f"| `{name}` | {' | '.join(cells)} |"


def main(arguments: list[str]) -> None:
    """Read the command line, measure, print."""
    rows, timed = run(measure, "estimators.py", __doc__, Comparison, arguments)
    print("\n".join(tables(rows, timed)))


if __name__ == "__main__":
    main(sys.argv[1:])
