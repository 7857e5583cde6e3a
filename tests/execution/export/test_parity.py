"""The comparison finds what it is for."""

from __future__ import annotations

import pytest
import torch
from contracts.teams import ABOUT
from torchrl.data import Bounded
from torchrl.envs import TransformedEnv

import vm3ac_modules as vm
from vm3ac_modules.envs import EpisodeCounter, MeetingEnv
from vm3ac_modules.execution.export._parity import TOLERANCE, largest_difference
from vm3ac_modules.execution.export.agents import export_agents

PRIOR = vm.GaussianPrior(2)


@pytest.fixture
def team():
    actor = vm.make_actor(2, 2, Bounded(-1.0, 1.0, (2, 2)), hidden=(8,))
    return vm.make_policy(vm.LatentSampler(PRIOR), actor)


@pytest.fixture
def env():
    base = MeetingEnv(4)
    return TransformedEnv(base, EpisodeCounter(base.batch_size))


def difference(team, env, paths, latent="mean"):
    return largest_difference(team, env, paths, latent=latent, seed=0, steps=3)


def test_own_files_agree_and_those_of_others_do_not(team, env, tmp_path):
    paths = export_agents(team, tmp_path, latent="mean", about=ABOUT)
    assert difference(team, env, paths) <= TOLERANCE
    assert difference(team, env, paths[::-1]) > 1e-3
    # The same weights under another latent.
    assert difference(team, env, paths, latent="synchronized") > 1e-3


def test_numbers_that_are_none_are_no_agreement(team, env, tmp_path):
    good = export_agents(team, tmp_path / "good", latent="mean", about=ABOUT)
    with torch.no_grad():
        next(team.parameters()).fill_(float("nan"))
    bad = export_agents(team, tmp_path / "bad", latent="mean", about=ABOUT)
    for paths in (good, bad):
        assert not difference(team, env, paths) <= TOLERANCE
