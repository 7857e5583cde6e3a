"""Many seeds at once are independent runs: the same numbers as each alone."""

from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModuleBase

pytest.importorskip("vmas")

from vm3ac_modules.algorithms import build, find_preset, presets
from vm3ac_modules.envs import make_env
from vm3ac_modules.learning import join_optimizers, join_states, split_optimizer, split_state
from vm3ac_modules.modules import PerSeed

SEEDS, ROWS, BATCH, UPDATES = 3, 4, 8, 20
# The group has as many agents as there are seeds: a buffer [N, A] is not to be taken for stacked.
TASK = "predator_prey_3"
OPTIONS = {"hidden": [8, 8], "lr": 1e-2}


@pytest.fixture(scope="module")
def envs():
    return make_env(TASK, SEEDS * ROWS, seed=0), make_env(TASK, ROWS, seed=0)


def agents(algorithm, envs):
    """The stacked agent, and one alone per seed with that seed's parameters."""
    torch.manual_seed(0)
    reads_latent = "latent_dim" in find_preset(algorithm, "continuous").options.names()
    options = {**OPTIONS, "latent_dim": 4} if reads_latent else OPTIONS
    stacked = build(algorithm, envs[0], seeds=SEEDS, **options)
    alone = [build(algorithm, envs[1], **options) for _ in range(SEEDS)]
    template = alone[0].loss.state_dict()
    parts = split_state(dict(stacked.loss.state_dict()), template, SEEDS)
    for agent, part in zip(alone, parts, strict=True):
        agent.loss.load_state_dict(part)
    return stacked, alone


def make_batch(agent, env, *batch):
    """Random transitions with every entry that the loss reads."""
    torch.manual_seed(1)
    spec = env.full_action_spec["agents", "action"]
    num_agents, size = spec.shape[-2:]
    obs_dim = env.observation_spec["agents", "observation"].shape[-1]
    latent = torch.nn.functional.one_hot(torch.randint(4, batch), 4).float()
    agents_now = {
        "observation": torch.randn(*batch, num_agents, obs_dim),
        "action": 2 * torch.rand(*batch, num_agents, size) - 1,
        "next_action": 2 * torch.rand(*batch, num_agents, size) - 1,
        "next_action_valid": torch.rand(*batch, num_agents, 1) < 0.8,
    }
    following = {
        "agents": {
            "observation": torch.randn(*batch, num_agents, obs_dim),
            "reward": torch.randn(*batch, num_agents, 1),
        },
        "latent": latent,
        "terminated": torch.rand(*batch, 1) < 0.1,
    }
    td = TensorDict({"agents": agents_now, "latent": latent, "next": following}, batch)
    return td.select(*agent.loss.in_keys)


def step(agent, batch, noise):
    losses = agent.loss(batch, noise)
    torch.stack([losses[name] for name in agent.optimizers]).sum().backward()
    for optimizer in agent.optimizers.values():
        optimizer.step()
        optimizer.zero_grad()
    agent.target.step()
    return losses


@pytest.mark.parametrize("algorithm", sorted(presets("continuous")))
def test_the_first_updates_are_those_of_each_seed_alone(algorithm, envs):
    stacked, alone = agents(algorithm, envs)
    for hook in [*stacked.hooks, *(hook for agent in alone for hook in agent.hooks)]:
        if hasattr(hook, "weight"):
            hook.weight.fill_(0.1)  # past its schedule, so that the influence counts
    batch = make_batch(stacked, envs[0], SEEDS, BATCH)
    for _ in range(UPDATES):
        noise = stacked.loss.draw_noise(batch)
        together = step(stacked, batch, noise)
        for seed, agent in enumerate(alone):
            single = step(agent, batch[seed], noise[seed])
            for name in agent.loss.out_keys:
                torch.testing.assert_close(
                    together[name][seed], single[name], rtol=1e-4, atol=1e-5, msg=name
                )
    # Different seeds are different runs.
    assert not torch.allclose(together["loss_actor"][0], together["loss_actor"][1])


@pytest.mark.parametrize("algorithm", ["vm3ac", "maddpg", "maven"])
def test_states_split_and_join(algorithm, envs):
    stacked, alone = agents(algorithm, envs)
    batch = make_batch(stacked, envs[0], SEEDS, BATCH)
    step(stacked, batch, stacked.loss.draw_noise(batch))
    state = {key: value.clone() for key, value in stacked.loss.state_dict().items()}
    parts = split_state(state, alone[0].loss.state_dict(), SEEDS)
    for agent, part in zip(alone, parts, strict=True):
        agent.loss.load_state_dict(part)  # every shape is that of a run alone
    joined = join_states(parts, state)
    assert joined.keys() == state.keys()
    assert all(torch.equal(joined[key], value) for key, value in state.items())
    optimizer = stacked.optimizers["loss_actor"].state_dict()
    own = split_optimizer(optimizer, SEEDS)
    alone[0].optimizers["loss_actor"].load_state_dict(own[0])
    again = join_optimizers(own)
    for index, values in optimizer["state"].items():
        assert torch.equal(again["state"][index]["exp_avg"], values["exp_avg"])


class Marked(TensorDictModuleBase):
    """Writes the number of the seed that a row belongs to."""

    in_keys, out_keys = ("x",), ("seed",)

    def forward(self, tensordict):
        assert tensordict.batch_size == (SEEDS, ROWS)
        marks = torch.arange(SEEDS).unsqueeze(-1).expand(SEEDS, ROWS)
        return tensordict.set("seed", marks + tensordict["x"])


def test_rows_go_to_their_seed():
    rows = TensorDict({"x": torch.zeros(SEEDS * ROWS)}, [SEEDS * ROWS])
    assert PerSeed(Marked(), SEEDS)(rows)["seed"].tolist() == [0] * 4 + [1] * 4 + [2] * 4


def test_at_least_one_seed(envs):
    with pytest.raises(ValueError, match="seeds must be at least 1, got 0"):
        build("ma_ac", envs[1], seeds=0)


def test_clipping_keeps_the_seeds_apart(envs):
    stacked, alone = agents("vm3ac", envs)
    batch = make_batch(stacked, envs[0], SEEDS, BATCH)
    # Seed 2's gradients are large: they are not to shrink the others' steps.
    batch["next", "agents", "reward"][2] *= 1000.0
    for _ in range(3):
        noise = stacked.loss.draw_noise(batch)
        stacked.loss.draw_noise = lambda _, noise=noise: noise
        together = stacked.update(batch, 0.1)
        del stacked.loss.draw_noise
        for seed, agent in enumerate(alone):
            agent.loss.draw_noise = lambda _, noise=noise[seed]: noise
            single = agent.update(batch[seed], 0.1)
            del agent.loss.draw_noise
            for name in agent.optimizers:
                torch.testing.assert_close(together[name][seed], single[name], rtol=1e-4, atol=1e-4)
