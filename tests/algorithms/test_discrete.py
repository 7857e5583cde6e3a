"""Algorithms over discrete actions, on battles of the embedded simulator."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch
from torchrl.envs.utils import check_env_specs

if find_spec("jaxmarl") is None:
    pytest.skip("needs the extra smax", allow_module_level=True)

from vm3ac_modules.algorithms import build, find_preset, presets, tuned
from vm3ac_modules.envs import make_battle_env
from vm3ac_modules.learning import EpisodeCollector, SourceSizes
from vm3ac_modules.learning._collecting import EpisodeCollecting
from vm3ac_modules.options import OptionsError

MAX_STEPS = 8
DISCRETE = sorted(presets("discrete"))


@pytest.fixture(scope="module")
def battle():
    return make_battle_env("3m", 4, seed=0, max_steps=MAX_STEPS)


def schedule(agent, frames):
    """Set what follows the frames, and give the values by name."""
    for hook in agent.hooks:
        hook.before_collect(frames)
    logged = [hook for hook in agent.hooks if hasattr(hook, "law")]
    return {hook.logged[0]: float(hook.scalars()) for hook in logged}


def played(agent, env):
    env.set_seed(0)
    return EpisodeCollector(agent.wrap(env), agent.policy, MAX_STEPS, agent.recorded).play()


@pytest.mark.parametrize("algorithm", DISCRETE)
def test_policies_play_legal_actions_and_losses_read_what_is_recorded(algorithm, battle):
    torch.manual_seed(0)
    agent = build(algorithm, battle, hidden_size=8)
    # A policy that is all exploration has no gradient.
    schedule(agent, 50_000)
    # An illegal action would be refused by the environment.
    round_ = played(agent, battle)
    source = agent.source(SourceSizes(8, 4, episodes=True))
    source.add(round_.episodes)
    batch = next(iter(source.batches()))
    before = {k: v.clone() for k, v in agent.loss.state_dict().items()}
    out = agent.update(batch, 10.0)
    assert all(value.isfinite() for value in out.values())
    assert set(out) == set(agent.loss.out_keys)
    changed = {k for k, v in agent.loss.state_dict().items() if not torch.equal(v, before[k])}
    # Targets may follow at every update.
    trained = {k.split("_params")[0] for k in changed if "target" not in k}
    networks = {n.split("_params")[0] for n in before if "params" in n and "target" not in n}
    assert trained == networks - {"latent_policy_network"}


@pytest.mark.parametrize("algorithm", ["vm3ac", "maven"])
def test_wrapped_environments_keep_their_specs(algorithm, battle):
    check_env_specs(build(algorithm, battle, hidden_size=8).wrap(battle))


def test_floor_and_temperature_follow_the_frames(battle):
    agent = build("fop", battle, hidden_size=8, epsilon_frames=100)
    floor = agent.policy.actor
    said = schedule(agent, 0)
    assert said == {"epsilon": 1.0, "temperature": 0.5}
    assert (float(floor.epsilon), float(agent.loss.temperature)) == (1.0, 0.5)
    schedule(agent, 50)
    assert float(floor.epsilon) == pytest.approx(0.525)
    schedule(agent, 100_000)
    assert float(floor.epsilon) == pytest.approx(0.05)
    # The paper's straight line against the code's, which is at its end after 90,000.
    assert float(agent.loss.temperature) == pytest.approx(0.275)
    code = build("fop", battle, hidden_size=8, temperature_schedule="code")
    schedule(code, 90_000)
    assert float(code.loss.temperature) == pytest.approx(0.05)


def test_the_floor_reaches_what_is_played_and_not_the_greedy_twin(battle):
    torch.manual_seed(0)
    agent = build("fop", battle, hidden_size=8)
    td = agent.wrap(battle).reset()
    mask = td["agents", "action_mask"].float()
    schedule(agent, 0)
    uniform = mask / mask.sum(-1, keepdim=True)
    torch.testing.assert_close(agent.policy(td.clone())["agents", "logits"].exp(), uniform)
    greedy = agent.policy.greedy()(td.clone())["agents", "logits"].exp()
    assert (greedy - uniform).abs().max() > 1e-3


def test_the_floor_follows_the_frames_after_a_move(battle):
    agent = build("fop", battle, hidden_size=8)
    agent.policy.double()
    agent.loss.double()
    schedule(agent, 50_000)
    learned = agent.loss.actor_network_params.get("epsilon")
    assert float(learned) == float(agent.policy.actor.epsilon) == pytest.approx(0.05)


def test_targets_are_copied_at_every_interval(battle):
    torch.manual_seed(0)
    agent = build("fop", battle, hidden_size=8, target_interval=3)
    batch = played(agent, battle).episodes
    online = agent.loss.qvalue_network_params
    target = agent.loss.target_qvalue_network_params
    key = ("mixer", "key", "weight")
    equal = []
    for _ in range(6):
        agent.update(batch)
        equal.append(torch.equal(online.get(key), target.get(key)))
    assert equal == [False, False, True, False, False, True]


@pytest.mark.parametrize("algorithm", ["fop", "maven"])
def test_targets_may_move_at_every_update(battle, algorithm):
    torch.manual_seed(0)
    agent = build(algorithm, battle, hidden_size=8, target_tau=0.25)
    batch = played(agent, battle).episodes
    names = [name for name in agent.loss.state_dict() if name.startswith("target_")]
    for _ in range(2):
        before = {k: v.clone() for k, v in agent.loss.state_dict().items()}
        agent.update(batch)
        after = agent.loss.state_dict()
        for name in names:
            online = after[name.removeprefix("target_")]
            if online.is_floating_point():
                torch.testing.assert_close(after[name], 0.75 * before[name] + 0.25 * online)
    assert names


def test_the_presets_for_a_cpu_change_the_same_of_both(battle):
    changed = {}
    for name in ("fop", "vm3ac"):
        plain, cpu = (find_preset(n, "discrete").options.to_dict() for n in (name, f"{name}_cpu"))
        changed[name] = {key: value for key, value in cpu.items() if value != plain[key]}
        # VM3-AC's bonus keeps nobody trying: it has four times FOP's temperature.
        for end in ("temperature_start", "temperature_end"):
            changed[name][end] /= {"fop": 1, "vm3ac": 4}[name]
        assert build(f"{name}_cpu", battle, hidden_size=8).loss.mask_soft_values
    assert changed["fop"] == changed["vm3ac"] != {}
    # Several updates per episode; the plain presets have fewer.
    loops = [tuned(f"{name}_cpu", "battle/smax/sparse/3s_vs_3z") for name in changed]
    assert loops[0] == loops[1]
    assert loops[0]["updates_per_episode"] > 1


def test_reward_scale_multiplies_what_the_loss_reads(battle):
    batch = played(build("vdac", battle, hidden_size=8), battle).episodes
    values = []
    for scale in (1.0, 3.0):
        torch.manual_seed(0)
        agent = build("vdac", battle, hidden_size=8, lam=1.0, reward_scale=scale)
        with torch.no_grad():
            for parameter in agent.loss.parameters():
                parameter.zero_()
        values.append(agent.update(batch)["value_target"])
    torch.testing.assert_close(values[1], 3 * values[0])


def test_gradients_are_clipped_by_group(battle):
    torch.manual_seed(0)
    agent = build("fop", battle, hidden_size=8)
    batch = played(agent, battle).episodes
    norms = {}

    def note(name, optimizer):
        step = optimizer.step

        def stepped():
            grads = [p.grad for g in optimizer.param_groups for p in g["params"]]
            norms[name] = torch.nn.utils.get_total_norm(grads)
            step()

        optimizer.step = stepped

    for name, optimizer in agent.optimizers.items():
        note(name, optimizer)
    agent.update(batch, 1e-3)
    assert all(norm <= 1.01e-3 for norm in norms.values())
    assert len(norms) == 2


def test_mavens_prior_learns_from_rounds(battle):
    torch.manual_seed(0)
    agent = build("maven", battle, hidden_size=8, latent_dim=4, latent_episodes=4)
    before = agent.loss.latent_policy_network_params.clone()
    battle.set_seed(0)
    collecting = EpisodeCollecting(agent, agent.wrap(battle), MAX_STEPS)
    collected = next(iter(collecting))
    round_ = collected.played
    latent = round_.episodes["latent"]
    lengths = round_.lengths
    for row in range(4):
        # One draw per episode, the bootstrap slot included.
        assert (latent[row, : lengths[row] + 1] == latent[row, 0]).all()
    # Where every episode began, and what it returned.
    ends = collected.steps
    assert torch.equal(ends["latent"], latent[:, 0])
    assert torch.equal(ends["next", "agents", "episode_reward"].flatten(), round_.returns)
    assert ends["next", "done"].all()
    ends["next", "agents", "episode_reward"] = torch.arange(4.0)[:, None, None]
    [learner] = [hook for hook in agent.hooks if hook.optimizer is not None]
    for hook in agent.hooks:
        hook.after_step(ends, 100)
    after = agent.loss.latent_policy_network_params
    pairs = zip(before.values(True, True), after.values(True, True), strict=True)
    assert not any(torch.equal(a, b) for a, b in pairs)
    assert learner.scalars().isfinite().all()


@pytest.mark.parametrize(
    ("algorithm", "options", "message"),
    [
        ("qmix", {}, "unknown algorithm 'qmix'; valid for discrete actions: dop, .*fop"),
        ("fop", {"latent_dim": 3}, "unknown option 'latent_dim' of fop"),
        ("vdac", {"mixer": "mean"}, "mixer must be .*qmix.*, got 'mean'"),
        ("maven", {"latent_policy": "best"}, "latent_policy must be learned or uniform"),
        ("fop", {"mixer_weights": "qatten"}, "needs unit_dim"),
        ("fop", {"temperature_schedule": "steep"}, "temperature_schedule must be paper or code"),
        ("fop", {"temperature_end": 0.0}, "temperature_end must be a number > 0"),
        ("dop", {"epsilon_start": 1.5}, "epsilon_start must be a number >= 0 and <= 1, got 1.5"),
        ("fop", {"target_tau": 0.0}, "target_tau must be a number > 0 and <= 1 or null, got 0.0"),
        ("maven", {"target_interval": 0}, "target_interval must be an integer >= 1, got 0"),
    ],
)
def test_bad_options(battle, algorithm, options, message):
    with pytest.raises(ValueError, match=message):
        build(algorithm, battle, **options)


def test_the_kind_of_actions_chooses_the_algorithm(battle):
    assert build("vm3ac", battle, hidden_size=8).options.kind == "discrete"
    with pytest.raises(OptionsError, match="ma_ac is for continuous actions; valid for discrete"):
        build("ma_ac", battle)
    pytest.importorskip("vmas")
    from vm3ac_modules.envs import make_env

    steps = make_env("predator_prey_2", 2, seed=0)
    assert build("vm3ac", steps, hidden=[8]).options.kind == "continuous"
    with pytest.raises(OptionsError, match="fop is for discrete actions; valid for continuous"):
        build("fop", steps)


def test_a_battle_trains_one_seed(battle):
    with pytest.raises(ValueError, match="fop trains one seed at a time, got seeds=2"):
        build("fop", battle, seeds=2)


def test_presets_fill_in_and_are_not_shared():
    preset = find_preset("dop", "discrete").options
    chosen = preset.changed({"lr": 1.0}, "dop")
    assert (chosen.lr, chosen.epsilon_start) == (1.0, 0.5)
    assert find_preset("dop", "discrete").options.lr == 5e-4
