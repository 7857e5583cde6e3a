"""Metrics of VMAS's scenarios are the team's mean, and every agent's own on request."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("vmas")

from contracts.training import STEPS, configuration, logged
from tensordict import TensorDict
from vmas.simulator.core import Agent, Sphere, World
from vmas.simulator.scenario import BaseScenario

from vm3ac_modules.envs import VMASEnv
from vm3ac_modules.envs.tasks import make_env, vmas_scenarios
from vm3ac_modules.envs.transforms import AgentInfoToRoot
from vm3ac_modules.runs import train

# Of VMAS's controllers.
pytestmark = pytest.mark.filterwarnings("ignore:Force limits not specified")
REPORTED = [0.0, 1.0, 2.0]
UNLIKE = (
    *("diff_drive", "kinematic_bicycle", "simple_adversary", "simple_crypto", "simple_push"),
    *("simple_speaker_listener", "simple_tag", "simple_world_comm"),
)
NO_INFO = "VMAS's scenario reports nothing"


class Numbered(BaseScenario):
    """Agents that report their number, and one thing that the first one keeps to itself."""

    def make_world(self, batch_dim, device, **kwargs):
        world = World(batch_dim, device)
        for i in range(3):
            world.add_agent(Agent(name=f"agent_{i}", shape=Sphere(0.05), collide=False))
        return world

    def reset_world_at(self, env_index=None):
        pass

    def reward(self, agent):
        return torch.zeros(self.world.batch_dim)

    def observation(self, agent):
        return agent.state.pos

    def info(self, agent):
        number = torch.full((self.world.batch_dim,), float(agent.name[-1]))
        return {"number": number, "first": number == 0.0, "vector": agent.state.pos}


def numbered(num_envs, device, seed):
    return VMASEnv(Numbered(), num_envs, device, seed)


def test_the_team_reports_the_mean_of_its_agents_and_not_the_first_one():
    steps = make_env("python:envs.vmas.test_info:numbered", 2, seed=0).rollout(3)
    info = steps["next", "info"]
    assert (info["number"] == 1.0).all()
    torch.testing.assert_close(info["first"], torch.full((2, 3, 1), 1 / 3))
    assert info["vector"].shape == (2, 3, 2)
    assert ("agents", "info", "number") not in steps["next"].keys(True)


@pytest.mark.parametrize("value", [0.1, float("inf"), float("nan"), 7.0])
@pytest.mark.parametrize("agents", [1, 3, 7])
def test_what_all_agents_report_alike_is_reported_to_the_bit(value, agents):
    info = {"x": torch.full((5, agents, 1), value)}
    td = TensorDict({"agents": {"info": info}}, [5])
    found = AgentInfoToRoot()(td)["info", "x"]
    assert torch.equal(found.nan_to_num(-1.0), torch.full((5, 1), value).nan_to_num(-1.0))


def test_a_column_per_agent_on_request(tmp_path):
    pytest.importorskip("tensorboard")
    tiny = {**STEPS, "run_dir": str(tmp_path), "draw": False}
    task = "python:envs.vmas.test_info:numbered"
    train(configuration(tiny=tiny, task=task, info_per_agent=True))
    row = logged(tmp_path / "eval.csv")[-1]
    assert [float(row[f"number_agent_{i}"]) for i in range(3)] == REPORTED
    assert float(row["number"]) == 1.0


@pytest.mark.parametrize("name", vmas_scenarios())
def test_every_stock_scenario_reports_its_mean(name):
    if name in UNLIKE:
        with pytest.raises(ValueError, match="the agents of group 'agents' differ"):
            make_env(f"vmas/{name}", 2, seed=0)
        return
    specs = make_env(f"vmas/{name}", 2, seed=0).observation_spec
    raw = VMASEnv(name, 2, seed=0).rollout(2)["next"]
    told = raw.get("agents").get("info", None)
    if told is None:
        assert "info" not in list(specs.keys()), NO_INFO
        return
    told = told.clone()
    found = AgentInfoToRoot(per_agent=True)(raw.clone())["info"]
    agents = next(iter(told.values())).shape[2]
    assert set(specs["info"].keys()) == set(told.keys())
    for key, value in told.items():
        torch.testing.assert_close(found[key], value.float().mean(2), equal_nan=True)
        for i in range(agents):
            assert torch.equal(found[f"{key}_agent_{i}"], value[:, :, i].float())
        assert specs["info", key].shape == found[key][:, 0].shape
