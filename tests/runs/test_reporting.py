"""Reports: what is on the page, that it is safe, and marl-eval's form."""

from __future__ import annotations

import json
import re

import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("yaml")
pytest.importorskip("scipy")

from contracts.reports import EVALUATED, Reader, make_run

from vm3ac_modules.files import write_csv, write_json
from vm3ac_modules.runs import CheckpointError, RunDirectoryError, marl_eval_results, report_page
from vm3ac_modules.runs.packed import ZOO, _sealed
from vm3ac_modules.runs.record import write_config
from vm3ac_modules.runs.settings import Settings


def test_seeds_are_one_experiment_with_an_interval(tmp_path):
    for seed, last in enumerate((0.4, 0.5, 0.6)):
        make_run(tmp_path / "a" / f"seed_{seed}", seed=seed, last=last)
    other = make_run(tmp_path / "b", lr=1e-4, last=0.2)
    found = Reader(report_page([tmp_path / "a", other]))
    assert not found.open
    assert "guard: VM3-AC lr=0.001, VM3-AC lr=0.0001" in found.text
    # Student's t of three seeds: 0.5 +- 4.303 * 0.1 / sqrt(3).
    assert "0.500 [0.252, 0.748]" in found.text
    assert "0.200 +- 0.100" in found.text
    assert "algorithm.lr 0.001 0.0001" in found.text
    assert "abc 9.9 4" in found.text
    figures = [attributes for tag, attributes in found.tags if tag == "img"]
    # Returns, and the information that was logged.
    assert len(figures) == 2
    assert all(one["alt"] for one in figures)


def test_an_option_of_one_algorithm_alone_is_out_of_the_way(tmp_path):
    runs = [make_run(tmp_path / "a"), make_run(tmp_path / "b", lr=1e-4, algorithm="ma_sac")]
    text = Reader(report_page(runs)).text
    apart, own = text.split("What differs")[1].split("options that not all of them have")
    assert "algorithm.lr 0.001 0.0001" in apart
    assert "algorithm.predictor_scale" not in apart
    assert "algorithm.predictor_scale 0.2 -" in own
    same = [make_run(tmp_path / "c"), make_run(tmp_path / "d", lr=1e-4)]
    assert "options that not all" not in Reader(report_page(same)).text


def test_bookkeeping_tells_no_experiments_apart(tmp_path):
    settings = Settings.of({"task": {"name": "guard"}, "algorithm": {"name": "vm3ac"}}).to_dict()
    watched = {"logger": [], "progress": "off", "device": "cuda", "checkpoint_every_frames": 7}
    # Of an earlier version, which had fewer options, and complete.
    runs = [make_run(tmp_path / "0"), make_run(tmp_path / "1", seed=1, more=watched)]
    runs.append(make_run(tmp_path / "2", seed=2))
    settings["algorithm"] |= {"lr": 1e-3, "hidden": [8]}
    write_config(runs[2] / "config.yaml", {**settings, "seed": 2})
    assert "VM3-AC guard 0, 1, 2 100" in Reader(report_page(runs)).text
    other = make_run(tmp_path / "3", seed=3, more={"batch_size": 7})
    assert "VM3-AC batch_size=7 guard 3 100" in Reader(report_page([*runs, other])).text


def test_a_run_and_its_pack_are_one_experiment(tmp_path):
    config = json.loads((ZOO / "guard" / "card.json").read_text())["config"]
    run = make_run(tmp_path / "a")
    write_config(run / "config.yaml", {**config, "frames": 64_000, "logger": [], "seed": 1})
    assert "VM3-AC tight guard 1, 0" in Reader(report_page([run, "zoo/guard"])).text
    write_config(run / "config.yaml", {**config, "frames": 64_000, "logger": []})
    with pytest.raises(ValueError, match="a and zoo/guard are seed 0 of the same experiment"):
        report_page([run, "zoo/guard"])


def test_a_report_imports_nothing_that_a_run_names(tmp_path, monkeypatch):
    (tmp_path / "evil_module.py").write_text("raise SystemExit\n")
    monkeypatch.syspath_prepend(tmp_path)
    report_page([make_run(tmp_path / "a", task="python:evil_module:make")])


def test_nothing_is_loaded_from_elsewhere_and_nothing_runs(tmp_path):
    page = report_page([make_run(tmp_path / "a")])
    found = Reader(page)
    for tag, attributes in found.tags:
        assert tag not in ("script", "link", "iframe", "object")
        assert not any(name.startswith("on") for name in attributes)
        assert attributes.get("src", "data:image/").startswith("data:image/")
    assert "url(" not in page.partition("</style>")[0]
    policy = next(a["content"] for _, a in found.tags if "http-equiv" in a)
    assert policy.startswith("default-src 'none'")
    assert re.search(r"@media \(prefers-color-scheme: dark\)", page)
    assert any(a.get("name") == "viewport" for _, a in found.tags)


