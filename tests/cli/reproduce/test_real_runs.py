"""Figures and tables of vm3ac reproduce, from real runs and from their rows."""

from __future__ import annotations

import json

import pytest
import torch

pytest.importorskip("vmas")
pytest.importorskip("hydra")
pytest.importorskip("rliable")

from contracts.reproduction import PAIR, TINY, TWO, table

from vm3ac_modules.cli.reproduce import _trainings as runs
from vm3ac_modules.cli.reproduce import figure3, figure5, figure6, table3
from vm3ac_modules.cli.reproduce._cases import settings_of
from vm3ac_modules.evaluation import evaluate, summarize_returns
from vm3ac_modules.learning import evaluation_seed
from vm3ac_modules.runs import load_agent, train


def in_this_process(command, log):
    train(settings_of(command[4:]))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Real runs of two seeds: VM3-AC in a process of its own, MA-SAC added in this one."""
    out, threads = tmp_path_factory.mktemp("store"), torch.get_num_threads()
    options = [*PAIR, "--out", str(out)]
    figure3.main([*options, "--algorithms", "vm3ac"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "launch", in_this_process)
        figure3.main([*options, *TWO])
    torch.set_num_threads(threads)
    return out


@pytest.fixture(scope="module")
def centered(store, tmp_path_factory):
    """Figure 5 of real runs, and its options."""
    out, threads = tmp_path_factory.mktemp("figure5"), torch.get_num_threads()
    options = [*PAIR, "--runs", str(store), "--out", str(out), "--episodes", "3"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "launch", in_this_process)
        figure5.main(options)
    torch.set_num_threads(threads)
    return options, out


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
    # Two seeds: t of one degree, 12.7 times half of their distance. Nobody beats itself.
    found = {row["algorithm"]: row for row in table(store / "statistics.csv")}
    low, high = sorted(float(row["return_mean"]) for row in rows[:2])
    width = float(found["vm3ac"]["mean_high"]) - float(found["vm3ac"]["mean_low"])
    assert width == pytest.approx(12.7062 * (high - low), rel=1e-3)
    assert found["vm3ac"]["vm3ac_better"] == ""
    ours, theirs = ([float(row["return_mean"]) for row in part] for part in (rows[:2], rows[2:]))
    above = sum(a > b for a, b in zip(ours, theirs, strict=True))
    assert found["ma_sac"]["vm3ac_better"] == f"{above} of 2 seeds"
    text = (store / "figure3.md").read_text()
    assert f"| `ma_sac` | {above} of 2 seeds |" in text
    assert "PP (N=2), 2 seeds" in text
    assert "chosen" not in text
    frames = [float(r["frames"]) for r in table(store / "curves.csv") if r["label"] == "vm3ac"]
    assert frames == [0.0, 64.0, 128.0]
    # The same command trains nothing; a row that is lost is read off its run again.
    before = sorted((store / "results.csv").read_text().splitlines())
    figure3.main([*PAIR, *TWO, "--out", str(store)])
    (store / "results.csv").unlink()
    figure3.main([*PAIR, *TWO, "--out", str(store)])
    assert launched == []
    assert sorted((store / "results.csv").read_text().splitlines()) == before


def test_figure_5_of_real_runs(centered):
    options, out = centered
    assert (out / "figure5_predator_prey_2.png").stat().st_size > 1000
    places = table(out / "positions.csv")
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
    sampled = {(row["x"], row["y"]) for row in table(out / "positions.csv")}
    assert len(sampled) == 2 * 3 * 2


def test_figure_5_shows_the_fifth_step_of_an_evaluation_from_the_center(centered, store):
    rows = table(store / "results.csv")
    run_dir = store / next(r["run_dir"] for r in rows if "start=center" in r["configuration"])
    trained = load_agent(run_dir)
    env = trained.make_env(3, seed=evaluation_seed(trained.seed))

    def watch(env):
        return torch.stack([body.state.pos for body in env.base_env.agents], dim=1)

    options = {"max_steps": 6, "seed": evaluation_seed(trained.seed), "observer": watch}
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
    # Trained from the center, as the paper says.
    assert {given["task.env.start"] for given in launched} == {"center"}


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
    mean = summarize_returns(rows["mean"]).mean
    assert f"| z = E[z] | {mean.value:.1f} [{mean.low:.1f}, {mean.high:.1f}] |" in text
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
    # t of one degree times half of the distance: 6.353; one seed has no interval.
    assert lines[2] == "| z ~ N(0, I) | 15.5 [9.1, 21.9] | 12.0 |"
    assert lines[3] == "| z = E[z] | 16.5 [10.1, 22.9] | 13.0 |"
    assert lines[5] == "| z independent | - | - |"
    assert lines[7] == "| paper, z ~ N(0, I) | 413 | - |"
    assert "PP (N=2): 2, vmas/balance: 1." in lines[-1]


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
