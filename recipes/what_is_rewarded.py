"""What the objective rewards where no reward exists: the mutual information it ends with.

    python recipes/what_is_rewarded.py run_dir=runs/what_is_rewarded seed=0

Two agents, a constant observation, a return of zero: all that is left of the objective is its
regularizer, `loss_mi` with `entropy_weight=1`. The paper's form (`vm3ac`) and the tight one
(`vm3ac_tight`) are trained on it, and the true I(a_1; a_2) of both policies is measured. The
paper's form ends at none: its entropy term pays for randomness given z, so depending on z costs
more than the prediction term gives back. The marginal entropy has no such price (docs/readings.md).

The measurement. Given z the agents are independent, so a mixture over L latents gives every density
that is needed, at the pre-squash samples u (a mutual information does not change by the squash):

    I = E log [ p(u_1, u_2) / (p(u_1) p(u_2)) ],   p(u_1, u_2) ~ mean_l pi_1(u_1|z_l) pi_2(u_2|z_l)

With the generating latent among the terms a log-density is too high in expectation, without it too
low. `mi_nats` takes all three with it; `mi_low_nats` and `mi_high_nats` choose a side for each such
that their expectations enclose the truth for every L. `mi_stderr` is over draws. The library's
bracket, `lower_bound_nats` and `upper_bound_nats`, also works where observations vary; its lower
side needs a good predictor, its upper side is I(a; z). `trained_bound_nats` is what a form is
trained on: no information where K = 0. `estimators=true` also trains the tight form with another
estimator in the place of log q; its predictor is a score then, no density, and `lower_bound_nats`
is loose. Adam ignores the scale of a loss: with a zero return `beta`
hardly matters.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor
from torchrl.data import Bounded

import vm3ac_modules as vm
from vm3ac_modules.algorithms import VM3AC, find_preset
from vm3ac_modules.cli.arguments import run
from vm3ac_modules.files import write_json, write_text
from vm3ac_modules.functional.contrastive import CONTRASTIVE
from vm3ac_modules.functional.information import (
    gaussian_log_density,
    leave_one_out_log_prob,
    mixture_log_prob,
)
from vm3ac_modules.learning import evaluation_seed, fork_rng, seed_everything
from vm3ac_modules.objectives import PolicyReader
from vm3ac_modules.options import Options, OptionsError, option
from vm3ac_modules.runs import git_commit, open_run_directory, versions

PAPER = find_preset("vm3ac", "continuous").options
TIGHT = find_preset("vm3ac_tight", "continuous").options
# The log standard deviation of policies starts at -2.
FORMS: dict[str, Any] = {"vm3ac": (PAPER, -2.0), "vm3ac_tight": (TIGHT, -2.0)}
CONTROLS: dict[str, Any] = {
    "control_paper_form_in_basin": (replace(PAPER, latent_gain=3.0), -2.0),
    "control_tight_outside_basin": (replace(TIGHT, latent_gain=1.0), 0.0),
}
ESTIMATES: dict[str, Any] = {
    f"vm3ac_tight_{name}": (replace(TIGHT, estimator=name), -2.0) for name in CONTRASTIVE
}
SLICE = 64  # draws that are scored at once


@dataclass(frozen=True, kw_only=True)
class Rewarded(Options):
    """Options of this program."""

    run_dir: str = option("runs/what_is_rewarded", "where files are written")
    overwrite: bool = option(False, "replace what run_dir holds")
    seed: int = option(0, "of networks and noise", least=0)
    updates: int = option(2500, "of each form", least=0)
    beta: float = option(1.0, "weight of the term", least=0)
    batch_size: int = option(256, "rows of an update", least=1)
    lr: float = option(3e-4, "learning rate of policies and predictor", above=0)
    num_latents: int = option(16, "extra latents K of the tight form; 64 reaches 2 nats", least=2)
    action_dim: int = option(2, "components of an action", least=1)
    latent_dim: int = option(8, "size of the latent z", least=1)
    hidden: int = option(128, "width of both hidden layers", least=1)
    presets: bool = option(True, "train the two presets")
    controls: bool = option(False, "also train both forms from other starts")
    estimators: bool = option(False, "also train the tight form by the other estimators")
    eval_every: int = option(250, "updates between two points of the curves", least=1)
    draws: int = option(2048, "joint actions per measurement; four times at the end", least=2)
    latents: int = option(8192, "latents L of the mixtures", least=1)
    bracket_latents: int = option(1024, "extra latents of the library's bracket", least=2)
    bracket_rows: int = option(128, "rows of the bracket; eight times at the end", least=1)
    threads: int = option(1, "intra-op threads of torch", least=1)


class Game:
    """One form of the objective on the game without a return.

    Args:
        cfg: options of this program.
        form: options of VM3-AC.
        initial_log_std: log standard deviation that the policies start with.
    """

    def __init__(self, cfg: Rewarded, form: VM3AC, initial_log_std: float = -2.0) -> None:
        spec, hidden = Bounded(-1.0, 1.0, (2, cfg.action_dim)), [cfg.hidden, cfg.hidden]
        sampler = vm.LatentSampler(vm.GaussianPrior(cfg.latent_dim))
        head = {**form.pick("log_std", "latent_gain"), "initial_log_std": initial_log_std}
        actor = vm.make_actor(1, cfg.latent_dim, spec, hidden=hidden, **head)
        options = {"scale": form.predictor_scale, "normalized": form.predictor_normalized}
        predictor = vm.VariationalPredictor(1, spec, hidden=hidden, **options)
        policy = vm.make_policy(sampler, actor)
        self.cfg, self.num_latents = cfg, form.num_latents
        self.contrastive = form.estimator in CONTRASTIVE
        self.prior, self.reader = sampler.prior, PolicyReader(policy)
        self.loss = vm.MutualInformationLoss(
            policy,
            predictor,
            weight=cfg.beta,
            entropy_weight=1.0,
            num_latents=self.num_latents,
            **form.pick("pair_weight", "reverse_model", "estimator", "pairs"),
        )
        groups = self.loss.parameter_groups().values()
        self.optimizers = [torch.optim.Adam(group, lr=cfg.lr, fused=True) for group in groups]
        self.batch = self.observations(cfg.batch_size)

    def observations(self, rows: int) -> TensorDict:
        """Nothing to observe; of the actions only the shape is read."""
        action = torch.zeros(rows, 2, self.cfg.action_dim)
        return TensorDict({"agents": {"observation": action[..., :1], "action": action}}, [rows])

    def update(self) -> None:
        """Step the policies' optimizer and the predictor's."""
        losses = self.loss(self.batch)
        (losses["loss_mi"] + losses["loss_predictor"]).backward()
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()

    def measure(self, *, final: bool = False) -> dict[str, float]:
        """Measure the policies, without moving the training's random numbers."""
        cfg = self.cfg
        with fork_rng(evaluation_seed(cfg.seed)):
            draws = cfg.draws * (4 if final else 1)
            found = true_information(self.reader, self.prior, draws, cfg.latents)
            rows = self.observations(cfg.bracket_rows)
            repeats = range(8 if final else 1)
            brackets = [self.loss.diagnose(rows, cfg.bracket_latents) for _ in repeats]
            trained = [self._trained_bound(rows) for _ in repeats]
        bracket = {
            "lower_bound_nats": [b.lower[0, 1] for b in brackets],
            "upper_bound_nats": [b.upper[0, 1] for b in brackets],
            "trained_bound_nats": trained,
            "latent_share": [b.latent_share.mean() for b in brackets],
        }
        return found | {key: float(torch.stack(v).mean()) for key, v in bracket.items()}

    @torch.no_grad()
    def _trained_bound(self, rows: TensorDict) -> Tensor:
        """What the form is trained on, on other rows."""
        if self.contrastive:
            return self.loss(rows)["mi_estimate"]
        found = self.loss.diagnose(rows, max(self.num_latents, 2))
        return (found.lower if self.num_latents else found.surrogate)[0, 1]


