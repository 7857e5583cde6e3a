"""Names and a fixed seed for the examples in docstrings."""

from importlib.util import find_spec

import pytest
import torch

# BenchMARL needs an environment of its own (make test-benchmarl).
collect_ignore = [] if find_spec("benchmarl") else ["vm3ac_modules/integrations/benchmarl"]


@pytest.fixture(autouse=True)
def _doctest_namespace(doctest_namespace):
    doctest_namespace["torch"] = torch
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
