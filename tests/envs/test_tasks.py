"""``make_env``: names, time limit, seeds, and what it refuses."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

pytest.importorskip("vmas")

from tensordict import TensorDict
from torchrl.data import Bounded, Categorical, Composite, Unbounded
from torchrl.envs.utils import check_env_specs

from vm3ac_modules.envs import (
    available_environments,
    battle_task,
    check_homogeneous_continuous,
    find_task,
    make_env,
)
from vm3ac_modules.envs.tasks import check_task, own_tasks, vmas_scenarios
from vm3ac_modules.options import OptionsError


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def same(a: TensorDict, b: TensorDict) -> bool:
    return bool((a == b).all())


def scripted_rollout(env, steps=5):
    """A rollout whose actions come from a stream of their own."""
    spec = env.full_action_spec["agents", "action"]
    generator = torch.Generator().manual_seed(7)

    def policy(td):
        unit = torch.rand(spec.shape, generator=generator)
        action = spec.space.low + unit * (spec.space.high - spec.space.low)
        return td.set(("agents", "action"), action)

    return env.rollout(steps, policy, break_when_any_done=False)


@pytest.mark.parametrize("name", ["predator_prey_3", "vmas/simple_spread"])
def test_time_limit_truncates(name):
    env = make_env(name, num_envs=3, seed=0)
    td = scripted_rollout(env, 205)["next"]
    expected = torch.zeros(205, dtype=torch.bool)
    expected[[99, 199]] = True
    assert torch.equal(td["truncated"][..., 0], expected.expand(3, 205))
    assert torch.equal(td["done"], td["truncated"])
    assert not td["terminated"].any()
    assert td["step_count"][0, :, 0].max() == 100


def test_max_steps():
    td = make_env("predator_prey_2", num_envs=2, seed=0, max_steps=7).rollout(50)
    assert td.shape == (2, 7)


@pytest.mark.parametrize(
    ("name", "limit"),
    [("cooperative_navigation_3", 50), ("treasure_collection_4", 100), ("vmas/football", 100)],
)
def test_default_time_limits(name, limit):
    td = scripted_rollout(make_env(name, num_envs=1, seed=0), limit + 1)["next"]
    assert td["step_count"].flatten().tolist() == [*range(1, limit + 1), 1]
    assert td["truncated"].flatten().nonzero().tolist() == [[limit - 1]]


GAMES = {"guarded_rendezvous": 2, "learning_prey": 2, "rendezvous": 2}


@pytest.mark.parametrize("name", list(own_tasks()))
def test_tasks_are_of_the_agents_in_their_name(name):
    pytest.importorskip("Box2D" if name.startswith("multiwalker") else "vmas")
    # Games are scored at their end, which no limit may cut off.
    limit = {} if name in GAMES else {"max_steps": 3}
    env = make_env(name, num_envs=2, seed=0, **limit)
    check_env_specs(env)
    td = env.rollout(5, break_when_any_done=False)
    agents = GAMES.get(name) or int(name.rpartition("_")[2])
    assert td["agents", "observation"].shape[:3] == (2, 5, agents)
    assert td["next", "agents", "reward"].shape == (2, 5, agents, 1)
    assert bool(td["next", "truncated"][:, 2].all()) is bool(limit)
    assert td["next", "info"].batch_size == (2, 5)
    assert td["state"].ndim == 3
    # so that recipes can save it
    assert env.base_env.get_rng_state()


def test_the_time_limit_of_multiwalker_is_pettingzoos():
    pytest.importorskip("Box2D")
    env = make_env("multiwalker_2", num_envs=1)
    assert [t.max_steps for t in env.transform if hasattr(t, "max_steps")] == [500]


def test_the_callers_options_prevail():
    env = make_env("treasure_collection_4", num_envs=1, num_agents=5)
    assert env.full_action_spec["agents", "action"].shape[1] == 5


@pytest.mark.parametrize("name", ["predator_prey_4", "vmas/balance", "vmas/navigation"])
def test_seed_determines_everything(name):
    first = scripted_rollout(make_env(name, num_envs=3, seed=1), 8)
    torch.rand(5)  # the caller's stream does not matter
    assert same(first, scripted_rollout(make_env(name, num_envs=3, seed=1), 8))
    other = scripted_rollout(make_env(name, num_envs=3, seed=2), 8)
    assert not torch.equal(first["agents", "observation"], other["agents", "observation"])


@pytest.mark.parametrize("name", ["predator_prey_2", "vmas/simple_spread"])
def test_set_seed_equals_construction(name):
    fresh = make_env(name, num_envs=3, seed=5)
    used = make_env(name, num_envs=3, seed=6)
    scripted_rollout(used)
    used.set_seed(5, static_seed=True)
    key = ("agents", "observation")
    assert torch.equal(fresh.reset()[key], used.reset()[key])
    # and two resets differ
    assert not torch.equal(fresh.reset()[key], make_env(name, num_envs=3, seed=5).reset()[key])


def test_unseeded_follows_the_callers_seed():
    torch.manual_seed(0)
    first, second = (make_env("predator_prey_2", num_envs=2).reset() for _ in range(2))
    assert not torch.equal(first["state"], second["state"])
    torch.manual_seed(0)
    assert torch.equal(make_env("predator_prey_2", num_envs=2).reset()["state"], first["state"])


@pytest.mark.parametrize("name", ["vmas/simple_spread", "vmas/football", "vmas/give_way"])
def test_stock_scenarios(name):
    env = make_env(name, num_envs=2, seed=0)
    check_env_specs(env)
    td = env.rollout(2)
    assert td.get("state", None) is None
    assert ("agents", "info") not in td.keys(True)
    assert td["next", "agents", "reward"].shape[-1] == 1
    assert env.full_action_spec["agents", "action"].shape[0] == 2


def test_one_row():
    check_env_specs(make_env("predator_prey_2", num_envs=1, seed=0))


def test_a_task_makes_what_its_name_does():
    task = find_task("predator_prey_2", max_steps=7, growth="double")
    assert (task.name, task.max_steps, task.plays, task.picture) == (
        *("predator_prey_2", 7, "steps", "rollout"),
    )
    assert task.options["growth"] == "double"
    made = task.make(3, seed=5)
    named = make_env("predator_prey_2", num_envs=3, seed=5, max_steps=7, growth="double")
    assert torch.equal(made.reset()["state"], named.reset()["state"])
    assert task.limit(made) == 7
    # The task of the same name is another object.
    assert "growth" not in find_task("predator_prey_2").options


def test_the_paper_s_tasks():
    assert {name: task.max_steps for name, task in own_tasks().items()} == {
        "cooperative_navigation_3": 50,
        **{f"predator_prey_{n}": 100 for n in (2, 3, 4)},
        **{f"treasure_collection_{n}": 100 for n in (4, 5)},
        **{f"multiwalker_{n}": 500 for n in (2, 3, 4)},
        **dict.fromkeys(GAMES, 20),
    }


@pytest.mark.parametrize(("rows", "processes"), [(8, 4), (6, 2), (5, 1), (1, 1)])
def test_elsewhere_than_in_training_any_number_of_rows_goes(rows, processes):
    made = []

    def build(**options):
        made.append(options["num_workers"])
        return make_env("guard", options["num_envs"])

    task = replace(find_task("multiwalker_3"), build=build, options={"num_workers": 4})
    task.make(rows, training=False)
    task.make(rows)
    # A training is told if its rows cannot be shared equally.
    assert made == [processes, 4]


def test_a_battle_is_a_task():
    task = battle_task("3m", reward="shaped", max_steps=9)
    assert task.name == "battle/smax/shaped/3m"
    assert (task.plays, task.picture, task.row_is_process) == ("episodes", "battle", False)
    assert task.about == {"map": "3m", "backend": "smax", "reward": "shaped"}
    # A game of StarCraft is a process.
    assert battle_task("3m", "smac").row_is_process
    pytest.importorskip("jaxmarl")
    env = task.make(2, seed=0)
    assert env.batch_size == (2,)
    assert task.limit(env) == 9


def test_available_environments():
    names = available_environments()
    assert {
        "predator_prey_2",
        "guard",
        "vmas/balance",
        "vmas/simple_spread",
        "vmas/waterfall",
    } < set(names)
    assert not any("__init__" in name for name in names)


def test_names_are_those_of_vmas():
    import vmas

    listed = {*vmas.scenarios, *vmas.mpe_scenarios, *vmas.debug_scenarios}
    assert set(vmas_scenarios()) == listed


@pytest.mark.parametrize("name", ["predator_prey_5", "vmas/chess", "balance", "multiwalker_5"])
def test_unknown_name_lists_valid_ones(name):
    valid = r"predator_prey_2.*multiwalker_4.*vmas/balance.*pettingzoo/<module>, python:<module>"
    with pytest.raises(ValueError, match=f"unknown task '{name}'.*{valid}"):
        make_env(name, num_envs=1)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("vmas/balence", "vmas/balance"),
        ("navigation", "vmas/navigation"),
        ("predator_pray_2", "predator_prey_2"),
        ("garden", "guard"),
    ],
)
def test_an_unknown_name_is_answered_with_what_was_meant(name, near):
    with pytest.raises(ValueError, match=rf"unknown task '{name}' \(did you mean '{near}'\?\)"):
        check_task(name)


def test_a_name_like_no_other_has_no_hint():
    # What all scenarios of VMAS have in common is no likeness.
    with pytest.raises(ValueError, match="unknown task 'nothere'; valid: "):
        check_task("nothere")


def test_sizes_must_be_positive():
    with pytest.raises(ValueError, match="num_envs"):
        make_env("predator_prey_2", num_envs=0)
    with pytest.raises(ValueError, match="max_steps"):
        make_env("predator_prey_2", num_envs=1, max_steps=0)


def test_missing_vmas_names_the_extra(monkeypatch):
    monkeypatch.setattr("vm3ac_modules.extras.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"vm3ac-modules\[vmas\]"):
        make_env("predator_prey_2", num_envs=1)
    with pytest.raises(ImportError, match=r"vm3ac-modules\[vmas\]"):
        make_env("vmas/balance", num_envs=1)
    with pytest.raises(ImportError, match=r"vm3ac-modules\[vmas\]"):
        make_env("cooperative_navigation_3", num_envs=1)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("vmas/simple_tag", {}, "differ in the size of their observation"),
        ("vmas/simple_speaker_listener", {}, "differ in the size of their action"),
        ("vmas/simple_adversary", {}, "differ in the size of their observation"),
        ("predator_prey_2", {"continuous_actions": False}, "not a bounded continuous action"),
        ("vmas/balance", {"number_of_agents": 3}, "number_of_agents"),
        ("vmas/balance", {"typo": 3}, "typo"),
    ],
)
def test_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        make_env(name, num_envs=2, **options)


class SpecsOnly:
    """What ``check_homogeneous_continuous`` reads of an environment."""

    def __init__(self, action, observation):
        self.full_action_spec = Composite(walkers=Composite(action=action))
        self.full_observation_spec = Composite(walkers=Composite(observation=observation))
        self.full_reward_spec, self.full_done_spec = Composite(), Composite()
        self.batch_size, self.done_keys = torch.Size([4]), []


CONTINUOUS = Bounded(-1.0, 1.0, (4, 3, 2))
OBSERVATION = Unbounded((4, 3, 7))


def test_check_accepts_any_group():
    check_homogeneous_continuous(SpecsOnly(CONTINUOUS, OBSERVATION), "walkers")
    with pytest.raises(ValueError, match=r"no group 'agents'.*walkers"):
        check_homogeneous_continuous(SpecsOnly(CONTINUOUS, OBSERVATION))


@pytest.mark.parametrize(
    ("action", "observation", "message"),
    [
        (Unbounded((4, 3, 2)), OBSERVATION, "not a bounded continuous action"),
        (Categorical(5, (4, 3)), OBSERVATION, "not a bounded continuous action"),
        (
            Bounded(0, 4, (4, 3, 2), dtype=torch.int64),
            OBSERVATION,
            "not a bounded continuous action",
        ),
        (Bounded(-1.0, float("inf"), (4, 3, 2)), OBSERVATION, "infinite bound"),
        (CONTINUOUS, Composite(camera=OBSERVATION), "dictionary of .*camera"),
        (
            CONTINUOUS,
            torch.stack([Unbounded((4, 7)), Unbounded((4, 8))], 1),
            "differ in the size of their observation",
        ),
        (
            torch.stack([Bounded(-1.0, 1.0, (4, 2)), Bounded(-1.0, 1.0, (4, 3))], 1),
            OBSERVATION,
            "differ in the size of their action",
        ),
    ],
)
def test_check_refuses(action, observation, message):
    with pytest.raises(ValueError, match=message):
        check_homogeneous_continuous(SpecsOnly(action, observation), "walkers")


def test_import_needs_no_vmas_and_is_quiet():
    code = (
        "import sys; sys.modules['vmas'] = None\n"
        "import vm3ac_modules.envs as e; e.ExpandDone, e.make_env, e.VMASEnv\n"
        "del sys.modules['vmas']; e.PredatorPrey\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("name", ["num_envs", "device", "seed"])
@pytest.mark.parametrize("task", [battle_task, find_task])
def test_what_a_run_says_is_no_option_of_an_environment(task, name):
    game = "3m" if task is battle_task else "guard"
    with pytest.raises(OptionsError, match=f"{name} is no option of the env.*, got {name}=3"):
        task(game, **{name: 3})
