"""The recipe that measures what the objective rewards without a return."""

from __future__ import annotations

import csv
import json
import math
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("matplotlib")

sys.path.insert(0, str(Path(__file__).parents[2] / "recipes"))

import vm3ac_modules as vm
from vm3ac_modules.algorithms import find_preset
from vm3ac_modules.functional.information import gaussian_log_density

TINY = "updates=4 eval_every=2 batch_size=8 hidden=8 latent_dim=2 action_dim=1 draws=64 latents=32"
BRACKET = "bracket_latents=8 bracket_rows=4"


@pytest.fixture(scope="module")
def recipe():
    import what_is_rewarded

    return what_is_rewarded


@pytest.fixture(autouse=True)
def _same_threads_after():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def tiny(run_dir, *more):
    return [f"run_dir={run_dir}", *TINY.split(), *BRACKET.split(), *more]


def test_a_tiny_run_writes_its_files(recipe, tmp_path, capsys):
    returned = recipe.main(tiny(tmp_path, "controls=true"))
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary == returned
    names = ["vm3ac", "vm3ac_tight", *recipe.CONTROLS]
    parts = ["mi_nats", "mi_stderr", "mi_low_nats", "mi_high_nats", "lower_bound_nats"]
    parts += ["upper_bound_nats", "trained_bound_nats", "latent_share"]
    common = {"seed", "updates", "wall_seconds", "config", "versions", "git_commit"}
    assert common | {f"{name}_{part}" for name in names for part in parts} == set(summary)
    assert str(tmp_path) not in json.dumps(summary)
    rows = list(csv.DictReader((tmp_path / "mi.csv").read_text().splitlines()))
    assert [(row["form"], row["update"]) for row in rows] == [
        (name, update) for name in names for update in ("0", "2", "4")
    ]
    assert (tmp_path / "what_is_rewarded.png").read_bytes().startswith(b"\x89PNG")
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_the_other_estimators_are_trained_on_request(recipe, tmp_path, capsys):
    summary = recipe.main(tiny(tmp_path, "estimators=true", "controls=true"))
    for name in ("infonce", "nwj", "donsker_varadhan"):
        assert isinstance(summary[f"vm3ac_tight_{name}_trained_bound_nats"], float)
    # What the other forms train on does not move with it.
    plain = recipe.main(tiny(tmp_path / "plain", "controls=true"))
    alike = [key for key in plain if key.endswith(("_nats", "_share"))]
    assert {key: summary[key] for key in alike} == {key: plain[key] for key in alike}
    assert summary["vm3ac_tight_infonce_trained_bound_nats"] <= math.log(17)
    assert len(capsys.readouterr().out.splitlines()) == 5 + 2
    alone = recipe.main(tiny(tmp_path / "alone", "presets=false", "estimators=true"))
    own = [key for key in summary if key.startswith("vm3ac_tight_infonce")]
    assert {key: alone[key] for key in own} == {key: summary[key] for key in own}
    assert "vm3ac_tight_mi_nats" not in alone
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_nothing_to_train(recipe, tmp_path, capsys):
    with pytest.raises(SystemExit):
        recipe.main(tiny(tmp_path, "presets=false"))
    assert "nothing to train" in capsys.readouterr().err


def test_the_forms_are_the_presets(recipe):
    cfg = recipe.Rewarded(hidden=8)
    presets = {name: find_preset(name, "continuous").options for name in recipe.FORMS}
    assert {name: form for name, (form, _) in recipe.FORMS.items()} == presets
    games = {name: recipe.Game(cfg, options) for name, options in presets.items()}
    assert [game.num_latents for game in games.values()] == [0, 16]
    learns = [game.loss.predictor_network.learns_scale for game in games.values()]
    assert learns == [False, True]
    assert [game.loss.predictor_network.normalized for game in games.values()] == learns


def test_measuring_leaves_training_alone(recipe, tmp_path):
    often = recipe.main(tiny(tmp_path / "a", "eval_every=1"))
    rarely = recipe.main(tiny(tmp_path / "b"))
    drop = {"wall_seconds", "config"}
    assert {k: v for k, v in often.items() if k not in drop} == {
        k: v for k, v in rarely.items() if k not in drop
    }


