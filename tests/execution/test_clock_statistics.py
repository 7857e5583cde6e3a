"""What the clock's latents are like: independent draws of the prior."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from vm3ac_modules.execution.clock import latent_at

GAUSSIAN = {"law": "gaussian", "dim": 4}
# Each statistical check may fail by chance once in a million.
LEVEL = 1e-6


def within(statistic, count):
    """Whether standard normal statistics, ``count`` looked at together, are ordinary."""
    return bool((np.abs(statistic) < stats.norm.isf(LEVEL / 2 / count)).all())


def episode_steps(dim=8):
    """Latents of 400 episodes of 250 steps, ``[400, 250, Z]``."""
    law = {"law": "gaussian", "dim": dim}
    return latent_at(2024, np.arange(400)[:, None], np.arange(250), law).astype(np.float64)


def test_mean_and_covariance_are_the_priors():
    z = episode_steps().reshape(-1, 8)
    n = len(z)
    assert within(z.mean(0) * n**0.5, 8)
    products = (z.T @ z - n * np.eye(8)) / n**0.5
    # A square has variance 2, a product of two independent ones 1.
    assert within(products / (1 + np.eye(8)) ** 0.5, 36)


def test_each_entry_is_normal():
    z = episode_steps().reshape(-1, 8)
    for column in z.T:
        assert stats.kstest(column, "norm").pvalue > LEVEL / 8


@pytest.mark.parametrize("lag", [1, 2, 7])
@pytest.mark.parametrize("axis", [0, 1], ids=["episodes", "steps"])
def test_episodes_and_steps_are_independent(axis, lag):
    z = np.moveaxis(episode_steps(), axis, 0)
    now, later = z[:-lag].reshape(-1, 8), z[lag:].reshape(-1, 8)
    for change in (lambda x: x, lambda x: (x**2 - 1) / 2**0.5):
        assert within(change(now).T @ change(later) / len(now) ** 0.5, 64)


def test_seeds_are_independent():
    z = [latent_at(seed, 0, np.arange(100_000), GAUSSIAN).astype(np.float64) for seed in (0, 1)]
    assert within(z[0].T @ z[1] / len(z[0]) ** 0.5, 16)


def test_outcomes_have_their_probabilities_whatever_came_before():
    probs = [0.2, 0.5, 0.3]
    prior = {"law": "categorical", "probs": probs}
    outcome = latent_at(5, np.arange(1000)[:, None], np.arange(100), prior).argmax(-1)
    counts = np.bincount(outcome.ravel(), minlength=3)
    assert stats.chisquare(counts, np.array(probs) * outcome.size).pvalue > LEVEL
    for before, after in ((outcome[:, :-1], outcome[:, 1:]), (outcome[:-1], outcome[1:])):
        table = np.bincount((3 * before + after).ravel(), minlength=9).reshape(3, 3)
        assert stats.chi2_contingency(table).pvalue > LEVEL


def test_uniform_entries_are_uniform():
    prior = {"law": "uniform", "dim": 2, "low": 0.0, "high": 0.1}
    z = latent_at(1, 0, np.arange(100_000), prior).astype(np.float64)
    for column in z.T:
        assert stats.kstest(column, "uniform", args=(0.0, 0.1)).pvalue > LEVEL / 2