@torch.no_grad()
def true_information(
    reader: PolicyReader, prior: vm.GaussianPrior, draws: int, latents: int
) -> dict[str, float]:
    """Estimate I(a_1; a_2) at a constant observation from mixtures over latents (nats)."""
    one = TensorDict({"agents": {"observation": torch.zeros(1, 2, 1)}}, [1])
    loc, scale = (head[0] for head in reader.many_heads(one, prior.sample((1, draws))))
    mixture = [head[0] for head in reader.many_heads(one, prior.sample((1, latents)))]
    u = loc + scale * torch.randn_like(loc)
    parts = [
        torch.stack(log_densities(*rows, *mixture))
        for rows in zip(u.split(SLICE), loc.split(SLICE), scale.split(SLICE), strict=True)
    ]
    high, low = torch.cat(parts, dim=1)  # [M, 3] each: of u_1, of u_2, of both
    ratio = high[:, 2] - high[:, 0] - high[:, 1]
    return {
        "mi_nats": float(ratio.mean()),
        "mi_stderr": float(ratio.std() / draws**0.5),
        "mi_low_nats": float((low[:, 2] - high[:, 0] - high[:, 1]).mean()),
        "mi_high_nats": float((high[:, 2] - low[:, 0] - low[:, 1]).mean()),
    }


