from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("vmas")

from vm3ac_modules.algorithms import (
    VM3AC,
    Preset,
    build,
    build_from,
    find_preset,
    presets,
    register,
    tuned,
)
from vm3ac_modules.algorithms import registry as module
from vm3ac_modules.envs import make_env
from vm3ac_modules.options import OptionsError


@pytest.fixture(scope="module")
def env():
    return make_env("predator_prey_2", 2, seed=0)


def test_the_predictor_learns_at_the_policys_rate_unless_told(env):
    def rates(**options):
        optimizers = build("vm3ac", env, hidden=[8, 8], **options).optimizers
        return {name: optimizer.param_groups[0]["lr"] for name, optimizer in optimizers.items()}

    assert set(rates(lr=1e-3).values()) == {1e-3}
    assert rates(lr=1e-3, predictor_lr=2e-3)["loss_predictor"] == 2e-3


@pytest.mark.parametrize("algorithm", ["vm3ac", "vm3ac_attention", "maddpg", "maven"])
@pytest.mark.parametrize("shared", [True, False])
def test_critics_can_differ_from_policies(env, algorithm, shared):
    def shapes(**options):
        loss = build(algorithm, env, hidden=[8, 8], **options).loss
        return {
            name: {tuple(p.shape) for p in getattr(loss, f"{name}_params").parameters()}
            for names in loss.networks().values()
            for name in names
        }

    default, critic = {"share_params": shared}, {"qvalue_network", "value_network"}
    before = shapes(**default)
    assert before == shapes(**default, critic_hidden=[8, 8], critic_share_params=shared)
    after = shapes(**default, critic_hidden=[12, 4], critic_share_params=not shared)
    for name, found in after.items():
        if name not in critic:
            assert found == before[name]
            continue
        wide = {shape[-1] for shape in found}
        assert {4, 12} <= wide
        assert not any(shape[-1] == 8 for shape in found)
        assert {shape[-3] for shape in found} == {2 if shared else 1}


@pytest.mark.parametrize("algorithm", sorted(presets("continuous")))
def test_optimizers_hold_every_parameter_once(env, algorithm):
    agent = build(algorithm, env, hidden=[8, 8])
    held = [
        p for o in agent.optimizers.values() for group in o.param_groups for p in group["params"]
    ]
    assert len({id(p) for p in held}) == len(held)
    assert {id(p) for p in agent.policy.parameters()} <= {id(p) for p in held}


def test_unknown_names_list_the_valid_ones(env):
    valid = r"unknown algorithm 'vm3' \(did you mean 'vm3ac'\?\); valid for continuous actions: ma"
    with pytest.raises(OptionsError, match=valid):
        build("vm3", env)
    with pytest.raises(
        OptionsError, match=r"unknown option 'bata' of ma_sac \(did you mean 'beta'\?\); valid: lr"
    ):
        build("ma_sac", env, bata=1)
    with pytest.raises(OptionsError, match=r"prior must be .*gaussian.*, got 'normal'"):
        build("vm3ac", env, prior="normal")


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"latent_dim": -1}, "latent_dim must be an integer >= 0, got -1"),
        ({"beta": -0.1}, "beta must be .*a number >= 0.*, got -0.1"),
        ({"num_latents": -1}, "num_latents must be .*an integer >= 0.*, got -1"),
        ({"predictor_scale": 0.0}, "predictor_scale must be .*a number > 0.*, got 0.0"),
        ({"critic": "simple"}, "critic must be emphasized, plain, attention, got 'simple'"),
        ({"critic_input": "images"}, "critic_input must be observations or state, got 'images'"),
        ({"gamma": 1.5}, "gamma must be a number >= 0 and <= 1, got 1.5"),
        ({"reward_scale": 0.0}, "reward_scale must be a number > 0, got 0.0"),
        ({"log_std": "exp"}, "log_std must be clamp or paper, got 'exp'"),
    ],
)
def test_unusable_options(env, option, said):
    with pytest.raises(ValueError, match=said):
        build("vm3ac", env, **option)


