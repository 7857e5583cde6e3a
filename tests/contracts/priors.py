"""One prior of each kind, and priors made from their descriptions."""

from __future__ import annotations

import pytest

from vm3ac_modules.modules.latent import CategoricalPrior, GaussianPrior, UniformPrior


def priors():
    return [
        pytest.param(GaussianPrior(6), id="gaussian"),
        pytest.param(UniformPrior(6, low=-2.0, high=3.0), id="uniform"),
        pytest.param(CategoricalPrior(3, probs=[0.2, 0.5, 0.3]), id="categorical"),
    ]


def prior_from(description):
    """The torch prior that a description, as an exported agent holds it, is of."""
    given = dict(description)
    laws = {"gaussian": GaussianPrior, "uniform": UniformPrior, "categorical": categorical}
    return laws[given.pop("law")](**given)


def categorical(probs):
    return CategoricalPrior(len(probs), probs)
