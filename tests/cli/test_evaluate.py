from __future__ import annotations

import json

import pytest

pytest.importorskip("vmas")
pytest.importorskip("hydra")


from contracts.training import STEPS, configuration

from vm3ac_modules.cli import evaluate as program
from vm3ac_modules.cli.arguments import parse
from vm3ac_modules.runs import Settings, train


def options(*arguments):
    return parse("evaluate", program.__doc__, program.Evaluation, arguments, positional="run_dir")


@pytest.fixture
def trained(tmp_path):
    def make(*overrides):
        tiny = {**STEPS, "run_dir": str(tmp_path / "run"), "draw": False}
        train(Settings.of(configuration(*overrides, frames=32, tiny=tiny)))
        return tmp_path / "run"

    return make


def test_every_mode_is_played_on_the_same_starts(trained, capsys):
    run = trained()
    asked = options(f"run_dir={run}", "episodes=4")
    report = program.report(asked)
    modes = {"sample", "mean", "constant", "synchronized", "independent", "random"}
    assert set(report["results"]) == modes
    # The Gaussian's agreed outcome is its mean: the same play.
    assert report["results"]["mean"] == report["results"]["constant"]
    assert report == program.report(asked)
    # A mode alone plays what it plays among all: nothing is left over from the modes before it.
    alone = program.report(options(f"run_dir={run}", "episodes=4", "latent=synchronized"))
    assert alone["results"]["synchronized"] == report["results"]["synchronized"]


def test_what_cannot_be_written_is_printed_first(trained, monkeypatch, capsys):
    run = trained("algorithm=ma_ac")

    def refuse(path, found):
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr(program, "write_json", refuse)
    with pytest.raises(SystemExit):
        program.main([f"run_dir={run}", "episodes=2", "coordination=false"])
    printed = capsys.readouterr()
    assert "z none" in printed.out
    with pytest.raises(SystemExit):
        program.main([f"run_dir={run}", "episodes=2", "latent=mean"])
    assert "latent=mean: the policy has no sampled latent" in capsys.readouterr().err
    assert "evaluation.json cannot be written (Read-only file system); what was" in printed.err


def test_one_mode_on_the_command_line(trained, monkeypatch, capsys):
    run = trained("algorithm=ma_ac")
    arguments = [f"run_dir={run}", "episodes=2", "coordination=false"]
    program.main(arguments)
    said = capsys.readouterr().out
    assert "random policy" in said
    assert "coordination" not in said
    written = json.loads((run / "evaluation.json").read_text())
    assert set(written["results"]) == {"none", "random"}
    assert written["coordination"] is None


def test_coordination_is_printed_written_and_drawn(trained, monkeypatch, capsys):
    run = trained()
    sizes = ["coordination_rows=10", "coordination_latents=8"]
    arguments = [f"run_dir={run}", "episodes=4", "latent=constant", *sizes]
    program.main(arguments)
    said = capsys.readouterr().out
    assert "MI from below" in said
    assert "0 and 1" in said
    found = json.loads((run / "evaluation.json").read_text())["coordination"]
    assert found["states"] == 10
    assert found["num_latents"] == 8
    agents = len(found["agents"])
    assert found["components"] == [f"agent {i} action {a}" for i in range(agents) for a in (0, 1)]
    for name in ("mi_lower_bound", "mi_upper_bound"):
        assert [len(row) for row in found[name]] == [agents] * agents
    for source in ("common", "independent"):
        matrix = found[source]["action_correlation"]
        assert [len(row) for row in matrix] == [2 * agents] * (2 * agents)
    assert (run / "evaluation.png").stat().st_size > 0


def test_without_matplotlib_there_is_a_sentence_for_a_figure(trained, monkeypatch, capsys):
    from vm3ac_modules import extras

    run = trained("algorithm=maddpg")
    arguments = [f"run_dir={run}", "episodes=2"]
    find_spec = extras.find_spec
    monkeypatch.setattr(extras, "find_spec", lambda x: None if x == "matplotlib" else find_spec(x))
    program.main(arguments)
    said = capsys.readouterr().out
    assert "No figure: Drawing figures needs the package 'matplotlib'" in said
    assert "deterministic" in said
    assert (run / "evaluation.json").exists()
    assert not (run / "evaluation.png").exists()


def test_actions_are_drawn_only_from_a_policy_that_draws(trained, capsys):
    run = trained("algorithm=maddpg")
    with pytest.raises(SystemExit) as ended:
        program.main([f"run_dir={run}", "episodes=2", "actions=drawn"])
    assert ended.value.code == 2
    assert "no sampling" in capsys.readouterr().err
    assert not (run / "evaluation.json").exists()