def test_every_text_is_escaped(tmp_path):
    evil = "<script>alert('x')</script>"
    run = make_run(tmp_path / "a", task=evil, algorithm=f"{evil}&", notes=[evil])
    summary = json.loads((run / "summary.json").read_text())
    write_json(run / "summary.json", {**summary, "versions": {evil: evil}})
    found = Reader(report_page([run]))
    assert "script" not in [tag for tag, _ in found.tags]
    # In the title, the heading, the tables and the note.
    assert found.text.count("alert('x')") >= 5


def test_no_text_of_a_run_is_a_formula(tmp_path):
    # With a formula that matplotlib cannot read, drawing it would fail.
    text = r"$\no{$"
    run = make_run(tmp_path / "a", task=text, algorithm=text)
    results = {text: {"return_mean": 0.5, "return_ci95": 0.1}}
    note = {"common": None, "mi_upper_bound": None, "exact": False, "note": text}
    write_json(run / "evaluation.json", {**EVALUATED, "results": results, "coordination": note})
    assert report_page([run]).count("<img") == 3


def test_a_packed_agent_shows_what_its_card_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = Reader(report_page(["zoo/guard"]))
    # Nothing is made where one only reads.
    assert not list(tmp_path.iterdir())
    assert "VM3-AC tight" in found.text
    assert "0.714" in found.text
    assert "MI from above" in found.text
    assert "vm3ac play zoo/guard draws one" in found.text


def test_a_film_is_inside(tmp_path):
    run = make_run(tmp_path / "a")
    (run / "rollout.gif").write_bytes(b"GIF89a")
    page = report_page([run])
    assert 'src="data:image/gif;base64,R0lGODlh"' in page
    assert "vm3ac evaluate run_dir=" in page


def test_a_page_offers_no_film_of_what_cannot_be_drawn(tmp_path):
    run = make_run(tmp_path / "a")
    game = {"seed": 0, "map": "guard", "backend": "games", "algorithm": {"name": "fop"}}
    write_config(run / "config.yaml", {**game, "run_dir": str(run), "frames": 100})
    text = Reader(report_page([run])).text
    assert "no film; the simulator of guard shows nothing to be drawn." in text
    assert "vm3ac play" not in text
    drawn = make_run(tmp_path / "b")
    assert f"no film; vm3ac play {drawn} draws one." in Reader(report_page([drawn])).text


def test_a_film_of_the_zoo_is_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "zoo" / "guard").mkdir(parents=True)
    (tmp_path / "runs" / "zoo" / "guard" / "rollout.gif").write_bytes(b"GIF89a")
    assert "data:image/gif" in report_page(["zoo/guard"])


def test_what_is_no_film_stays_outside(tmp_path, monkeypatch):
    run = make_run(tmp_path / "a")
    film, secret = run / "rollout.gif", tmp_path / "secret"
    secret.write_bytes(b"GIF89a secret")
    film.symlink_to(secret)
    assert "it is a link" in Reader(page := report_page([run])).text
    assert "data:image/gif" not in page
    film.unlink()
    film.write_bytes(b"a secret")
    assert "it is no GIF" in Reader(page := report_page([run])).text
    assert "data:image/gif" not in page
    monkeypatch.setattr("vm3ac_modules.runs._shown.LARGEST_FILM", 10)
    film.write_bytes(b"GIF89a and more")
    assert "it has 15 bytes, 10 are shown at most" in Reader(page := report_page([run])).text
    assert "data:image/gif" not in page


def test_a_run_that_goes_on(tmp_path):
    run = make_run(tmp_path / "a")
    (run / "summary.json").unlink()
    text = Reader(report_page([run])).text
    assert "has no current summary: it goes on, or was stopped" in text
    assert "0.500 +- 0.100" in text


def test_what_a_resumed_run_left_behind_is_not_current(tmp_path):
    run = make_run(tmp_path / "a", frames=50, eval_return_mean=0.875)
    results = {"none": {"return_mean": 0.625, "return_ci95": 0.1}}
    write_json(run / "evaluation.json", {**EVALUATED, "frame": 99, "results": results})
    text = Reader(page := report_page([run])).text
    assert "0.875" not in text
    assert "0.500 +- 0.100" in text
    assert "summary.json is of frame 50 and was left out; the run went on to 100" in text
    assert "evaluation.json is of frame 99 and was left out" in text
    assert "has no current summary: it goes on, or was stopped" in text
    assert page.count("<img") == 2
    write_json(run / "evaluation.json", {**EVALUATED, "results": results})
    assert "evaluation.json is of" not in (page := report_page([run]))
    assert page.count("<img") == 3


@pytest.mark.parametrize("trace", ["checkpoint", "metrics"])
def test_a_run_that_went_on_and_was_not_evaluated_since_is_marked(tmp_path, trace):
    run = make_run(tmp_path / "a", eval_return_mean=0.875)
    assert "0.875" in report_page([run])
    if trace == "checkpoint":
        (run / "checkpoint" / "step_160").mkdir(parents=True)
    else:
        write_csv(run / "metrics.csv", [{"frame": 160, "update": 3}])
    text = Reader(report_page([run])).text
    assert "0.875" not in text
    assert "summary.json is of frame 100 and was left out; the run went on to 160" in text
    assert "results are of its last evaluation, at 100 steps; it has done 160" in text


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(RunDirectoryError, match=r"holds no run \(no config\.yaml\)"):
        report_page([tmp_path])
    with pytest.raises(ValueError, match="at least one run"):
        report_page([])
    run = make_run(tmp_path / "a")
    (run / "evaluation.json").write_text("{")
    with pytest.raises(RunDirectoryError, match=r"evaluation\.json is damaged"):
        report_page([run])


