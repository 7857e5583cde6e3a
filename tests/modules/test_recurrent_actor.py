"""A recurrent policy one step at a time: the same as unrolled, a floor, a memory that travels."""

from __future__ import annotations

import pytest
import torch
from contracts.episode_contract import ACTIONS, OBS
from contracts.recurrent import AGENTS, HIDDEN, LATENT, ROWS, observe
from torch.nn.functional import one_hot
from torchrl.data import Binary, Categorical, Composite, Unbounded
from torchrl.envs import Compose, EnvBase, InitTracker, TransformedEnv
from torchrl.envs.utils import ExplorationType, set_exploration_type, step_mdp

from vm3ac_modules.keys import Keys, MissingKeysError
from vm3ac_modules.modules.latent import CategoricalPrior, LatentSampler
from vm3ac_modules.modules.recurrent_actor import RecurrentActor, make_recurrent_policy
from vm3ac_modules.nn import RecurrentPolicyNet


def make_actor(*, latent_dim=0, where="head", keys=None, epsilon=0.0):
    net = RecurrentPolicyNet(
        OBS, ACTIONS, AGENTS, latent_dim=latent_dim, hidden_size=HIDDEN, latent_input=where
    )
    actor = RecurrentActor(net, keys=keys)
    actor.epsilon.fill_(epsilon)
    return actor


@pytest.mark.parametrize("where", ["head", "input"])
@pytest.mark.parametrize("shape", [None, (ROWS, LATENT), (ROWS, AGENTS, LATENT)])
def test_stepping_equals_unrolling(shape, where):
    latent_dim = 0 if shape is None else LATENT
    actor = make_actor(latent_dim=latent_dim, where=where, epsilon=0.25)
    policy = make_recurrent_policy(make_actor())[1:]
    steps, td = [], observe(ROWS)
    for _ in range(5):
        if shape is not None:
            td["latent"] = torch.randn(shape)
        policy(actor(td))
        steps.append(td.clone())
        # As an environment does: what a policy wrote to "next" is there at the following step.
        following = observe(ROWS, start=False)
        td = following.update(td["next"].clone())
    rows = torch.stack(steps, dim=1)
    observation, action = rows["agents", "observation"], rows["agents", "action"]
    last = torch.zeros(ROWS, 5, AGENTS, ACTIONS)
    last[:, 1:] = one_hot(action[:, :-1], ACTIONS).float()
    per_agent = shape is not None and len(shape) == 3
    latent = None if shape is None else rows["latent"]
    memory, _ = actor.net.unroll(observation, last, latent, per_agent=per_agent)
    torch.testing.assert_close(rows["next", "agents", "hidden"], memory)
    mask = rows["agents", "action_mask"]
    expected = actor.log_prob(memory, mask, latent, per_agent=per_agent)
    torch.testing.assert_close(rows["agents", "logits"], expected)
    assert torch.equal(rows["next", "agents", "last_action"], action)
    assert mask.gather(-1, action.unsqueeze(-1)).all()


def test_floor_and_its_absence():
    actor, td = make_actor(epsilon=0.5), observe(ROWS)
    mask = td["agents", "action_mask"]
    floored = actor(td.clone())["agents", "logits"].exp()
    greedy = actor.without_floor()
    greedy.epsilon.fill_(0.5)
    bare = greedy(td.clone())["agents", "logits"].exp()
    uniform = mask / mask.sum(-1, keepdim=True)
    torch.testing.assert_close(floored, 0.5 * bare + 0.5 * uniform)
    assert (bare[~mask] == 0).all()
    scores = actor.net.score(actor(td.clone())["next", "agents", "hidden"])
    torch.testing.assert_close(bare, scores.masked_fill(~mask, -torch.inf).softmax(-1))
    assert greedy.net is actor.net
    assert actor.num_agents == AGENTS


def test_draws_and_greedy_play():
    policy = make_recurrent_policy(make_actor(epsilon=0.9))
    with set_exploration_type(ExplorationType.DETERMINISTIC):
        td = policy(observe(ROWS))
    scores = td["agents", "logits"]
    assert torch.equal(td["agents", "action"], scores.argmax(-1))
    drawn = torch.stack([policy(observe(ROWS))["agents", "action"] for _ in range(20)])
    assert (drawn != drawn[0]).any()
    assert policy.in_keys == [
        ("agents", "observation"),
        ("agents", "action_mask"),
        ("agents", "hidden"),
        ("agents", "last_action"),
    ]


