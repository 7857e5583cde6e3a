"""The pointwise bound as a reward: its mean is the bound, and what a host gets of it."""

from __future__ import annotations

import math

import pytest
import torch
from contracts.hosts import KEYS, SPEC, collected, discrete_policy, gaussian_policy, scoring
from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer
from torchrl.envs import RewardSum
from torchrl.envs.utils import check_env_specs
from torchrl.objectives import ClipPPOLoss

import vm3ac_modules as vm
from vm3ac_modules.functional.pairwise import gather_others, pair_mean, scatter_others
from vm3ac_modules.keys import MissingKeysError
from vm3ac_modules.objectives import MutualInformationReward, PolicyReader
from vm3ac_modules.objectives.policy import sample_policy


def predictor_of(policy, scale="learned"):
    torch.manual_seed(5)
    return vm.VariationalPredictor(4, SPEC, hidden=(8,), scale=scale)


def test_pointwise_value_is_the_predictor_less_the_marginal_policy():
    """By the path of the losses: a draw, its score under all latents, the pair pass."""
    policy = gaussian_policy()
    predictor = predictor_of(policy)
    reader = PolicyReader(policy)
    batch = collected(policy)
    loss = vm.MutualInformationLoss(policy, predictor, num_latents=6)
    torch.manual_seed(7)
    noise = loss.draw_noise(batch)
    with torch.no_grad():
        draw = sample_policy(reader, batch, noise, loss.center, loss.half_range)
        scores = predictor.partner_log_prob(draw.action, draw.action, batch[KEYS.observation])
    expected = scores - gather_others(draw.log_prob.unsqueeze(-1)).squeeze(-1)
    batch[KEYS.action], batch["latent"] = draw.action, noise["latent"]
    reward = MutualInformationReward(policy, predictor, num_latents=6)
    torch.manual_seed(7)  # the same extra latents
    torch.testing.assert_close(reward.information(batch), expected, atol=2e-4, rtol=1e-4)


def test_mean_is_the_lower_bound():
    policy = gaussian_policy()
    predictor = predictor_of(policy)
    batch = collected(policy, rows=20_000)
    reward = MutualInformationReward(policy, predictor, num_latents=64)
    found = pair_mean(scatter_others(reward.information(batch)).mean(0))
    drawn = vm.MutualInformationLoss(policy, predictor, num_latents=64)(batch)
    expected = drawn["entropy"] + drawn["pair_log_prob"]  # with actions of the loss's own
    torch.testing.assert_close(found, expected, atol=0.05, rtol=0.02)


@pytest.mark.parametrize("one_hot", [True, False])
def test_categorical_value_by_hand(one_hot):
    """Two latents, each agent copies the latent: log q - log pi_K is log 2 - 0 with the exact q."""
    policy = discrete_policy()
    with torch.no_grad():
        net = policy[1].module
        net.weight.zero_()
        net.bias.zero_()
        for outcome in range(3):
            net.weight[outcome, 4 + outcome] = 10.0  # gain 3 in the network: logits of 30
    batch = collected(policy)
    predictor = vm.CategoricalPredictor(4, 2, 5, situation="observations")

    class Copycat(torch.nn.Module):
        def predict(self, action, situation, mask):
            same = torch.nn.functional.one_hot(action, 5).float()
            return torch.log(0.9 * same + 0.1 * (1 - same) / 4).unsqueeze(-2).expand(-1, 2, 2, 5)

    predictor.net = Copycat()
    if not one_hot:
        batch[KEYS.action] = batch[KEYS.action].to(torch.int64).argmax(-1)
    reward = MutualInformationReward(policy, predictor, num_latents=2000)
    expected = torch.full((64, 2, 1), math.log(0.9) + math.log(3.0))
    torch.testing.assert_close(reward.information(batch), expected, atol=0.15, rtol=0)


def rewarded(weight=0.5, **options):
    policy = gaussian_policy()
    return policy, MutualInformationReward(policy, predictor_of(policy), weight=weight, **options)


def test_weight_clip_schedule_and_pairs():
    policy, reward = rewarded(clip=None, schedule=lambda transitions: 1.0 if transitions else 0.5)
    batch = collected(policy)
    raw = batch["next", *KEYS.reward].clone()
    torch.manual_seed(0)
    pairs = reward.information(batch)
    for factor in (0.5, 1.0):  # the first 64 transitions, and all later ones
        torch.manual_seed(0)
        out = reward(batch.clone())
        paid = factor * 0.5 * pairs.sum(-1, keepdim=True) / 2
        torch.testing.assert_close(out["next", "agents", "information_reward"], paid)
        torch.testing.assert_close(out["next", *KEYS.reward], raw + paid)
    narrow = rewarded(clip=(-0.1, 0.2), pair_weight="mean")[1]
    paid = narrow(batch.clone())["next", "agents", "information_reward"]
    torch.manual_seed(0)
    assert paid.min() == pytest.approx(-0.05)
    assert paid.max() == pytest.approx(0.1)


