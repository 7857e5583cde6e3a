"""What the clock refuses, in one sentence each."""

from __future__ import annotations

import numpy as np
import pytest

from vm3ac_modules.execution.clock import LatentClock, latent_at

GAUSSIAN = {"law": "gaussian", "dim": 4}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((-1, 0, 0), ValueError, "seed must satisfy 0 <= seed < 2\\^64, got -1"),
        ((2**64, 0, 0), ValueError, "0 <= seed < 2\\^64"),
        ((0.0, 0, 0), TypeError, "seed must be an integer, got 0.0"),
        ((True, 0, 0), TypeError, "seed must be an integer, got True"),
        ((0, -1, 0), ValueError, "0 <= episode < 2\\^63, got -1"),
        ((0, 2**63, 0), ValueError, f"0 <= episode < 2\\^63, got {2**63}"),
        ((0, [1, 2**70], 0), ValueError, f"0 <= episode < 2\\^63, got {2**70}"),
        ((0, 0, 2**32), ValueError, f"0 <= step < 2\\^32, got {2**32}"),
        ((0, 0, np.array([3, -2])), ValueError, "0 <= step < 2\\^32, got -2"),
        ((0, 1.0, 0), TypeError, "episode must be an integer or integers, got float64"),
        ((0, True, 0), TypeError, "episode must be an integer or integers, got bool"),
        ((0, 0, np.array([True])), TypeError, "step must be an integer or integers, got bool"),
        ((0, 0, "3"), TypeError, "step must be an integer or integers"),
    ],
)
def test_places_outside_their_range_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        latent_at(*arguments, GAUSSIAN)


BAD_PRIORS = [
    ("gaussian", "described by a mapping such as .* got 'gaussian'"),
    ({"dim": 2}, "unknown law None; known: gaussian, uniform, categorical"),
    ({"law": "cauchy", "dim": 2}, "unknown law 'cauchy'"),
    ({"law": "gaussian"}, "'gaussian' is described by dim, got nothing"),
    ({"law": "uniform", "dim": 2, "low": 0}, "described by dim, low, high, got dim, low"),
    ({"law": "gaussian", "dim": 2, "std": 1}, "described by dim, got dim, std"),
    ({"law": "gaussian", "dim": -1}, "dim must be an integer >= 0, got -1"),
    ({"law": "gaussian", "dim": 2.0}, "dim must be an integer >= 0, got 2.0"),
    ({"law": "gaussian", "dim": True}, "dim must be an integer >= 0, got True"),
    ({"law": "uniform", "dim": 2, "low": 1, "high": 1}, "finite low < high, got 1.0 and 1.0"),
    ({"law": "uniform", "dim": 2, "low": 0, "high": np.inf}, "finite low < high"),
    ({"law": "uniform", "dim": 2, "low": "0", "high": 1}, "low must be a number, got '0'"),
    ({"law": "categorical", "probs": []}, "must be a list of non-negative numbers"),
    ({"law": "categorical", "probs": 0.5}, "must be a list of non-negative numbers"),
    ({"law": "categorical", "probs": [1.5, -0.5]}, "non-negative numbers that sum to 1"),
    ({"law": "categorical", "probs": [0.5, 0.4999]}, "non-negative numbers that sum to 1"),
    ({"law": "categorical", "probs": [0.5, None]}, "probs must be a number, got None"),
]


@pytest.mark.parametrize(("prior", "message"), BAD_PRIORS)
def test_descriptions_of_no_prior_are_refused(prior, message):
    with pytest.raises(ValueError, match=message):
        LatentClock(0, prior)
    with pytest.raises(ValueError, match=message):
        latent_at(0, 0, 0, prior)
