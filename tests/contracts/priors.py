"""One prior of each kind."""

from __future__ import annotations

import pytest

from vm3ac_modules.modules.latent import CategoricalPrior, GaussianPrior, UniformPrior


def priors():
    return [
        pytest.param(GaussianPrior(6), id="gaussian"),
        pytest.param(UniformPrior(6, low=-2.0, high=3.0), id="uniform"),
        pytest.param(CategoricalPrior(3, probs=[0.2, 0.5, 0.3]), id="categorical"),
    ]
