"""One style of arguments: both spellings mean the same, and what cannot be meant is said."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from vm3ac_modules.cli import arguments
from vm3ac_modules.options import Options, OptionsError, option


@dataclass(frozen=True, kw_only=True)
class Mine(Options):
    run_dir: str | None = option(None, "a place")
    episodes: int = option(20, "how many", least=1)
    seed: int = option(0, "which", least=0)
    lr: float = option(1e-3, "a rate", unit="per update", above=0, source="Table 1")
    sizes: tuple[int, ...] = option((8, 8), "widths", least=1)
    limit: int | None = option(None, "at most so many", least=1)
    mode: str = option("mean", "how", choices=("mean", "sample"))
    draw_only: bool = option(False, "only draw")


def parse(*given, positional=None):
    return arguments.parse("mine", "What it does.", Mine, given, positional=positional)


@pytest.mark.parametrize(
    ("given", "name", "value"),
    [
        (["episodes=3"], "episodes", 3),
        (["--episodes", "3"], "episodes", 3),
        (["--episodes=3"], "episodes", 3),
        (["episodes=1_000"], "episodes", 1000),
        (["episodes=1e3"], "episodes", 1000),
        (["lr=3e-4"], "lr", 3e-4),
        (["--lr", "3e-4"], "lr", 3e-4),
        (["lr=1"], "lr", 1),
        (["seed=0"], "seed", 0),
        (["sizes=16,32"], "sizes", (16, 32)),
        (["sizes=[16, 32]"], "sizes", (16, 32)),
        (["--sizes", "16"], "sizes", (16,)),
        (["limit=null"], "limit", None),
        (["limit=4"], "limit", 4),
        (["mode=sample"], "mode", "sample"),
        (["draw_only=true"], "draw_only", True),
        (["--draw-only"], "draw_only", True),
        (["--draw_only"], "draw_only", True),
        (["--draw-only", "false"], "draw_only", False),
        (["run_dir=7"], "run_dir", "7"),
        (["run_dir=null"], "run_dir", None),
        (["run_dir=a,b=c"], "run_dir", "a,b=c"),
        (["--run-dir", "/data/lr=1/seed_0"], "run_dir", "/data/lr=1/seed_0"),
        (["seed=1", "seed=2"], "seed", 2),
    ],
)
def test_both_spellings(given, name, value):
    found = parse(*given)
    assert found == Mine(**{name: value})
    assert type(getattr(found, name)) is type(getattr(Mine(**{name: value}), name))


def test_a_flag_does_not_eat_what_follows():
    assert parse("--draw-only", "lr=1e-2", "--seed", "3") == Mine(draw_only=True, lr=1e-2, seed=3)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            ["episode=1"],
            "unknown option 'episode' of mine (did you mean 'episodes'?); valid: ",
        ),
        (["--episode", "1"], "(did you mean 'episodes'?)"),
        (["episodes=0"], "episodes must be an integer >= 1, got 0."),
        (["--episodes", "-1"], "episodes must be an integer >= 1, got -1."),
        (["episodes=2.9"], "episodes must be an integer >= 1, got 2.9."),
        (["episodes=many"], "episodes must be an integer >= 1, got 'many'."),
        (["episodes=true"], "episodes must be an integer >= 1, got True."),
        (["episodes=1,2"], "episodes must be an integer >= 1, got [1, 2]."),
        (["episodes="], "episodes must be an integer >= 1, got None."),
        (["lr=0"], "lr must be a number > 0, got 0."),
        (["lr=.nan"], "lr must be a number > 0, got nan."),
        (["lr=inf"], "lr must be a number > 0, got inf."),
        (["sizes=0"], "sizes must be a list of integers >= 1, got 0."),
        (["sizes=a"], "sizes must be a list of integers >= 1, got 'a'."),
        (["sizes=[1"], "'[1' is no value."),
        (["mode=sum"], "mode must be mean or sample, got 'sum'."),
        (["draw_only=1"], "draw_only must be true or false, got 1."),
        (["episodes"], "'episodes' is not of the form key=value; see --help."),
        (["--episodes"], "--episodes needs a value; see --help."),
        (["--episodes", "--draw-only"], "--episodes needs a value; see --help."),
    ],
)
def test_what_cannot_be_meant_ends_with_one_sentence(given, said, capsys):
    with pytest.raises(SystemExit) as ended:
        parse(*given)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("place", ["runs/x", "x", "/data/a", "runs/lr=0.001/seed_0", "./a=b"])
def test_one_option_may_stand_without_its_name(place, capsys):
    assert parse(place, "seed=1", positional="run_dir") == Mine(run_dir=place, seed=1)
    with pytest.raises(SystemExit):
        parse(place, place, positional="run_dir")
    assert "not of the form key=value" in capsys.readouterr().err


def test_other_keys_are_handed_on_as_text():
    found, rest = arguments.parse_some("mine", "", Mine, ["seed=1", "gamma=0.9", "--tau", "-1"])
    assert found == Mine(seed=1)
    assert rest == {"gamma": "0.9", "tau": "-1"}


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_says_what_every_option_is(flag, capsys):
    with pytest.raises(SystemExit) as ended:
        parse("nonsense", flag)
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "What it does." in said
    assert "run_dir=null" in said
    assert "a rate (per update); a number > 0 [Table 1]" in said
    assert "draw_only=false" in said
    assert "sizes=[8,8]" in said


@pytest.mark.parametrize("kind", [ValueError, ImportError, RuntimeError, OSError])
def test_what_cannot_be_done_ends_with_one_sentence(kind, capsys):
    def function(options):
        raise kind(f"no {options.seed}")

    with pytest.raises(SystemExit) as ended:
        arguments.run(function, "mine", "", Mine, ["seed=3"])
    assert (ended.value.code, capsys.readouterr().err) == (2, "no 3\n")
    assert arguments.run(lambda options: options.seed, "mine", "", Mine, ["seed=3"]) == 3


def test_forms_of_figures():
    from vm3ac_modules.cli.arguments import figure_forms
    from vm3ac_modules.cli.evaluate import Evaluation

    assert figure_forms("png,pdf") == ["png", "pdf"]
    with pytest.raises(OptionsError, match="figures must be of png, svg, pdf, got 'jpg'"):
        Evaluation(figures="png,jpg")
