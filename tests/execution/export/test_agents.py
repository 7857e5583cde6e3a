from __future__ import annotations

import copy
import sys

import numpy as np
import pytest
import torch
from contracts.teams import ABOUT, PRIORS, gaussian_team, plain_team, recurrent_team, utility_team
from tensordict import TensorDict
from torchrl.envs.utils import ExplorationType, set_exploration_type

import vm3ac_modules as vm
from vm3ac_modules.execution.clock import LatentClock
from vm3ac_modules.execution.export._agent_module import FeedForwardAgent, cut_out_agent
from vm3ac_modules.execution.export._latent_source import LatentSource
from vm3ac_modules.execution.export.agents import export_agents, to_onnx, trace
from vm3ac_modules.execution.runtime.agent import DeployedAgent
from vm3ac_modules.functional.categorical import ILLEGAL
from vm3ac_modules.modules import NetworkModule, Policy
from vm3ac_modules.nn import LatentGaussianNet

SEED = 2**63 + 11
TOLERANCE = 1e-5


def observations(rows, num_agents=2, *, discrete=False):
    agents = {"observation": torch.randn(rows, num_agents, 4)}
    if discrete:
        mask = torch.rand(rows, num_agents, 5) < 0.6
        mask[..., 0] = True
        agents |= {
            "action_mask": mask,
            "hidden": torch.zeros(rows, num_agents, 8),
            "last_action": torch.full((rows, num_agents), -1),
        }
    root = {"agents": agents, "episode": torch.randint(0, 2**40, (rows, 1))}
    return TensorDict({**root, "step_count": torch.zeros(rows, 1, dtype=torch.int64)}, [rows])


def joint(policy, td):
    with torch.no_grad(), set_exploration_type(ExplorationType.DETERMINISTIC):
        return policy(td.clone())


def clock(td):
    return {"episode": td["episode"][:, 0].numpy(), "step": td["step_count"][:, 0].numpy()}


CASES = [
    *(("gaussian", source, share) for source in ("given", "mean") for share in (False, True)),
    *(("uniform", source, False) for source in ("synchronized", "mean")),
    *(("categorical", source, False) for source in ("synchronized", "constant")),
]


@pytest.mark.parametrize(("law", "source", "share"), CASES)
def test_continuous_agents_act_as_the_team(tmp_path, source, law, share):
    # Tracing the generator takes seconds: one agent has to do where it is traced.
    team = gaussian_team(1 if source == "synchronized" else 2, law, share=share)
    paths = export_agents(team, tmp_path, latent=source, about=ABOUT)
    mode = "sample" if source == "given" else source
    policy = Policy.of(team).with_latent(mode, seed=SEED)
    for rows in (1, 7):
        td = observations(rows, 1 if source == "synchronized" else 2)
        td["step_count"] += torch.randint(0, 2**32 - 1, (rows, 1))
        out = joint(policy, td)
        for index, path in enumerate(paths):
            agent = DeployedAgent(path, seed=SEED, trust=True)
            given = {"latent": out["latent"].numpy()} if source == "given" else {}
            inputs = {**clock(td), **given}
            found = agent.run(td["agents", "observation"][:, index].numpy(), **inputs)
            for name in ("action", "loc", "scale"):
                expected = out["agents", name][:, index].numpy()
                np.testing.assert_allclose(found[name], expected, rtol=0, atol=TOLERANCE)
            if source == "synchronized":
                assert np.array_equal(found["used_latent"], out["latent"].numpy())


def test_a_deterministic_policy_has_no_latent(tmp_path):
    team = plain_team()
    td = observations(5)
    expected = joint(team, td)["agents", "action"].numpy()
    for index, path in enumerate(export_agents(team, tmp_path, about=ABOUT)):
        found = DeployedAgent(path, trust=True).act(td["agents", "observation"][:, index].numpy())
        np.testing.assert_allclose(found, expected[:, index], rtol=0, atol=TOLERANCE)


def play(policy, paths, *, latent=None, steps=6, rows=3, scored=None):
    """Compare over steps in which memories fill, and in which one row starts anew."""
    agents = [DeployedAgent(path, seed=SEED, trust=True) for path in paths]
    td = observations(rows, discrete=True)
    for step in range(steps):
        if latent is not None:
            td["latent"] = latent
        if step == 3:
            td["step_count"][0], td["agents", "hidden"][0] = 0, 0.0
            td["agents", "last_action"][0] = -1
        out = joint(policy, td)
        logits = out["agents", "logits"] if scored is None else scored(td)
        for index, agent in enumerate(agents):
            inputs = {**clock(td), "action_mask": td["agents", "action_mask"][:, index].numpy()}
            inputs |= {} if latent is None else {"latent": latent.numpy()}
            found = agent.run(td["agents", "observation"][:, index].numpy(), **inputs)
            expected = logits[:, index].detach().numpy()
            np.testing.assert_allclose(found["logits"], expected, rtol=0, atol=TOLERANCE)
            assert np.array_equal(found["action"], out["agents", "action"][:, index].numpy())
            assert (expected[range(rows), found["action"]] > 0.5 * ILLEGAL).all()
        fresh = observations(rows, discrete=True)
        fresh["agents", "hidden"] = out["next", "agents", "hidden"]
        fresh["agents", "last_action"] = out["next", "agents", "last_action"]
        fresh["step_count"], fresh["episode"] = td["step_count"] + 1, td["episode"]
        td = fresh