class LinearReader:
    """Heads that are linear in a scalar latent: their mutual information is known."""

    def __init__(self, std):
        self.std = torch.tensor(std)

    def many_heads(self, tensordict, latents):
        loc = latents.unsqueeze(-1).expand(*latents.shape[:-1], 2, 1)
        return loc, self.std.expand_as(loc)


@pytest.mark.parametrize("std", [0.3, 1.0, 5.0])
def test_the_estimator_on_a_linear_gaussian_game(recipe, std):
    share = 1.0 / (1.0 + std**2)
    exact = -0.5 * torch.log1p(torch.tensor(-(share**2))).item()
    found = recipe.true_information(LinearReader(std), vm.GaussianPrior(1), 4096, 4096)
    margin = 6 * found["mi_stderr"]
    assert abs(found["mi_nats"] - exact) < margin + 0.01
    assert found["mi_low_nats"] < found["mi_nats"] < found["mi_high_nats"]
    assert found["mi_high_nats"] - found["mi_low_nats"] < 0.02


def test_few_latents_widen_the_enclosure_but_do_not_break_it(recipe):
    exact = -0.5 * torch.log1p(torch.tensor(-((1.0 / 1.01) ** 2))).item()
    found = recipe.true_information(LinearReader(0.1), vm.GaussianPrior(1), 4096, 64)
    margin = 6 * found["mi_stderr"]
    assert found["mi_low_nats"] - margin <= exact <= found["mi_high_nats"] + margin
    assert found["mi_high_nats"] - found["mi_low_nats"] > 0.05


def test_log_densities_are_those_of_a_loop(recipe):
    u, loc, scale = torch.randn(3, 2, 2), torch.randn(3, 2, 2), torch.rand(3, 2, 2) + 0.1
    centers, widths = torch.randn(5, 2, 2), torch.rand(5, 2, 2) + 0.1
    inside, outside = recipe.log_densities(u, loc, scale, centers, widths)
    for m in range(3):
        own = gaussian_log_density(u[m], loc[m], scale[m]).exp()
        terms = [gaussian_log_density(u[m], centers[k], widths[k]).exp() for k in range(5)]
        for column, pick in enumerate((lambda p: p[0], lambda p: p[1], lambda p: p[0] * p[1])):
            without = sum(pick(p) for p in terms)
            torch.testing.assert_close(outside[m, column].exp(), without / 5)
            torch.testing.assert_close(inside[m, column].exp(), (without + pick(own)) / 6)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["betta=1"], "unknown option 'betta' of what_is_rewarded.py (did you mean 'beta'?"),
        (["updates"], "not of the form key=value"),
        (["updates=many"], "updates must be an integer >= 0, got 'many'"),
        (["beta=-1"], "beta must be a number >= 0, got -1"),
    ],
)
def test_what_cannot_be_meant_ends_with_one_sentence(recipe, tmp_path, capsys, arguments, said):
    with pytest.raises(SystemExit) as stop:
        recipe.main([f"run_dir={tmp_path}", *arguments])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1


def test_a_run_is_not_overwritten_unasked(recipe, tmp_path, capsys):
    recipe.main(tiny(tmp_path))
    with pytest.raises(SystemExit):
        recipe.main(tiny(tmp_path))
    assert "overwrite=true" in capsys.readouterr().err
    recipe.main(tiny(tmp_path, "overwrite=true", "seed=1"))
    assert json.loads((tmp_path / "summary.json").read_text())["seed"] == 1


def test_help_lists_every_knob(recipe, capsys):
    with pytest.raises(SystemExit) as stop:
        recipe.main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert all(f"{key}=" in text for key in recipe.Rewarded.names())


@pytest.mark.slow
def test_the_tight_form_rewards_information_and_the_paper_form_does_not(recipe, tmp_path):
    summary = recipe.main([f"run_dir={tmp_path}", "seed=0"])
    assert summary["vm3ac_tight_mi_low_nats"] > 1.0
    assert abs(summary["vm3ac_mi_nats"]) < 0.1
    assert summary["vm3ac_mi_high_nats"] < 0.1
    margin = 6 * summary["vm3ac_tight_mi_stderr"]
    assert summary["vm3ac_tight_lower_bound_nats"] <= summary["vm3ac_tight_mi_high_nats"] + margin