def test_the_form_of_marl_eval(tmp_path):
    runs = [make_run(tmp_path / str(seed), seed=seed, task="predator_prey_2") for seed in (0, 1)]
    assert marl_eval_results(runs) == {
        "vm3ac_modules": {
            "PP (N=2)": {
                "VM3-AC": {
                    f"seed_{seed}": {
                        "step_0": {"step_count": 0, "return": [0.1]},
                        "step_1": {"step_count": 100, "return": [0.5]},
                        "absolute_metrics": {"return": [0.5]},
                    }
                    for seed in (0, 1)
                }
            }
        }
    }
    with pytest.raises(ValueError, match="has no evaluations"):
        marl_eval_results(["zoo/guard"])


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("summary.json", "{}", "says no frames"),
        ("summary.json", "[]", "holds no mapping"),
        ("summary.json", "[" * 100_000, "nested too deeply"),
        ("summary.json", '{"frames": true}', "says no frames"),
        ("summary.json", '{"frames": 1, "versions": null}', "says no versions"),
        ("summary.json", '{"frames": 1, "notes": [1]}', "notes that are no texts"),
        ("summary.json", '{"frames": 1, "win_rate": "1"}', "a win_rate that is no number"),
        ("summary.json", " " * 4_000_001, "has 4000001 bytes"),
        ("evaluation.json", "{}", "says no frame of its evaluation"),
        ("evaluation.json", json.dumps({**EVALUATED, "frame": True}), "says no frame"),
        ("evaluation.json", json.dumps({**EVALUATED, "results": "a"}), "holds no results"),
        ("evaluation.json", json.dumps({**EVALUATED, "results": {"a": {}}}), "without a return"),
        ("evaluation.json", json.dumps({**EVALUATED, "coordination": {"a": 1}}), "KeyError"),
    ],
    ids=range(13),
)
def test_what_somebody_else_wrote_is_checked(tmp_path, name, text, said):
    run = make_run(tmp_path / "a")
    (run / name).write_text(text)
    with pytest.raises(RunDirectoryError, match=f"damaged.*{said}"):
        report_page([run])


@pytest.mark.parametrize("changed", [{"evaluation": "a"}, {"evaluation": {}}, {"frame": True}])
def test_a_card_is_checked(tmp_path, changed):
    card = json.loads((ZOO / "guard" / "card.json").read_text())
    write_json(tmp_path / "card.json", _sealed({**card, **changed}))
    with pytest.raises((RunDirectoryError, CheckpointError), match=r"card\.json is damaged"):
        report_page([tmp_path])


def test_names_are_whole_in_the_form_of_marl_eval(tmp_path):
    names = ("a on b", "a on c")
    runs = [make_run(tmp_path / name, algorithm=name) for name in names]
    runs.append(make_run(tmp_path / "other", algorithm="a on b", task="elsewhere"))
    found = marl_eval_results(runs)["vm3ac_modules"]
    assert {task: list(of) for task, of in found.items()} == {
        "guard": list(names),
        "elsewhere": ["a on b"],
    }
    assert "a on b on elsewhere" in Reader(report_page(runs)).text


def test_a_seed_counts_once(tmp_path):
    runs = [make_run(tmp_path / name, seed=1) for name in ("a", "b")]
    for make in (report_page, marl_eval_results):
        with pytest.raises(ValueError, match=r"a and .*b are seed 1 of the same experiment"):
            make(runs)
        with pytest.raises(ValueError, match="zoo/guard and zoo/guard are seed 0"):
            make(["zoo/guard", "zoo/guard"])


def test_the_program(tmp_path, capsys, monkeypatch):
    pytest.importorskip("hydra")
    from vm3ac_modules.cli import report

    monkeypatch.chdir(tmp_path)
    runs = [make_run(tmp_path / name, lr=lr) for name, lr in (("a", 0.1), ("b", 0.2))]
    report.main([str(runs[0])])
    assert (runs[0] / "report.html").read_text().startswith("<!doctype html>")
    report.main([str(runs[0]), f"run_dir={runs[1]}", "marl_eval=m.json"])
    assert "2 runs" in (tmp_path / "report.html").read_text()
    assert "-> m.json" in capsys.readouterr().out
    assert set(json.loads((tmp_path / "m.json").read_text())["vm3ac_modules"]) == {"guard"}
    # An agent of the zoo has no directory to write into.
    report.main(["zoo/guard"])
    assert capsys.readouterr().out.startswith("-> report.html (")
    assert "zoo/guard" in (tmp_path / "report.html").read_text()
    assert not (tmp_path / "runs").exists()
    with pytest.raises(SystemExit):
        report.main([str(runs[0]), "out=page.txt"])
    assert "out must end in .html" in capsys.readouterr().err
