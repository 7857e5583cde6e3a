"""MAVEN's networks: a head that the latent gives, and who reads the latent back."""

from __future__ import annotations

import pytest
import torch
from contracts.recurrent import torch_gru
from torch.nn.functional import one_hot

from vm3ac_modules.nn import EpisodeDiscriminatorNet, LatentUtilityNet

OBS, ACTIONS, AGENTS, OUTCOMES, HIDDEN = 4, 5, 3, 2, 6
NAN = float("nan")


def randn(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def utilities(**options):
    options = {"latent_dim": OUTCOMES, "hidden_size": HIDDEN, **options}
    return LatentUtilityNet(OBS, ACTIONS, AGENTS, **options).double()


def steps(*batch):
    last = one_hot(torch.randint(ACTIONS, (*batch, AGENTS)), ACTIONS).double()
    return randn(*batch, AGENTS, OBS), last


@pytest.mark.parametrize("share_params", [True, False])
def test_utilities_equal_a_loop(share_params):
    net, (observation, last) = utilities(share_params=share_params), steps(4, 7)
    latent = one_hot(torch.arange(4) % OUTCOMES, OUTCOMES).double()
    memory, end = net.unroll(observation, last)
    assert torch.equal(end, memory[:, -1])
    scores = net.score(memory, latent.unsqueeze(1))
    for i in range(AGENTS):
        row = 0 if share_params else i
        index = one_hot(torch.tensor(i), AGENTS).double()
        x = torch.cat((observation[:, :, i], last[:, :, i], index.expand(4, 7, -1)), -1)
        x = (x @ net.embed.weight[row] + net.embed.bias[row, 0]).relu()
        own, _ = torch_gru(net.gru, i)(x)
        torch.testing.assert_close(memory[:, :, i], own)
        for b in range(4):
            head = torch.cat((latent[b], index)) @ net.hyper.weight[row] + net.hyper.bias[row, 0]
            matrix = head.reshape(ACTIONS, HIDDEN)
            torch.testing.assert_close(scores[b, :, i], own[b] @ matrix.T)


def test_latents_of_every_shape():
    net = utilities()
    memory, _ = net.unroll(*steps(4, 7))
    outcomes = torch.eye(OUTCOMES, dtype=torch.float64)
    both = net.score(memory, outcomes[:, None, None])
    for outcome, scores in zip(outcomes, both, strict=True):
        torch.testing.assert_close(net.score(memory, outcome), scores)
        torch.testing.assert_close(net.score(memory, outcome.expand(4, 7, -1)), scores)
        own = outcome.expand(4, 7, AGENTS, -1)
        torch.testing.assert_close(net.score(memory, own, per_agent=True), scores)
    assert not torch.allclose(both[0], both[1])
    with pytest.raises(ValueError, match="read a latent"):
        net.score(memory)
    with pytest.raises(ValueError, match="at least 2 outcomes, got 1"):
        utilities(latent_dim=1)


def test_memory_does_not_depend_on_the_latent():
    net, inputs = utilities(), steps(4, 7)
    assert torch.equal(net.unroll(*inputs)[0], net.unroll(*inputs, randn(4, 7, OUTCOMES))[0])


# --- the discriminator ------------------------------------------------------------------------


def discriminator(**options):
    options = {"hidden": (8,), "hidden_size": HIDDEN, **options}
    return EpisodeDiscriminatorNet(9, OUTCOMES, **options).double()


def test_recurrent_discriminator_judges_at_the_last_real_step():
    net, x = discriminator(), randn(4, 7, 9)
    lengths = (7, 3, 1, 0)
    mask = torch.arange(7) < torch.tensor(lengths).unsqueeze(-1)
    logits = net(x, mask)
    assert logits.shape == (4, 1, OUTCOMES)
    for b, length in enumerate(lengths):
        memories, _ = torch_gru(net.gru, 0)(x[b : b + 1, : max(length, 1)])
        torch.testing.assert_close(logits[b, 0], net.net(memories[0, -1]))


def test_what_follows_the_last_step_is_not_read():
    net, x = discriminator(), randn(2, 7, 9).requires_grad_()
    mask = torch.arange(7) < torch.tensor([[7], [3]])
    [slope] = torch.autograd.grad(net(x, mask).sum(), [x])
    assert slope[1, :3].any(-1).all()
    assert not slope[1, 3:].any()


def test_discriminator_of_single_steps():
    net, x = discriminator(recurrent=False), randn(4, 7, 9)
    logits = net(x, torch.ones(4, 7, dtype=torch.bool))
    assert logits.shape == (4, 7, OUTCOMES)
    torch.testing.assert_close(logits, net.net(x))
    assert net.gru is None