def log_densities(
    u: Tensor, loc: Tensor, scale: Tensor, mixture_loc: Tensor, mixture_scale: Tensor
) -> tuple[Tensor, Tensor]:
    """Log-densities of u_1, u_2 and both, ``[M, 3]``, with and without the generating latent."""

    def with_joint(log_prob: Tensor) -> Tensor:
        return torch.cat((log_prob, log_prob.sum(-1, keepdim=True)), dim=-1)

    own = with_joint(gaussian_log_density(u, loc, scale))
    terms = with_joint(gaussian_log_density(u.unsqueeze(1), mixture_loc, mixture_scale))
    terms = terms.transpose(1, 2)
    return mixture_log_prob(own, terms), leave_one_out_log_prob(terms)


def train(cfg: Rewarded, form: VM3AC, initial_log_std: float) -> list[dict[str, float]]:
    """Train one form and measure it on the way; the last row is the final measurement."""
    seed_everything(cfg.seed)
    if form.num_latents:
        form = replace(form, num_latents=cfg.num_latents)
    game = Game(cfg, form, initial_log_std)
    rows = []
    for update in range(cfg.updates + 1):
        if update == cfg.updates or update % cfg.eval_every == 0:
            rows.append({"update": update, **game.measure(final=update == cfg.updates)})
        if update < cfg.updates:
            game.update()
    return rows


def measure(cfg: Rewarded) -> dict[str, Any]:
    """Train every form, write the run's files and return the summary."""
    torch.set_num_threads(cfg.threads)
    run_dir = open_run_directory(cfg.run_dir, resume=False, overwrite=cfg.overwrite)
    started = time.monotonic()
    groups = ((cfg.presets, FORMS), (cfg.controls, CONTROLS), (cfg.estimators, ESTIMATES))
    forms = {name: form for wanted, group in groups if wanted for name, form in group.items()}
    if not forms:
        raise OptionsError("nothing to train: presets, controls and estimators are all false.")
    curves = {name: train(cfg, *form) for name, form in forms.items()}
    summary: dict[str, Any] = {}
    for name, rows in curves.items():
        for key in list(rows[-1])[1:]:
            summary[f"{name}_{key}"] = round(rows[-1][key], 4) + 0.0  # no negative zero
    summary |= {
        "seed": cfg.seed,
        "updates": cfg.updates,
        "wall_seconds": round(time.monotonic() - started, 1),
        "config": {k: v for k, v in cfg.to_dict().items() if k not in ("run_dir", "overwrite")},
        "versions": versions(),
        "git_commit": git_commit(Path(__file__).parent),
    }
    write_curves(run_dir / "mi.csv", curves)
    draw(run_dir / "what_is_rewarded.png", cfg, curves)
    write_json(run_dir / "summary.json", summary)
    return summary