@pytest.mark.parametrize("algorithm", sorted(presets("continuous")))
def test_an_agent_knows_what_it_was_built_from(env, algorithm):
    agent = build(algorithm, env, hidden=[8], lr=1e-2)
    expected = find_preset(algorithm, "continuous").options.changed({"hidden": [8], "lr": 1e-2})
    assert (agent.algorithm, agent.options, agent.seeds) == (algorithm, expected, 1)
    sizes = agent.policy.sizes
    assert (sizes.num_agents, sizes.action_dim, sizes.discrete) == (2, 2, False)


def test_a_variant_is_an_instance(env):
    variant = replace(VM3AC(), num_latents=2, hidden=(8,))
    agent = build_from(variant, env, name="mine")
    assert (agent.algorithm, agent.options) == ("mine", variant)
    with pytest.raises(OptionsError, match="num_latents"):
        replace(VM3AC(), num_latents=-2)


def test_an_algorithm_of_ones_own_by_name(env, monkeypatch):
    monkeypatch.setattr(module, "_REGISTERED", {})
    register("mine", Preset(replace(VM3AC(), hidden=(8,)), "mine"))
    assert "mine" in presets("continuous")
    assert "mine" not in presets("discrete")
    assert build("mine", env, lr=0.1).options.lr == 0.1
    for taken in ("mine", "vm3ac"):
        with pytest.raises(ValueError, match=f"there is an algorithm '{taken}' for continuous"):
            register(taken, Preset(VM3AC(), "again"))


def test_a_name_has_one_algorithm_for_each_kind_of_actions():
    both = presets("continuous").keys() & presets("discrete").keys()
    assert both == {"vm3ac", "maven"}
    for name in both:
        kinds = [type(find_preset(name, kind).options) for kind in ("continuous", "discrete")]
        assert kinds[0] is not kinds[1]


def test_later_rows_of_what_is_tuned_prevail():
    expected = {"beta": 0.05, "critic_input": "state", "num_envs": 16}
    assert tuned("vm3ac", "multiwalker_3") == expected
    assert tuned("vm3ac", "predator_prey_2", ["beta", "lr"]) == {"beta": 0.15}
    assert tuned("vm3ac", "vmas/balance") == {}
    for name in ("guarded_rendezvous", "learning_prey", "rendezvous"):
        assert tuned("vm3ac", name, ["beta", "latent_held"]) == {"beta": 0.005, "latent_held": True}
        # MAVEN draws z by what critics see, and must not draw it by the adversary.
        inputs = {by: tuned(by, name)["critic_input"] for by in ("ma_sac", "maven")}
        assert inputs == {"ma_sac": "state", "maven": "observations"}
    assert tuned("lica", "battle/smax/sparse/3m")["num_envs"] == 8
    assert "reward_scale" not in tuned("fop", "battle/smax/sparse/3m")


@pytest.mark.parametrize("task", ["guarded_rendezvous", "multiwalker_3"])
@pytest.mark.parametrize("name", presets("continuous"))
def test_every_preset_fits_the_critics_that_are_tuned(env, name, task):
    chosen = tuned(name, task, ["critic_input", "latent_held", "latent_dim"])
    options = find_preset(name, "continuous").options
    chosen = {key: value for key, value in chosen.items() if key in options.names()}
    build(name, env, hidden=[8], **chosen)


@pytest.mark.parametrize("name", presets("continuous"))
def test_every_preset_fits_what_is_tuned_for_the_guard_game(name):
    from vm3ac_modules.envs import GuardEnv

    options = find_preset(name, "continuous").options
    chosen = tuned(name, "guard", options.names())
    agent = build(name, GuardEnv(4), hidden=[8], **chosen)
    led = chosen.get("beta_end") is not None
    assert ("beta" in [key for hook in agent.hooks for key in hook.logged]) == (
        led or getattr(options, "auto_beta", None) is not None
    )
