"""The programs of vm3ac reproduce: nothing trained twice, nothing shown that was not run."""

from __future__ import annotations

import csv
import json
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("vmas")
pytest.importorskip("hydra")
pytest.importorskip("rliable")

import vm3ac_modules.cli.reproduce as reproduce
from vm3ac_modules.cli.reproduce import budgets, figure3, figure5, figure6, results, table3
from vm3ac_modules.cli.reproduce import trainings as runs
from vm3ac_modules.cli.reproduce.cases import make_case, settings_of
from vm3ac_modules.cli.reproduce.command import Command
from vm3ac_modules.evaluation import evaluate
from vm3ac_modules.files import write_json
from vm3ac_modules.learning import evaluation_seed
from vm3ac_modules.runs import load_agent, to_yaml, train

RECIPES = Path(__file__).parents[3] / "recipes"
TINY = ("--budget", "smoke", "--tasks", "predator_prey_2", "--seeds", "1")
PAIR = (*TINY[:-1], "2", "frames=128")
TWO = ("--algorithms", "vm3ac,ma_sac")


def table(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def arguments(command):
    return dict(text.split("=", 1) for text in command[4:])


@pytest.fixture
def launched(monkeypatch):
    """Commands that would be run; each leaves what a training of its seeds leaves."""
    commands = []

    def launch(command, log):
        commands.append(arguments(command))
        fake(commands[-1])

    monkeypatch.setattr(runs, "launch", launch)
    return commands


def fake(given, *, finished=True):
    """The run directories of a training, ``run_dir/seed_<k>`` each if there are several seeds.

    As in a real training the summaries appear whole: with two jobs the rows of one are collected
    while the other writes.
    """
    first, count = int(given["seed"]), int(given.get("seeds", 1))
    for seed in range(first, first + count):
        place = Path(given["run_dir"]) / (f"seed_{seed}" if count > 1 else "")
        place.mkdir(parents=True, exist_ok=True)
        (place / "config.yaml").write_text("seed: 0\n")
        final = 10.0 * seed + (5 if given["algorithm"] == "vm3ac" else 0)
        rows = [f"{frame},{final * frame / 256}\n" for frame in (0, 128, 256)]
        (place / "eval.csv").write_text("frame,return_mean\n" + "".join(rows))
        summary = {name: given.get(name, 1) for name in results.COLUMNS}
        summary |= {"eval_return_mean": final, "eval_return_ci95": 1.0, "seed": seed}
        summary |= {"frames": 256, "versions": {"torch": "2"}, "git_commit": None}
        if finished:
            write_json(place / "summary.json", summary)
    if count > 1 and finished:
        write_json(Path(given["run_dir"]) / "summary.json", {"seeds": count})


def begin(monkeypatch, *, checkpoint):
    """Let every training be killed before its end, after its first checkpoint or before it."""

    def launch(command, log):
        fake(arguments(command), finished=False)
        log.write_text("killed\n")
        raise subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(runs, "launch", launch)
    monkeypatch.setattr(runs, "has_checkpoint", lambda place: checkpoint and place.is_dir())


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Real runs of two seeds: VM3-AC in a process of its own, MA-SAC added in this one."""

    def launch(command, log):
        train(settings_of(command[4:]))

    out, threads = tmp_path_factory.mktemp("store"), torch.get_num_threads()
    options = [*PAIR, "--out", str(out)]
    figure3.main([*options, "--algorithms", "vm3ac"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "launch", launch)
        figure3.main([*options, *TWO])
    torch.set_num_threads(threads)
    return out


def test_figure_3_of_real_runs(store, launched):
    files = ("results.csv", "curves.csv", "statistics.csv", "figure3.png")
    assert all((store / name).stat().st_size > 100 for name in files)
    rows = table(store / "results.csv")
    assert [(row["algorithm"], row["seed"], row["seeds_together"]) for row in rows] == [
        *(("vm3ac", "0", "2"), ("vm3ac", "1", "2")),
        *(("ma_sac", "0", "2"), ("ma_sac", "1", "2")),
    ]
    for row in rows:
        summary = json.loads((store / row["run_dir"] / "summary.json").read_text())
        assert float(row["return_mean"]) == summary["eval_return_mean"]
        assert (row["frames"], summary["seed"]) == ("128", int(row["seed"]))
        assert "frames=128" in row["configuration"]
        assert "threads" in row["device"]
    # Two seeds: their range. Nobody beats itself.
    found = {row["algorithm"]: row for row in table(store / "statistics.csv")}
    returns = sorted(float(row["return_mean"]) for row in rows[:2])
    assert [float(found["vm3ac"][k]) for k in ("mean_low", "mean_high")] == returns
    assert found["vm3ac"]["vm3ac_better"] == ""
    assert 0.0 <= float(found["ma_sac"]["vm3ac_better"]) <= 1.0
    frames = [float(r["frames"]) for r in table(store / "curves.csv") if r["label"] == "vm3ac"]
    assert frames == [0.0, 64.0, 128.0]
    # The same command trains nothing; a row that is lost is read off its run again.
    before = sorted((store / "results.csv").read_text().splitlines())
    figure3.main([*PAIR, *TWO, "--out", str(store)])
    (store / "results.csv").unlink()
    figure3.main([*PAIR, *TWO, "--out", str(store)])
    assert launched == []
    assert sorted((store / "results.csv").read_text().splitlines()) == before


def test_figure_5_of_real_runs(store, tmp_path):
    options = [*PAIR, "--runs", str(store), "--out", str(tmp_path), "--episodes", "3"]
    figure5.main(options)
    assert (tmp_path / "figure5_predator_prey_2.png").stat().st_size > 1000
    places = table(tmp_path / "positions.csv")
    assert len(places) == 2 * 2 * 3 * 2
    # At most five steps of 0.05 in each direction, and not at the center any more.
    reach = [max(abs(float(row["x"])), abs(float(row["y"]))) for row in places]
    assert 0.0 < max(reach) <= 0.25 + 1e-6
    # Mean actions from one start: without a latent all episodes are the same, with it they are not.
    first = {"vm3ac": set(), "ma_sac": set()}
    for row in places:
        if (row["agent"], row["seed"]) == ("0", "1"):
            first[row["algorithm"]].add((row["x"], row["y"]))
    assert len(first["ma_sac"]) == 1 < len(first["vm3ac"])
    figure5.main([*options, "--actions", "sample", "--algorithms", "ma_sac"])
    sampled = {(row["x"], row["y"]) for row in table(tmp_path / "positions.csv")}
    assert len(sampled) == 2 * 3 * 2


def test_figure_5_shows_the_fifth_step_of_an_evaluation_from_the_center(store):
    run_dir = store / table(store / "results.csv")[1]["run_dir"]
    trained = load_agent(run_dir)
    task = replace(trained.task, options={"start": "center"})
    env = trained.agent.wrap(task.make(3, seed=evaluation_seed(1)))

    def watch(env):
        return torch.stack([body.state.pos for body in env.base_env.agents], dim=1)

    options = {"max_steps": 6, "seed": evaluation_seed(1), "observer": watch}
    seen = evaluate(trained.agent.policy, env, **options).trace
    assert (seen[:, 0] == 0.0).all()
    positions, preys = figure5.watch(run_dir, 3, "mean")
    assert torch.equal(positions, seen[:, 5])
    assert not torch.equal(positions, seen[:, 4])
    assert preys.shape == (16, 2)


def test_distances():
    square = torch.tensor([[[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]]])
    assert figure5.distances(square) == {"pairwise_distance": 4.0, "nearest_distance": 3.333333}


def test_early_runs_are_a_tenth(tmp_path, launched, monkeypatch):
    monkeypatch.setattr(figure5, "watch", lambda *args: (torch.zeros(1, 2, 2), torch.zeros(1, 2)))
    figure5.main([*TINY, "--runs", str(tmp_path), "--out", str(tmp_path)])
    figure5.main([*TINY, "--runs", str(tmp_path), "--out", str(tmp_path), "--stage", "final"])
    assert [given["frames"] for given in launched] == ["25", "25", "256", "256"]
    # Trained from the task's own starts.
    assert not any("start" in key for given in launched for key in given)


def test_table_3_of_real_runs(store, tmp_path, capsys):
    options = ["--runs", str(store), "--out", str(tmp_path), "--episodes", "3"]
    table3.main([*PAIR, *options])
    rows: dict[str, list[float]] = {}
    for row in table(tmp_path / "table3.csv"):
        rows.setdefault(row["latent"], []).append(float(row["return_mean"]))
    assert list(rows) == ["sample", "mean", "synchronized", "independent", "random"]
    trained = load_agent(store / table(store / "results.csv")[0]["run_dir"])
    options = {"max_steps": 10, "seed": evaluation_seed(0)}
    for mode in ("sample", "mean", "synchronized", "independent", "random"):
        policy, latent = (None, "sample") if mode == "random" else (trained.policy, mode)
        env = trained.make_env(3, seed=evaluation_seed(0))
        alone = evaluate(policy, env, latent=latent, **options)
        assert rows[mode][0] == pytest.approx(alone.mean)
    text = (tmp_path / "table3.md").read_text()
    assert text in capsys.readouterr().out
    low, high = sorted(rows["mean"])
    assert f"| z = E[z] | {(low + high) / 2:.1f} [{low:.1f}, {high:.1f}] |" in text
    assert "| paper, z = E[z] | 409 |" in text
    assert "3 episodes per seed, mean actions. Seeds: PP (N=2): 2." in text


def test_the_cells_of_table_3():
    tasks = {"predator_prey_2": (0, 1), "vmas/balance": (0,)}
    rows = [
        {"task": task, "seed": seed, "latent": mode, "episodes": 4, "return_mean": value + seed}
        for task, seeds in tasks.items()
        for seed in seeds
        for value, mode in enumerate(("sample", "mean", "synchronized", "random"), len(task))
    ]
    lines = table3.markdown(rows).splitlines()
    assert lines[0] == "| mean return | PP (N=2) | vmas/balance |"
    assert lines[2] == "| z ~ N(0, I) | 15.5 [15.0, 16.0] | 12.0 |"
    assert lines[3] == "| z = E[z] | 16.5 [16.0, 17.0] | 13.0 |"
    assert lines[5] == "| z independent | - | - |"
    assert lines[7] == "| paper, z ~ N(0, I) | 413 | - |"
    assert "PP (N=2): 2, vmas/balance: 1." in lines[-1]


def test_several_seeds_are_one_process_and_a_row_each(tmp_path, launched):
    command = [*TINY, *TWO, "--seeds", "3", "--out", str(tmp_path)]
    figure3.main(command)
    assert [(given["seed"], given["seeds"]) for given in launched] == [("0", "3")] * 2
    rows = table(tmp_path / "results.csv")
    assert [(row["seed"], row["seeds_together"]) for row in rows] == [
        (str(seed), "3") for seed in (0, 1, 2, 0, 1, 2)
    ]
    found = {row["algorithm"]: row for row in table(tmp_path / "statistics.csv")}
    assert [float(found["vm3ac"][k]) for k in ("mean", "mean_low", "mean_high")] == [15, 5, 25]
    # 5, 15, 25 against 0, 10, 20: six of nine pairs.
    assert float(found["ma_sac"]["vm3ac_better"]) == pytest.approx(6 / 9, abs=1e-5)
    middle = [r for r in table(tmp_path / "curves.csv") if r["frames"] == "128"]
    assert [float(row["mean"]) for row in middle] == [7.5, 5.0]
    # More seeds: only those that are missing, in a directory of their own.
    figure3.main([*command, "--seeds", "5"])
    assert [(given["seed"], given["seeds"]) for given in launched[2:]] == [("3", "2")] * 2
    assert len({given["run_dir"] for given in launched}) == 4
    assert len(table(tmp_path / "results.csv")) == 10


def test_several_tasks_are_averaged_where_seeds_are_shared(tmp_path, launched):
    tasks = ["--budget", "smoke", "--tasks", "predator_prey_2,predator_prey_3"]
    figure3.main([*tasks, *TWO, "--separate", "--out", str(tmp_path)])
    assert [given["seed"] for given in launched] == ["0", "1"] * 4
    rows = table(tmp_path / "statistics.csv")
    assert [row["task"] for row in rows] == ["PP (N=2)"] * 2 + ["PP (N=3)"] * 2 + ["all 2"]
    # 5, 15 against 0, 10 on both.
    assert (rows[4]["algorithm"], rows[4]["mean"], rows[4]["vm3ac_better"]) == (
        "ma_sac",
        "",
        "0.75",
    )


def test_another_configuration_is_another_run(tmp_path, launched):
    for extra in ([], ["gamma=0.9"], ["gamma=0.9"]):
        figure3.main([*TINY, "--algorithms", "vm3ac", "--out", str(tmp_path), *extra])
    assert [given.get("gamma") for given in launched] == [None, "0.9"]
    rows = table(tmp_path / "results.csv")
    assert ["gamma=0.9" in row["configuration"] for row in rows] == [False, True]
    assert rows[0]["run_dir"] != rows[1]["run_dir"]


@pytest.mark.parametrize(("checkpoint", "goes_on"), [(True, "true"), (False, None)])
@pytest.mark.parametrize("seeds", ["1", "2"])
def test_an_interrupted_training_goes_on(tmp_path, monkeypatch, capsys, checkpoint, goes_on, seeds):
    command = [*TINY, "--algorithms", "vm3ac", "--seeds", seeds, "--out", str(tmp_path)]
    begin(monkeypatch, checkpoint=checkpoint)
    with pytest.raises(SystemExit):
        figure3.main(command)
    said = capsys.readouterr()
    assert "1 of 1 trainings failed" in said.err
    assert "failed: killed (" in said.out
    assert not (tmp_path / "results.csv").exists()
    second = []

    def launch(command, log):
        second.append(arguments(command))
        # What was killed before its first checkpoint is out of the way.
        left = list(Path(second[-1]["run_dir"]).rglob("config.yaml"))
        assert bool(left) == checkpoint
        fake(second[-1])

    monkeypatch.setattr(runs, "launch", launch)
    figure3.main(command)
    assert [given.get("resume") for given in second] == [goes_on]
    assert len(table(tmp_path / "results.csv")) == int(seeds)


def test_more_seeds_after_an_interrupt(tmp_path, monkeypatch):
    command = [*TINY, "--algorithms", "vm3ac", "--out", str(tmp_path)]
    begin(monkeypatch, checkpoint=True)
    with pytest.raises(SystemExit):
        figure3.main([*command, "--seeds", "2"])
    said = []

    def launch(command, log):
        said.append(arguments(command))
        fake(said[-1])

    monkeypatch.setattr(runs, "launch", launch)
    figure3.main([*command, "--seeds", "3"])
    # The two that were begun go on together; the third is new.
    plans = [(given["seed"], given.get("seeds"), given.get("resume")) for given in said]
    assert plans[0] == ("0", "2", "true")
    assert plans[1][:2] == ("2", None)
    assert [row["seed"] for row in table(tmp_path / "results.csv")] == ["0", "1", "2"]


def test_a_table_of_another_format_is_refused(tmp_path, launched, capsys):
    command = [*TINY, "--algorithms", "vm3ac", "--out", str(tmp_path)]
    figure3.main(command)
    path = tmp_path / "results.csv"
    good = path.read_text()
    older = good.replace("\n1,", "\n7,")
    renamed = good.replace("seed,", "sed,", 1)
    for text, named in ((older, "format version 7"), (renamed, "other columns")):
        path.write_text(text)
        with pytest.raises(SystemExit):
            figure3.main([*command, "--seeds", "2"])
        said = capsys.readouterr().err
        assert f"a table of {named}, this program reads and writes format version 1" in said
        assert path.read_text() == text
    assert len(launched) == 1


def test_drawing_alone_trains_nothing_and_says_what_is_missing(tmp_path, launched, capsys):
    command = [*TINY, "--out", str(tmp_path), "--seeds", "2"]
    for program in (figure3, figure5, figure6, table3):
        with pytest.raises(SystemExit):
            program.main([*command, "--runs", str(tmp_path), "--draw-only"])
        said = capsys.readouterr().err
        assert f"{tmp_path} holds no run of this configuration (0 of others)" in said
        name = program.__name__.rpartition(".")[2]
        assert f"this makes them: vm3ac reproduce {name} budget=smoke" in said
        again = said.strip().rpartition(" reproduce ")[2].split()
        assert {"seeds=2", f"runs={tmp_path}", f"out={tmp_path}"} <= set(again)
        assert not any(word.startswith("draw_only") for word in again)
    assert launched == []
    figure3.main([*command, "--algorithms", "vm3ac", "--seeds", "1"])
    figure3.main([*command, *TWO, "--draw-only"])
    assert len(launched) == 1
    said = capsys.readouterr().out
    assert "missing: vm3ac on predator_prey_2, seed 1" in said
    assert "missing: ma_sac on predator_prey_2, seeds 0 to 1" in said


def test_figure_6_shares_the_runs_of_the_task_s_own_beta(tmp_path, launched):
    figure6.main([*TINY, "--runs", str(tmp_path / "runs"), "--out", str(tmp_path)])
    trained = [(given["algorithm"], given.get("algorithm.beta")) for given in launched]
    # Predator-prey with two agents has 0.15 in Table 2.
    assert trained == [
        *(("vm3ac", None), ("vm3ac_no_latent", None), ("ma_sac", None)),
        *(("vm3ac", "0"), ("vm3ac", "0.05"), ("vm3ac", "0.1")),
    ]
    labels = [(row["panel"], row["label"]) for row in table(tmp_path / "statistics.csv")]
    assert len(labels) == 7
    assert labels[-1] == ("PP (N=2), beta", "vm3ac, beta=0.15")
    for name in ("figure6.png", "figure6_final.png", "curves.csv"):
        assert (tmp_path / name).stat().st_size > 100


def test_a_given_beta_is_that_of_the_ablation_only():
    options = figure6.Figure6(tasks="predator_prey_2")
    cases = figure6.cases_of(Command(options, {"task.beta": "0.15"}, ""))
    betas = {
        label: [text for text in case.arguments if text.startswith("algorithm.beta=")]
        for panel in cases.values()
        for label, case in panel.items()
    }
    assert betas["ma_sac"] == ["algorithm.beta=0.15"]
    assert betas["vm3ac, beta=0"] == ["algorithm.beta=0"]
    assert cases["PP (N=2)"]["vm3ac"] == cases["PP (N=2), beta"]["vm3ac, beta=0.15"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["predator_prey_3"], "'predator_prey_3' is not of the form key=value"),
        (["seed=3"], "seed is the program's own"),
        (["+task=x"], "+task is the program's own"),
        (["gama=0.9"], "unknown option 'gama' of the run"),
        (["--lr", "-1"], "lr must be a number > 0, got -1"),
        (["algorithm.beta=0.1", "algorithms=maddpg"], "unknown option 'beta' of maddpg"),
        (["loop=fast"], "valid: default, demo, paper"),
        (["tasks="], "tasks must name at least one"),
        (["--algorithms", "vm4ac"], "unknown algorithm 'vm4ac'"),
        (["--tasks", "predator_prey_9"], "unknown environment 'predator_prey_9'"),
        (["--seeds", "0"], "seeds must be an integer >= 1 or null, got 0"),
    ],
)
def test_bad_arguments_end_with_one_sentence(tmp_path, launched, capsys, given, said):
    with pytest.raises(SystemExit) as ended:
        figure3.main([*TINY, *TWO, "--out", str(tmp_path), *given])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
    assert launched == []


def test_figure_5_needs_a_center(tmp_path, launched, capsys):
    with pytest.raises(SystemExit):
        figure5.main(["--tasks", "multiwalker_3", "--out", str(tmp_path)])
    assert "multiwalker_3 has no center" in capsys.readouterr().err


def test_budgets():
    updates = {}
    for program, place in (
        (budgets.CONTINUOUS, "task=predator_prey_2"),
        (budgets.BATTLES, "map=3m"),
    ):
        for name, budget in program.budgets.items():
            said = [f"{key}={value}" for key, value in budget.options.items()]
            training = settings_of(["algorithm=vm3ac", place, *said]).training
            if program is budgets.CONTINUOUS:
                steps = training.frames // training.num_envs
                updates[name] = steps * training.updates_per_step
    assert (updates["cpu"], updates["gpu"]) == (8_000, 250_000)
    assert [budgets.CONTINUOUS.budgets[name].seeds for name in ("cpu", "gpu")] == [3, 7]


@pytest.mark.parametrize(
    ("given", "threads"),
    [
        ({"jobs": 1}, []),
        ({"jobs": 2}, ["threads=1"]),
        ({"jobs": 2, "threads": "4"}, ["threads=4"]),
        ({"jobs": 2, "budget": "smoke"}, ["threads=1"]),
    ],
)
def test_trainings_side_by_side_have_one_thread_each(tmp_path, given, threads):
    own = {key: value for key, value in given.items() if key != "threads"}
    overrides = {"threads": given["threads"]} if "threads" in given else {}
    command = Command(figure3.Figure3(**own), overrides, "")
    case = make_case(command, "predator_prey_2", "vm3ac")
    said = runs.arguments_of(command, runs.Batch(case, range(1), tmp_path))
    assert [text for text in said if text.startswith("threads=")] == threads


def test_runs_of_several_commits_are_named(tmp_path, launched, capsys):
    command = [*TINY, "--algorithms", "vm3ac", "--out", str(tmp_path)]
    figure3.main([*command, "--seeds", "2"])
    assert "several commits" not in capsys.readouterr().out
    path = tmp_path / "results.csv"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:2], lines[2].replace(",,torch=2", ",abc,torch=2")]))
    figure3.main([*command, "--seeds", "2"])
    assert "these runs are of several commits: abc, none" in capsys.readouterr().out


@pytest.mark.parametrize(("budget", "device"), [("smoke", "cpu"), ("cpu", "cpu"), ("gpu", "cuda")])
def test_the_budget_chooses_the_device(budget, device):
    assert Command(figure3.Figure3(budget=budget), {}, "").device == device
    chosen = figure3.Figure3(budget=budget, device="cuda:1")
    assert Command(chosen, {}, "").device == "cuda:1"


def test_another_command_s_rows_are_kept(tmp_path):
    table_path = tmp_path / "results.csv"
    row = dict.fromkeys(results.COLUMNS[1:], "1")
    mine, other = results.Results(table_path), results.Results(table_path)
    other.add({**row, "configuration": "theirs"})
    mine.add({**row, "configuration": "mine"})
    mine.add({**row, "configuration": "mine"})
    assert [row["configuration"] for row in table(table_path)] == ["theirs", "mine"]


def test_spans():
    assert runs.spans({4, 0, 1, 6, 5}) == [range(2), range(4, 7)]
    assert runs.spans([]) == []


def test_a_command_that_fails_is_an_error(tmp_path):
    log = tmp_path / "a.log"
    with pytest.raises(subprocess.CalledProcessError):
        runs.launch([sys.executable, "-c", "print('why'); raise SystemExit(3)"], log)
    assert log.read_text() == "why\n"


@pytest.mark.parametrize("name", list(reproduce.ARTEFACTS))
def test_help(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(RECIPES / "reproduce" / f"{name}.py"), run_name="__main__")
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert f"usage: python recipes/reproduce/{name}.py" in said
    assert f"vm3ac reproduce {name} budget=cpu" in said
    assert f"smoke: seeds=2 frames={100 if name == 'figure4' else 256}" in said


def leave(place, **changes):
    """A finished run as a sweep leaves it."""
    own = {"lr": 0.001, "hidden": "[8]", **changes}
    said = {"algorithm": "vm3ac", "task": "predator_prey_2", "seed": 0, "run_dir": place, **own}
    said = {name: str(value) for name, value in said.items()}
    fake(said)
    settings = settings_of(f"{key}={value}" for key, value in said.items())
    (place / "config.yaml").write_text(to_yaml(settings.to_dict()))


def test_the_runs_of_a_sweep_are_read(tmp_path, launched, capsys):
    for lr in (0.001, 0.0001):
        for seed in (0, 1):
            leave(tmp_path / "sweep" / f"lr={lr}" / f"seed_{seed}", lr=lr, seed=seed)
    command = ["budget=none", "tasks=predator_prey_2", "algorithms=vm3ac", "hidden=[8]"]
    command += [f"runs={tmp_path / 'sweep'}", f"out={tmp_path}", "draw_only=true"]
    figure3.main([*command, "lr=1e-3"])
    assert "missing: vm3ac on predator_prey_2, seed 2" in capsys.readouterr().out
    assert launched == []
    rows = table(tmp_path / "sweep" / "results.csv")
    assert [row["run_dir"] for row in rows] == ["lr=0.001/seed_0", "lr=0.001/seed_1"]
    figure3.main([*command, "lr=1e-4"])
    rows = table(tmp_path / "sweep" / "results.csv")
    assert [row["run_dir"] for row in rows[2:]] == ["lr=0.0001/seed_0", "lr=0.0001/seed_1"]
    with pytest.raises(SystemExit):
        figure3.main([*command, "lr=1e-5"])
    assert "holds no run of this configuration (4 of others)" in capsys.readouterr().err


def test_other_files_among_the_runs_are_passed_over(tmp_path, launched):
    for name, text in (("a", None), ("b", "[1]"), ("c", "seed: 0"), ("d", "algorithm: {name: x}")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "summary.json").write_text("{}")
        if text is not None:
            (tmp_path / name / "config.yaml").write_text(text)
    figure3.main([*TINY, "--algorithms", "vm3ac", "--out", str(tmp_path)])
    assert len(table(tmp_path / "results.csv")) == 1


def test_names_of_figures(capsys):
    with pytest.raises(SystemExit) as ended:
        reproduce.main(["figure9"])
    assert ended.value.code == 2
    assert "valid: figure3, figure4, figure5" in capsys.readouterr().err
    reproduce.main(["--help"])
    assert "table3" in capsys.readouterr().out
