"""Errors that belong to their estimates, and means of what is defined."""

from __future__ import annotations

import math

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import Bounded

from vm3ac_modules.evaluation import (
    categorical_coordination,
    coordination_table,
    gaussian_coordination,
)
from vm3ac_modules.evaluation.coordination import estimates as coordination_estimates
from vm3ac_modules.modules.actors import make_actor, make_policy
from vm3ac_modules.modules.latent import GaussianPrior, LatentSampler
from vm3ac_modules.objectives import PolicyReader


def measured(monkeypatch, latent_information):
    """The coordination whose groups of states, one state each, gave these estimates ``[G, N]``."""
    groups, num_agents = latent_information.shape
    estimate = coordination_estimates.estimate_information

    def replaced(*args, **options):
        smaller = torch.minimum(latent_information.unsqueeze(-1), latent_information.unsqueeze(-2))
        found = estimate(*args, **options)
        return found._replace(latent_information=latent_information, upper=smaller)

    monkeypatch.setattr(coordination_estimates, "estimate_information", replaced)
    actor = make_actor(1, 1, Bounded(-1.0, 1.0, (num_agents, 1)), hidden=(4,))
    policy = make_policy(LatentSampler(GaussianPrior(1)), actor)
    states = TensorDict({("agents", "observation"): torch.zeros(groups, num_agents, 1)}, [groups])
    return gaussian_coordination(PolicyReader(policy), states, num_latents=2, draws=2)


def test_the_upper_error_is_that_of_the_smaller_average(monkeypatch):
    # Averages 2, 3 and 2.5; each standard error is half of the difference of both groups. The first
    # group says 0, 0 and 2 are smaller, of which the second has 4, 4 and 3; the second says 1, 2
    # and 1, of which the first has 3.2, 2 and 3.2.
    found = measured(monkeypatch, torch.tensor([[0.0, 3.2, 2.0], [4.0, 2.8, 3.0]]))
    upper = torch.tensor([[0.0, 3.6, 3.0], [3.6, 0.0, 3.1], [3.0, 3.1, 0.0]])
    error = torch.tensor([[0.0, 2.0, 2.0], [2.0, 0.0, 0.5], [2.0, 0.5, 0.0]])
    torch.testing.assert_close(found.upper, upper)
    torch.testing.assert_close(found.upper_error, error)


def test_of_equal_averages_the_larger_error_counts_in_both_directions(monkeypatch):
    found = measured(monkeypatch, torch.tensor([[1.0, 2.0], [3.0, 2.0]]))
    assert found.upper_error.tolist() == [[0.0, 1.0], [1.0, 0.0]]


def test_one_group_of_states_has_no_error(monkeypatch):
    found = measured(monkeypatch, torch.tensor([[1.0, 2.0]]))
    assert found.upper_error[0, 1].isnan()
    assert found.summary()["mi_upper_bound_error"][0][1] is None


def crowd(num_agents, without_choice):
    """Agents who do what a latent of three outcomes says; the last ones have one action alone."""
    outcomes = torch.eye(3).log().clamp_min(-1e9)[:, None, None].expand(3, 4, num_agents, 3).clone()
    outcomes[:, :, num_agents - without_choice :] = torch.tensor([0.0, -1e9, -1e9])
    found = categorical_coordination(outcomes, torch.full((3,), 1 / 3).log())
    return coordination_table(found.summary()).splitlines()


@pytest.mark.parametrize(("without_choice", "pairs"), [(0, 15), (2, 6)])
def test_the_mean_is_over_the_pairs_that_have_a_value(without_choice, pairs):
    lines = crowd(6, without_choice)
    place = next(i for i, line in enumerate(lines) if line.split()[0] == "mean")
    shown = f"{math.log(3):.2f}"
    assert lines[place].split() == ["mean", shown, shown, "1.00"]
    said = f"  over {pairs}, {pairs}, {pairs} of 15 pairs: the defined ones"
    assert (lines[place + 1] == said) is (pairs < 15)


def test_a_mean_of_nothing_is_a_dash():
    lines = crowd(6, 6)
    assert ["mean", "-", "-", "-"] in [line.split() for line in lines]
    assert not any("pairs" in line for line in lines)


def test_four_agents_are_shown_pair_by_pair():
    rows = [line.split() for line in crowd(4, 1)]
    assert ["2", "and", "3", "-", "-", "-"] in rows
    assert ["0", "and", "1", *2 * [f"{math.log(3):.2f}", "+-", "0.00"], "1.00"] in rows