def test_weight_zero_changes_no_reward():
    policy, reward = rewarded(weight=0.0)
    batch = collected(policy)
    raw = batch["next", *KEYS.reward].clone()
    assert torch.equal(reward(batch)["next", *KEYS.reward], raw)


def test_a_replay_buffer_scores_stored_actions_with_present_networks():
    policy, reward = rewarded()
    replay = TensorDictReplayBuffer(storage=LazyTensorStorage(64), batch_size=64, transform=reward)
    replay.extend(collected(policy))
    first = replay.sample()["next", "agents", "information_reward"].mean()
    with torch.no_grad():
        for parameter in reward.networks[1].parameters():
            parameter.zero_()
    assert replay.sample()["next", "agents", "information_reward"].mean() != first


def test_what_is_stored_stays():
    policy, reward = rewarded()
    replay = TensorDictReplayBuffer(storage=LazyTensorStorage(64), batch_size=64, transform=reward)
    batch = collected(policy)
    replay.extend(batch)
    raw = batch["next", *KEYS.reward].mean()
    for _ in range(2):
        found = replay[:]
        paid = found["next", "agents", "information_reward"].mean()
        torch.testing.assert_close(found["next", *KEYS.reward].mean(), raw + paid)


def test_random_actions_of_a_warm_up_are_paid_nothing():
    env = vm.make_env("guard", 4)
    spec = env.full_action_spec_unbatched[KEYS.action]
    actor = vm.make_actor(1, 3, spec, hidden=(8,))
    policy = vm.make_policy(vm.LatentSampler(vm.GaussianPrior(3)), actor)
    env.append_transform(MutualInformationReward(policy, vm.VariationalPredictor(1, spec)))
    check_env_specs(env)
    steps = env.rollout(2, break_when_any_done=False)
    assert (steps["next", "agents", "information_reward"] == 0).all()


def test_an_environment_pays_it_and_keeps_the_task_s_return():
    env = vm.make_env("predator_prey_2", 3, seed=0)
    sizes = env.observation_spec[KEYS.observation].shape[-1]
    spec = env.full_action_spec[KEYS.action]
    actor = vm.make_actor(sizes, 3, spec, hidden=(8,))
    policy = vm.make_policy(vm.LatentSampler(vm.GaussianPrior(3)), actor)
    predictor = vm.VariationalPredictor(sizes, spec, hidden=(8,))
    task = ("agents", "task_return")
    env.append_transform(RewardSum(in_keys=[KEYS.reward], out_keys=[task]))
    env.append_transform(MutualInformationReward(policy, predictor, weight=1.0))
    steps = env.rollout(5, policy)
    paid = steps["next", "agents", "information_reward"]
    assert (paid != 0).all()
    raw = steps["next", *KEYS.reward] - paid
    torch.testing.assert_close(raw.sum(1), steps["next", *task][:, -1], atol=1e-4, rtol=1e-4)
    assert (steps["agents", "information_reward"][:, 0] == 0).all()


def test_no_gradient_and_no_parameters_of_its_own():
    policy, reward = rewarded()
    assert list(reward.parameters()) == []
    assert not reward(collected(policy))["next", *KEYS.reward].requires_grad


def test_a_host_that_cannot_be_touched_learns_from_it():
    policy, reward = rewarded(weight=1.0)
    batch = reward(collected(policy))
    batch["advantage"] = batch["next", *KEYS.reward]
    loss = scoring(ClipPPOLoss, policy.replaying())(batch)["loss_objective"]
    assert bool(torch.isfinite(loss).all())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": -1.0}, "weight"),
        ({"num_latents": 0}, "num_latents must be at least 1"),
        ({"num_latents": 2.5}, "num_latents"),
        ({"clip": (1.0, -1.0)}, "clip must be"),
        ({"clip": 5.0}, "clip must be"),
        ({"pair_weight": "some"}, "pair_weight"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        rewarded(**options)


def test_bad_input():
    policy, reward = rewarded()
    batch = collected(policy)
    with pytest.raises(MissingKeysError, match=r"MutualInformationReward.*latent"):
        reward(batch.exclude("latent"))
    with pytest.raises(MissingKeysError, match=r"MutualInformationReward.*next"):
        reward(batch.exclude("next"))
    with pytest.raises(ValueError, match="the schedule gave nan"):
        rewarded(schedule=lambda _: float("nan"))[1](batch)
    with pytest.raises(ValueError, match=r"rewards must be \[\*B, N, 1\]"):
        reward(batch.clone().set(("next", *KEYS.reward), torch.zeros(64, 2)))
    with pytest.raises(ValueError, match="CategoricalPredictor for discrete actions"):
        MutualInformationReward(discrete_policy(), predictor_of(policy))