def write_curves(path: Path, curves: Mapping[str, list[dict[str, float]]]) -> None:
    """Write one row per form and measurement."""
    lines = [["form", *next(iter(curves.values()))[0]]]
    for name, rows in curves.items():
        lines += [[name, *(f"{value:.5g}" for value in row.values())] for row in rows]
    write_text(path, "".join(",".join(line) + "\n" for line in lines))


def draw(path: Path, cfg: Rewarded, curves: Mapping[str, list[dict[str, float]]]) -> None:
    """Draw the true mutual information with its bracket, and what each form is trained on."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 3.8), dpi=110, layout="constrained")
    true, trained = figure.subplots(1, 2)
    styles = [("0.55", "s", "--"), ("black", "o", "-"), ("0.55", "^", ":"), ("black", "v", ":")]
    colored = [("tab:blue", "D", "-"), ("tab:red", "P", "-"), ("tab:green", "X", "-")]
    look = dict(zip([*FORMS, *CONTROLS], styles, strict=True))
    look |= zip(ESTIMATES, colored, strict=True)
    hatched = {"facecolor": "none", "edgecolor": "0.75", "hatch": "///"}
    fills = {"vm3ac": hatched, "vm3ac_tight": {"facecolor": "0.85", "edgecolor": "none"}}
    for name, rows in curves.items():
        color, marker, line = look[name]
        column = {key: [row[key] for row in rows] for key in rows[0]}
        x, style = column["update"], {"color": color, "marker": marker, "ls": line, "ms": 4}
        true.plot(x, column["mi_nats"], label=f"{name}: true", zorder=3, **style)
        trained.plot(x, column["trained_bound_nats"], label=name, **style)
        if name in fills:
            low, high = column["lower_bound_nats"], column["upper_bound_nats"]
            true.fill_between(x, low, high, lw=0, label=f"{name}: bracket", **fills[name])
    top = max(row["upper_bound_nats"] for rows in curves.values() for row in rows)
    true.set_ylim(-0.8, 1.6 * max(top, 0.5))
    true.set_title("I(a$_1$; a$_2$) at a return of zero", fontsize="medium")
    title = f"training surrogate (vm3ac: K = 0, no MI; tight: K = {cfg.num_latents})"
    trained.set_title(title, fontsize="medium")
    for axes in (true, trained):
        axes.axhline(0.0, color="black", lw=0.6)
        axes.grid(alpha=0.25)
        axes.set(xlabel="updates", ylabel="nats")
        axes.legend(frameon=False, fontsize="small", ncols=2 if axes is true and cfg.presets else 1)
    figure.savefig(path)


def main(arguments: list[str]) -> dict[str, Any]:
    """Read the command line, do what it says, and print what was found."""
    summary = run(measure, "what_is_rewarded.py", __doc__, Rewarded, arguments)
    for name in [*FORMS, *ESTIMATES]:
        if f"{name}_mi_nats" not in summary:
            continue
        value, low, high = (summary[f"{name}_mi{side}_nats"] for side in ("", "_low", "_high"))
        form = f"K = {0 if name == 'vm3ac' else summary['config']['num_latents']}"
        print(f"{name} ({form}): I(a1; a2) = {value:z.3f} nats [{low:z.3f}, {high:z.3f}]")
    return summary


if __name__ == "__main__":
    main(sys.argv[1:])