def test_memory_travels_through_a_step():
    policy = make_recurrent_policy(make_actor())
    td = policy(observe(ROWS))
    td["next", "agents", "observation"] = torch.randn(ROWS, AGENTS, OBS)
    after = step_mdp(td)
    assert torch.equal(after["agents", "hidden"], td["next", "agents", "hidden"])
    assert torch.equal(after["agents", "last_action"], td["agents", "action"])
    assert after["agents", "hidden"].any()


class Walk(EnvBase):
    """Random observations; row b ends after b + 1 steps and starts anew."""

    def __init__(self):
        super().__init__(batch_size=[ROWS])
        agents = Composite(
            observation=Unbounded((ROWS, AGENTS, OBS)),
            action_mask=Binary(ACTIONS, (ROWS, AGENTS, ACTIONS), dtype=torch.bool),
            shape=(ROWS,),
        )
        self.observation_spec = Composite(agents=agents, shape=(ROWS,))
        action = Categorical(ACTIONS, (ROWS, AGENTS))
        self.action_spec = Composite(agents=Composite(action=action, shape=(ROWS,)), shape=(ROWS,))
        self.reward_spec = Unbounded((ROWS, 1))
        self.left = torch.zeros(ROWS, dtype=torch.long)

    def _set_seed(self, seed):
        del seed

    def _reset(self, tensordict):
        rows = torch.ones(ROWS, dtype=torch.bool)
        if tensordict is not None and "_reset" in tensordict:
            rows = tensordict["_reset"].reshape(ROWS)
        self.left = torch.where(rows, torch.arange(ROWS) + 1, self.left)
        return observe(ROWS, start=False)

    def _step(self, tensordict):
        self.left = self.left - 1
        end = (self.left == 0).unsqueeze(-1)
        return observe(ROWS, start=False).update(
            {"reward": torch.zeros(ROWS, 1), "done": end, "terminated": end}
        )


def test_memory_starts_empty_with_every_episode_of_an_environment():
    actor = make_actor()
    env = TransformedEnv(Walk(), Compose(actor.make_primer(), InitTracker()))
    steps = env.rollout(9, make_recurrent_policy(actor), break_when_any_done=False)
    # TorchRL 0.11 fills the first row with another type of number.
    is_init, last = steps["is_init"], steps["agents", "last_action"].long()
    assert is_init.sum() > ROWS
    assert torch.equal((last == -1).all(-1), is_init.squeeze(-1))
    one_hots = one_hot(last.clamp_min(0), ACTIONS) * (last >= 0).unsqueeze(-1)
    memory, _ = actor.net.unroll(steps["agents", "observation"], one_hots.float(), is_init=is_init)
    torch.testing.assert_close(steps["next", "agents", "hidden"], memory)
    assert not steps["agents", "hidden"][is_init.squeeze(-1)].any()
    inside = ~is_init.squeeze(-1)[:, 1:]
    assert torch.equal(last[:, 1:][inside], steps["agents", "action"][:, :-1][inside])


def test_another_group_and_a_missing_entry():
    keys = Keys("walkers")
    policy = make_recurrent_policy(make_actor(keys=keys))
    td = policy(observe(ROWS, keys=keys))
    assert ("next", "walkers", "hidden") in td.keys(True, True)
    assert ("walkers", "action") in td.keys(True, True)
    with pytest.raises(MissingKeysError, match=r"RecurrentActor: .*last_action"):
        make_actor()(observe(ROWS).exclude(("agents", "last_action")))


def test_sampler_and_latent_go_together():
    sampler = LatentSampler(CategoricalPrior(LATENT))
    td = make_recurrent_policy(make_actor(latent_dim=LATENT), sampler)(observe(ROWS))
    assert (td["latent"].sum(-1) == 1).all()
    with pytest.raises(ValueError, match="size 2, but the sampler is missing"):
        make_recurrent_policy(make_actor(latent_dim=LATENT))
    with pytest.raises(ValueError, match="size 0, but the sampler is given"):
        make_recurrent_policy(make_actor(), sampler)
