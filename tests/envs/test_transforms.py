"""Transforms inside an environment and in a replay buffer."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

pytest.importorskip("vmas")

from tensordict import TensorDict
from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer
from torchrl.envs.utils import check_env_specs, step_mdp

from vm3ac_modules.envs import AgentIndex, EpisodeCounter, ExpandDone, make_env
from vm3ac_modules.envs.tasks import find_task

FLAGS = ("done", "terminated", "truncated")


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def assert_expanded(td, agents, group="agents"):
    for key in FLAGS:
        flag = td[group, key]
        assert flag.shape == (*td.shape, agents, 1)
        assert flag.dtype is torch.bool
        assert torch.equal(flag, td[key].unsqueeze(-2).expand_as(flag))


def test_expand_done_in_an_environment():
    env = make_env("predator_prey_3", num_envs=2, seed=0, max_steps=4)
    env.append_transform(ExpandDone())
    check_env_specs(env)
    td = env.rollout(9, break_when_any_done=False)
    assert td["next", "agents", "done"].sum() == 2 * 2 * 3
    assert_expanded(td, 3)
    assert_expanded(td["next"], 3)


def test_expand_done_follows_rows_out_of_phase():
    env = make_env("predator_prey_2", num_envs=3, seed=0, max_steps=4)
    env.append_transform(ExpandDone())
    td = env.reset()
    for _ in range(2):
        td = step_mdp(env.rand_step(td))
    td["_reset"] = torch.tensor([[True], [False], [False]])
    td = env.reset(td)
    assert_expanded(td, 2)
    done = []
    for _ in range(6):
        full, td = env.step_and_maybe_reset(env.rand_action(td))
        assert_expanded(full["next"], 2)
        assert_expanded(td, 2)
        done.append(full["next", "agents", "done"][:, 0, 0].tolist())
    # row 0 was reset two steps later than the others, and each row restarts by itself
    assert [row.index(True) for row in zip(*done, strict=True)] == [3, 1, 1]
    assert done[5] == [False, True, True]


@pytest.mark.parametrize("batch", [(6,), (2, 3)])
@pytest.mark.parametrize("agents", [1, 3])
def test_expand_done_in_a_replay_buffer(batch, agents):
    done = torch.rand(*batch, 1) < 0.5
    group = TensorDict({"reward": torch.zeros(*batch, agents, 1)}, [*batch, agents])
    nxt = TensorDict(done=done, terminated=done, truncated=~done, walkers=group, batch_size=batch)
    data = TensorDict(next=nxt, batch_size=batch)
    buffer = TensorDictReplayBuffer(
        storage=LazyTensorStorage(20), batch_size=4, transform=ExpandDone("walkers")
    )
    buffer.extend(data)
    assert_expanded(buffer.sample()["next"], agents, "walkers")


def test_expand_done_says_what_is_missing():
    with pytest.raises(KeyError, match=r"next.*done"):
        ExpandDone()(TensorDict({"agents": {"reward": torch.zeros(4, 2, 1)}}, [4]))
    with pytest.raises(KeyError, match="walkers"):
        ExpandDone("walkers")(TensorDict(done=torch.zeros(4, 1), batch_size=[4]))
    env = make_env("predator_prey_2", num_envs=1, seed=0)
    with pytest.raises(KeyError, match="walkers"):
        env.append_transform(ExpandDone("walkers")).rollout(1)


def test_info_is_what_all_agents_report_alike():
    env = make_env("vmas/give_way", num_envs=2, seed=0)
    td = env.rand_step(env.reset())["next"]
    first, second = env.base_env.agents[:2]
    scenario = env.base_env.scenario
    expected = scenario.info(first)["agent_collision_rew"]
    assert torch.equal(td["info", "agent_collision_rew"].squeeze(-1), expected)
    assert td["info", "pos_rew"].shape == (2, 1)
    assert second.name not in str(td)


def test_episode_counts_resets_of_each_row():
    env = make_env("predator_prey_2", num_envs=3, seed=0, max_steps=2)
    td = env.rollout(6, break_when_any_done=False)
    rows = torch.arange(3)
    for t in range(6):
        expected = t // 2 * 3 + rows
        assert torch.equal(td["episode"][:, t, 0], expected)
        # the step that ends an episode still belongs to it
        assert torch.equal(td["next", "episode"][:, t, 0], expected)
    assert td["episode"].dtype is torch.int64
    assert env.reset()["episode"].flatten().tolist() == [9, 10, 11]


def test_episode_of_a_row_reset_alone():
    env = make_env("predator_prey_2", num_envs=3, seed=0)
    td = env.reset()
    td["_reset"] = torch.tensor([[False], [True], [False]])
    td = env.reset(td)
    assert td["episode"].flatten().tolist() == [0, 4, 2]
    assert env.rand_step(td)["next", "episode"].flatten().tolist() == [0, 4, 2]


def test_episodes_never_repeat():
    env = make_env("predator_prey_2", num_envs=4, seed=0, max_steps=3)
    episodes = env.rollout(30, break_when_any_done=False)["episode"]
    assert episodes.unique().numel() == 4 * 10


def test_episode_counter_survives_a_checkpoint():
    env = make_env("predator_prey_2", num_envs=2, seed=0)
    for _ in range(3):
        env.reset()
    other = make_env("predator_prey_2", num_envs=2, seed=0)
    other.load_state_dict(env.state_dict())
    assert torch.equal(env.reset()["episode"], other.reset()["episode"])
    assert other.reset()["episode"].flatten().tolist() == [8, 9]


def test_episode_counter_refuses_a_replay_buffer():
    with pytest.raises(RuntimeError, match="EpisodeCounter"):
        EpisodeCounter([2])(TensorDict(batch_size=[2]))


def test_the_agent_index_is_appended_once_and_in_the_specs():
    env, plain = (
        replace(find_task("predator_prey_3"), agent_index=index).make(2, seed=0)
        for index in (True, False)
    )
    check_env_specs(env)
    env.set_seed(0)
    plain.set_seed(0)
    seen, bare = env.rollout(3), plain.reset()["agents", "observation"]
    for part in (seen, seen["next"]):
        index = part["agents", "observation"][..., -3:]
        assert torch.equal(index, torch.eye(3).expand_as(index))
    assert torch.equal(seen[:, 0]["agents", "observation"][..., :-3], bare)
    assert seen["agents", "observation"].shape[-1] == bare.shape[-1] + 3
    with pytest.raises(RuntimeError, match="inside an environment"):
        AgentIndex()(seen)