def test_drawn_actions_with_mean_ones_beside_them(trained):
    run = trained("algorithm=ma_ac")
    asked = [f"run_dir={run}", "episodes=2", "coordination=false"]
    ways = {how: program.report(options(*asked, f"actions={how}")) for how in ("both", "drawn")}
    mean = program.report(options(*asked))
    assert mean["actions"] == "mean"
    both, drawn = (ways[how]["results"]["none"] for how in ("both", "drawn"))
    assert both == drawn | {"greedy_return_mean": mean["results"]["none"]["return_mean"]}


def test_the_mean_of_a_categorical_latent_is_not_among_all(trained):
    run = trained("algorithm.prior=categorical", "algorithm.latent_dim=3")
    asked = options(f"run_dir={run}", "episodes=2")
    assert "mean" not in program.report(asked)["results"]


def test_one_episode_has_no_interval_and_json_says_null(trained, monkeypatch, capsys):
    def refuse(constant):
        raise ValueError(f"{constant} is not JSON")

    run = trained("algorithm=ma_ac")
    arguments = [f"run_dir={run}", "episodes=1", "coordination_rows=2"]
    program.main(arguments)
    written = json.loads((run / "evaluation.json").read_text(), parse_constant=refuse)
    rows = written["results"]
    assert [row["return_ci95"] for row in rows.values()] == [None, None]
    assert all(isinstance(row["return_mean"], float) for row in rows.values())
    lines = [x for x in capsys.readouterr().out.splitlines() if " return " in x]
    assert len(lines) == 2
    assert not any("+-" in line for line in lines)
    assert (run / "evaluation.png").stat().st_size > 0


def test_an_agent_s_own_names_are_used():
    from torchrl.envs import RenameTransform

    from vm3ac_modules.algorithms import build
    from vm3ac_modules.envs import make_env
    from vm3ac_modules.evaluation import measure_coordination
    from vm3ac_modules.keys import Keys
    from vm3ac_modules.modules import Policy
    from vm3ac_modules.runs import TrainedAgent

    keys = Keys("walkers", latent="z")
    env = make_env("predator_prey_2", 4, seed=0, max_steps=5)
    env.append_transform(
        RenameTransform(
            in_keys=[Keys().observation, Keys().reward],
            out_keys=[keys.observation, keys.reward],
            in_keys_inv=[Keys().action],
            out_keys_inv=[keys.action],
        )
    )
    agent = build("vm3ac", env, keys=keys, hidden=(8, 8))
    trained = TrainedAgent(agent, Settings.of(configuration(tiny={})), 0)
    names = [*program.modes_of(trained.policy, "all"), "random"]
    assert set(names) == {*program.MODES, "random"}
    assert list(program.play_modes(trained, env, names[:2], 1, episodes=4)) == names[:2]
    found = measure_coordination(agent, env, max_steps=5, seed=1, rows=8, num_latents=8)
    assert found.upper.shape == (2, 2)
    maven = build("maven", env, keys=keys, hidden=(8, 8))
    assert program.modes_of(Policy.of(maven.policy, keys), "all") == ["sample"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run_dir=x", "latnet=mean"], "unknown option 'latnet'"),
        (["run_dir=x", "latent=median"], "latent must be"),
        (["episodes=3"], "run_dir="),
        (["run_dir=x", "episodes=0"], "episodes must be an integer >= 1, got 0"),
        (["run_dir=x", "episodes=many"], "episodes must be an integer >= 1, got 'many'"),
        (["run_dir=x", "episodes=true"], "episodes must be an integer >= 1, got True"),
        (["run_dir=x", "episodes=2.5"], "episodes must be an integer >= 1, got 2.5"),
        (["run_dir=x", "seed=true"], "seed must be an integer >= 0 or null, got True"),
        (["run_dir=x", "seed=0.5"], "seed must be an integer >= 0 or null, got 0.5"),
        (["run_dir=x", "seed=-1"], "seed must be an integer >= 0 or null, got -1"),
        (["run_dir=x", "coordination=maybe"], "coordination must be true or false, got 'maybe'"),
        (
            ["run_dir=x", "coordination_rows=1"],
            "coordination_rows must be an integer >= 2",
        ),
        (["run_dir=x", "coordination_rows=true"], "coordination_rows must be an integer >= 2"),
        (["run_dir=x", "coordination_latents=2.5"], "coordination_latents must be an integer >= 2"),
        (
            ["run_dir=x", "coordination_latents=true"],
            "coordination_latents must be an integer >= 2",
        ),
    ],
)
def test_bad_arguments_end_with_one_sentence(arguments, said, capsys):
    with pytest.raises(SystemExit) as ended:
        program.main(arguments)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_a_directory_without_a_run_is_named(tmp_path, capsys):
    with pytest.raises(SystemExit):
        program.main([f"run_dir={tmp_path}"])
    assert str(tmp_path) in capsys.readouterr().err
