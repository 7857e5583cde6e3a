from __future__ import annotations

import pytest
import torch
from contracts.teams import PRIORS, gaussian_team
from hypothesis import given
from hypothesis import strategies as st

from vm3ac_modules.execution.export._agent_module import FeedForwardAgent, cut_out_agent
from vm3ac_modules.execution.export._latent_source import LatentSource
from vm3ac_modules.execution.export.agents import trace
from vm3ac_modules.functional import counter
from vm3ac_modules.functional.kept import kept
from vm3ac_modules.modules.latent import latent_at
from vm3ac_modules.nn import DeterministicNet, LatentGaussianNet, LatentUtilityNet
from vm3ac_modules.nn.recurrent import RecurrentPolicyNet
from vm3ac_modules.priors import LatentPrior

AGENTS = st.integers(1, 4).flatmap(
    lambda n: st.tuples(st.integers(0, n - 1), st.just(n), st.booleans())
)


@given(AGENTS, st.integers(0, 3))
def test_an_agent_alone_computes_what_it_does_in_the_team(which, latent_dim):
    agent, team, share = which
    net = LatentGaussianNet(4, latent_dim, 2, team, hidden=(8, 8), share_params=share)
    observation, latent = torch.randn(3, team, 4), torch.randn(3, latent_dim)
    alone = cut_out_agent(net, agent, team)
    for joint, own in zip(
        net(observation, latent), alone(observation[:, agent : agent + 1], latent), strict=True
    ):
        torch.testing.assert_close(own[:, 0], joint[:, agent])
    assert not any(p.requires_grad for p in alone.parameters())


@given(AGENTS)
def test_a_deterministic_agent_keeps_its_own_range(which):
    agent, team, share = which
    low = -torch.arange(1.0, 2 * team + 1).reshape(team, 2)
    net = DeterministicNet(4, low, low + 5.0, hidden=(8,), share_params=share)
    observation = torch.randn(3, team, 4)
    own = cut_out_agent(net, agent, team)(observation[:, agent : agent + 1])
    torch.testing.assert_close(own[:, 0], net(observation)[:, agent])


@pytest.mark.parametrize("kind", [RecurrentPolicyNet, LatentUtilityNet])
@given(AGENTS)
def test_a_recurrent_agent_remembers_what_it_does_in_the_team(kind, which):
    agent, team, share = which
    net = kind(4, 5, team, latent_dim=3, hidden_size=8, share_params=share)
    alone, one = cut_out_agent(net, agent, team), slice(agent, agent + 1)
    observation, last = torch.randn(3, 6, team, 4), torch.randn(3, 6, team, 5)
    memory, _ = net.unroll(observation, last)
    own, _ = alone.unroll(observation[:, :, one], last[:, :, one])
    torch.testing.assert_close(own[..., 0, :], memory[..., agent, :])
    latent = torch.randn(3, 6, 3)
    scores = net.score(memory, latent)
    torch.testing.assert_close(alone.score(own, latent)[..., 0, :], scores[..., agent, :])


def test_agents_are_cut_out_of_one_run_only():
    net = LatentGaussianNet(4, 2, 2, 3, stack_shape=(2,))
    with pytest.raises(ValueError, match="several seeds at once"):
        cut_out_agent(net, 0, 3)
    with pytest.raises(ValueError, match="no agent 3 in a team of 3"):
        cut_out_agent(LatentGaussianNet(4, 2, 2, 3), 3, 3)


@pytest.mark.parametrize("law", PRIORS)
@given(st.integers(0, 2**64 - 1), st.integers(0, 2**62), st.integers(0, 2**31))
def test_the_source_inside_a_program_is_the_latent_to_the_bit(law, seed, episode, step):
    prior = PRIORS[law]
    episodes, steps = torch.arange(20) + episode, torch.arange(20) + step
    bits = torch.tensor(seed - 2**64 if seed >= 2**63 else seed)
    found = LatentSource("synchronized", prior)(20, bits, episodes, steps)
    assert torch.equal(found, latent_at(seed, episodes, steps, prior))


@pytest.mark.parametrize("source", ["mean", "constant"])
def test_a_fixed_latent_is_the_priors(source):
    prior = PRIORS["uniform"]
    found = LatentSource(source, prior)(4)
    assert torch.equal(found, getattr(prior, source)().expand(4, -1))
    assert LatentSource(source, prior).inputs == ()


def test_sources_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="unknown latent source 'clock'; valid: synchronized"):
        LatentSource("clock", PRIORS["gaussian"])
    with pytest.raises(ValueError, match="'synchronized' needs the prior"):
        LatentSource("synchronized", None)
    with pytest.raises(ValueError, match="outside the support"):
        LatentSource("mean", PRIORS["categorical"])


def test_the_search_and_the_comparisons_find_the_same_pieces():
    # All edges of the table, their neighbors, both ends of the grid, and beyond them.
    edges = counter.normal_table()[:, 0]
    near = [edges, edges * (1 - 2**-52), edges * (1 + 2**-52), torch.rand(5000).double()]
    u = torch.cat([*near, torch.tensor([0.0, 2.0**-33, 0.5, 1.0]).double()])
    u = torch.cat((u, 1 - u))
    assert torch.equal(counter.normal_icdf(u, counter.normal_table()), counter.normal_icdf(u))


def test_a_table_that_is_changed_is_the_callers_own():
    before = latent_at(0, 0, torch.arange(5), PRIORS["gaussian"])
    counter.normal_table().zero_()
    assert torch.equal(latent_at(0, 0, torch.arange(5), PRIORS["gaussian"]), before)


def test_laws_of_others_are_not_computed_inside_programs():
    class Cauchy(LatentPrior):
        log_prob = _transform = _spec = lambda *_, **__: None

    with pytest.raises(ValueError, match="a Cauchy cannot be computed inside a program"):
        LatentSource("synchronized", Cauchy(torch.zeros(2)))
    assert LatentSource("given", Cauchy(torch.zeros(2))).inputs == ("latent",)


def test_tracing_leaves_nothing_behind_for_later_latents(monkeypatch):
    monkeypatch.setattr(counter, "_kept_table", kept(counter.normal_table))
    torch.export.export(_Latent(), (torch.tensor([0]),))
    z = latent_at(0, 0, torch.tensor([1]), PRIORS["gaussian"])
    assert type(z) is torch.Tensor
    assert torch.isfinite(z).all()
    assert type(counter._kept_table(torch.device("cpu"))) is torch.Tensor


class _Latent(torch.nn.Module):
    """A module that someone else might trace."""

    def forward(self, step):
        return PRIORS["gaussian"].from_uniforms(counter.uniforms_at(0, step, step, 5))


def test_a_program_holds_no_path_of_this_machine():
    team = gaussian_team()
    net = cut_out_agent(team[1].net, 0, 2)
    source = LatentSource("given", PRIORS["gaussian"])
    program = trace(FeedForwardAgent(net, source, -torch.ones(2), torch.ones(2)))
    assert not any("stack_trace" in node.meta for node in program.graph.nodes)
    assert program.example_inputs is None