@pytest.mark.parametrize("source", ["constant", "given", "none"])
def test_recurrent_agents_act_and_remember_as_the_team(tmp_path, source):
    team = recurrent_team(latent=source != "none")
    paths = export_agents(team, tmp_path, latent=source, about=ABOUT)
    if source == "given":
        # One latent of the support for all steps.
        play(Policy.of(team).with_latent("constant"), paths, latent=torch.eye(3)[[1, 1, 1]])
    else:
        mode = "sample" if source == "none" else source
        play(Policy.of(team).with_latent(mode, seed=SEED), paths)


def test_a_latent_at_the_input_is_part_of_what_is_remembered(tmp_path):
    team = recurrent_team(latent_input="input")
    paths = export_agents(team, tmp_path, latent="constant", about=ABOUT)
    play(Policy.of(team).with_latent("constant", seed=SEED), paths)


def test_a_latent_that_no_agent_can_draw_is_given(tmp_path):
    team = utility_team()
    paths = export_agents(team, tmp_path, about=ABOUT)
    play(team, paths, latent=torch.eye(3), scored=Policy(team).scores)
    with pytest.raises(ValueError, match="draws its latent once per episode"):
        export_agents(team, tmp_path / "other", latent="synchronized", about=ABOUT)
    # A refusal leaves nothing behind.
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("kind", ["torch", "onnx"])
def test_synchronized_agents_act_as_the_team_with_the_same_latents(kind, request):
    files = request.getfixturevalue(f"{kind}_files")
    policy = Policy.of(gaussian_team()).with_latent("synchronized", seed=SEED)
    td = observations(500)
    td["step_count"] += torch.randint(0, 2**32 - 1, (500, 1))
    out = joint(policy, td)
    for index, path in enumerate(files):
        agent = DeployedAgent(path, seed=SEED, trust=True)
        found = agent.run(td["agents", "observation"][:, index].numpy(), **clock(td))
        assert np.array_equal(found["used_latent"], out["latent"].numpy())
        for name in ("action", "loc", "scale"):
            expected = out["agents", name][:, index].numpy()
            np.testing.assert_allclose(found[name], expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("kind", ["torch", "onnx"])
def test_agents_hold_the_latent_of_an_episode(kind, tmp_path):
    if kind == "onnx":
        pytest.importorskip("onnxscript")
        pytest.importorskip("onnxruntime")
    policy = Policy.of(gaussian_team(held=True)).with_latent("synchronized", seed=SEED)
    files = export_agents(policy, tmp_path, format=kind, about=ABOUT)
    td = observations(50)
    out = joint(policy, td)
    for step in (0, 7):
        when = {**clock(td), "step": np.full(50, step)}
        found = DeployedAgent(files[0], seed=SEED, trust=True).run(
            td["agents", "observation"][:, 0].numpy(), **when
        )
        assert np.array_equal(found["used_latent"], out["latent"].numpy())


def test_a_recurrent_onnx_agent_acts_and_remembers_as_the_team(tmp_path):
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    team = recurrent_team(num_agents=1)
    paths = export_agents(team, tmp_path, format="onnx", about=ABOUT)
    policy = Policy.of(team).with_latent("synchronized", seed=SEED)
    agent = DeployedAgent(paths[0], seed=SEED, trust=True)
    td = observations(4, 1, discrete=True)
    for _ in range(4):
        out = joint(policy, td)
        mask = td["agents", "action_mask"][:, 0].numpy()
        seen = td["agents", "observation"][:, 0].numpy()
        found = agent.run(seen, action_mask=mask, **clock(td))
        expected = out["agents", "logits"][:, 0].numpy()
        np.testing.assert_allclose(found["logits"], expected, rtol=0, atol=TOLERANCE)
        fresh = observations(4, 1, discrete=True)
        fresh["agents", "hidden"] = out["next", "agents", "hidden"]
        fresh["agents", "last_action"] = out["next", "agents", "last_action"]
        fresh["step_count"], fresh["episode"] = td["step_count"] + 1, td["episode"]
        td = fresh


MODES = {
    "given": lambda: (gaussian_team(), "given"),
    "mean, shared weights": lambda: (gaussian_team(share=True), "mean"),
    "constant": lambda: (gaussian_team(prior="categorical"), "constant"),
    "deterministic": lambda: (plain_team(), "none"),
    "recurrent, none": lambda: (recurrent_team(latent=False), "none"),
    "recurrent, at the input": lambda: (recurrent_team(latent_input="input"), "constant"),
    "utilities": lambda: (utility_team(), "given"),
}


@pytest.mark.parametrize("mode", MODES)
def test_onnx_and_torch_agents_act_alike_in_every_mode(tmp_path, mode):
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    team, source = MODES[mode]()
    agents = []
    for kind in ("torch", "onnx"):
        path = export_agents(team, tmp_path, format=kind, latent=source, about=ABOUT)[-1]
        agents.append(DeployedAgent(path, trust=True))
    rng = np.random.default_rng(0)
    for _ in range(3):
        inputs = {"latent": np.eye(3)[[0, 2]]} if mode == "utilities" else {}
        inputs = {"latent": rng.normal(size=(2, 5))} if mode == "given" else inputs
        seen = rng.normal(size=(2, 4))
        torch_out, onnx_out = (agent.run(seen, **inputs) for agent in agents)
        for name, value in torch_out.items():
            np.testing.assert_allclose(onnx_out[name], value, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("law", ["uniform", "categorical"])
def test_onnx_latents_of_other_laws_are_the_same_bits(tmp_path, law):
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    # In thirds: an edge that float32 does not hold, and a draw that lies between both.
    prior = vm.CategoricalPrior(3) if law == "categorical" else PRIORS["uniform"]
    net = cut_out_agent(LatentGaussianNet(4, 3, 1, 1, hidden=(4,)), 0, 1)
    agent = FeedForwardAgent(
        net, LatentSource("synchronized", prior), -torch.ones(1), torch.ones(1)
    )
    (tmp_path / "agent.onnx").write_bytes(to_onnx(agent, trace(agent)))
    session = onnxruntime_session(tmp_path / "agent.onnx")
    episode, step = np.array([86, *range(2000)]), np.array([44263, *range(2000)])
    seen = np.zeros((2001, 4), np.float32)
    feed = {"observation": seen, "seed": np.array(7), "episode": episode, "step": step}
    (found,) = session.run(["used_latent"], feed)
    assert np.array_equal(found, LatentClock(7, prior.describe()).at(episode, step))


def onnxruntime_session(path):
    import onnxruntime

    return onnxruntime.InferenceSession(str(path))


def test_the_record_says_what_goes_in_and_comes_out(torch_files):
    record = DeployedAgent(torch_files[1], trust=True).record
    assert record["agent"] == 1
    assert record["num_agents"] == 2
    assert [entry["name"] for entry in record["inputs"]] == [
        *("observation", "seed", "episode", "step")
    ]
    shapes = [entry["shape"] for entry in record["inputs"]]
    assert shapes == [["rows", 4], [], ["rows"], ["rows"]]
    assert record["action"] == {"kind": "continuous", "low": [-3.0, -4.0], "high": [2.0, 2.0]}
    assert record["latent"]["prior"] == {"law": "gaussian", "dim": 5}
    assert record["checkpoint"] == ABOUT["checkpoint"]
    assert record["onnx_opset"] is None
    entries = (*record["inputs"], *record["outputs"])
    assert all(entry["unit"] and entry["meaning"] for entry in entries)
    assert {e["name"]: e["unit"] for e in entries}["step"] == "steps"


def test_the_onnx_record_names_the_operators(onnx_files):
    import onnx

    model = onnx.load(onnx_files[0])
    record = DeployedAgent(onnx_files[0], trust=True).record
    assert {o.version for o in model.opset_import if not o.domain} == {record["onnx_opset"]}
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    onnx.checker.check_model(model, full_check=True)


def test_bad_requests_are_refused(tmp_path, monkeypatch):
    team = gaussian_team()
    with pytest.raises(ValueError, match="unknown format 'tflite'; valid: torch, onnx"):
        export_agents(team, tmp_path, format="tflite", about=ABOUT)
    with pytest.raises(ValueError, match="'none' does not fit a policy with a latent"):
        export_agents(team, tmp_path, latent="none", about=ABOUT)
    with pytest.raises(ValueError, match="'mean' does not fit a policy without a latent"):
        export_agents(plain_team(), tmp_path, latent="mean", about=ABOUT)
    with pytest.raises(ValueError, match="must be a tensordict module, got Linear"):
        export_agents(torch.nn.Linear(1, 1), tmp_path, about=ABOUT)
    own = NetworkModule(torch.nn.Linear(1, 1), {"input": "x"}, ["y"])
    with pytest.raises(ValueError, match="holds no network of vm3ac_modules"):
        export_agents(own, tmp_path, about=ABOUT)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ImportError, match=r"pip install 'vm3ac-modules\[export\]'"):
        export_agents(team, tmp_path, format="onnx", about=ABOUT)
    assert not list(tmp_path.iterdir())


def test_the_policy_is_left_as_it_was(tmp_path):
    team = gaussian_team()
    before = copy.deepcopy(team.state_dict())
    export_agents(team, tmp_path, latent="given", about=ABOUT)
    after = team.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(p.requires_grad for p in team.parameters())
