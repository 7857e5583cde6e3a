"""Evaluation over battles, and their pictures."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch

if find_spec("jaxmarl") is None:
    pytest.skip("needs the extra smax", allow_module_level=True)
pytest.importorskip("imageio")

from contracts.smax import focus_fire_action

from vm3ac_modules.algorithms import build
from vm3ac_modules.envs import make_battle_env
from vm3ac_modules.evaluation import battle_gif, evaluate, unit_trace
from vm3ac_modules.modules import Policy


def evaluate_battles(policy, env, **options):
    return evaluate(policy, env, max_steps=40, plays="episodes", **options)


def greedy(agent):
    return Policy.of(agent.policy).greedy()


@pytest.fixture(scope="module")
def battle():
    return make_battle_env("3m", 8, seed=0, max_steps=40)


def test_starts_are_fixed_and_the_callers_generator_is_left_alone(battle):
    torch.manual_seed(0)
    agent = build("vm3ac", battle, hidden_size=8)
    env = agent.wrap(battle)
    before = torch.get_rng_state()
    first = evaluate_battles(greedy(agent), env, seed=5)
    torch.testing.assert_close(torch.get_rng_state(), before)
    again = evaluate_battles(greedy(agent), env, seed=5)
    other = evaluate_battles(greedy(agent), env, seed=6)
    assert torch.equal(first.returns, again.returns)
    assert not torch.equal(first.returns, other.returns)


@pytest.mark.parametrize("latent", ["constant", "synchronized", "independent"])
def test_latents_by_every_mode(battle, latent):
    agent = build("vm3ac", battle, hidden_size=8)
    result = evaluate_battles(greedy(agent), agent.wrap(battle), seed=5, latent=latent)
    assert result.returns.isfinite().all()


def test_a_script_that_fights_wins_and_the_numbers_agree(battle):
    def script(td):
        return td.set(("agents", "action"), focus_fire_action(battle))

    scripted = evaluate_battles(script, battle, seed=5)
    random = evaluate_battles(None, battle, seed=5)
    assert scripted.info["battle_won"].mean() > 0.2
    assert random.info["battle_won"].sum() == 0
    for result in (scripted, random):
        won, dead = result.info["battle_won"], result.info["dead_enemies"]
        assert ((won == 1) <= (dead == 3)).all()
        expected = 10 * dead - result.info["dead_allies"] - 0.1 * result.lengths + 200 * won
        torch.testing.assert_close(result.returns, expected)


def test_a_battle_as_a_picture(battle, tmp_path):
    import imageio.v3 as iio

    result = evaluate_battles(None, battle, seed=5, observer=unit_trace)
    length = int(result.lengths[0])
    trace = result.trace[0, : length + 1]
    assert trace.shape == (length + 1, 6, 7)
    assert trace[0, :, 3].tolist() == [1.0] * 6
    assert trace[-1, :3, 3].sum() == 3 - result.info["dead_allies"][0]
    path = tmp_path / "battle.gif"
    battle_gif(path, trace, title="3m")
    assert len(iio.imread(path)) == length + 1
    with pytest.raises(ValueError, match="trace must be"):
        battle_gif(path, trace[0], title="3m")


def test_several_games_fight_several_battles_and_rounds_go_on(battle):
    from vm3ac_modules.envs import make_smac_env
    from vm3ac_modules.testing import SMACStub

    games = make_smac_env("3m", SMACStub, 2, seed=0)
    try:
        start = []

        def observer(env):
            start.extend(td["state"].clone() for td in env.base_env.shared_tensordicts)
            return torch.zeros(2)

        evaluate_battles(None, games, seed=5, observer=observer)
        assert not torch.equal(start[0], start[1])
    finally:
        games.close()
    one = evaluate_battles(None, battle, seed=5)
    two = evaluate_battles(None, battle, seed=5, episodes=16)
    assert two.returns.shape == two.info["battle_won"].shape == two.lengths.shape == (16,)
    assert torch.equal(two.lengths[:8], one.lengths)
    assert not torch.equal(two.lengths[8:], one.lengths)
