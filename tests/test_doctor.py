"""The doctor on machines made up for it, and on this one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from vm3ac_modules.doctor import Finding, Surroundings, diagnose

CORE = {"torch": "2.13.0+cpu", "torchrl": "0.14.1", "tensordict": "0.14.3", "vm3ac-modules": "0.1"}
REQUIRED = (
    "torch>=2.8",
    "torchrl<0.15,>=0.11",
    "vmas<1.6,>=1.5.2; extra == 'vmas'",
    "jaxmarl<0.3,>=0.2.0; extra == 'smax'",
    "jax<0.12,>=0.6; extra == 'smax'",
)


def findings(versions=(), **surroundings):
    found = Surroundings(versions={**CORE, **dict(versions)}, requirements=REQUIRED, **surroundings)
    return diagnose(found)


def one(lines, word):
    matching = [line for line in lines if word in line.what]
    assert len(matching) == 1, [str(line) for line in lines]
    return matching[0]


def test_a_sound_core_has_nothing_broken():
    lines = findings(cuda=())
    assert not [line for line in lines if line.status == "broken"]
    assert one(lines, "torch 2.13.0+cpu").status == "ok"
    assert "device=cpu works" in one(lines, "CUDA").what
    assert one(findings(cuda=("H200",)), "CUDA").what == "CUDA devices: H200"


def test_every_line_that_asks_for_something_says_what_to_do():
    machines = [
        Surroundings(versions={}),
        Surroundings(versions=CORE, requirements=REQUIRED, environ={"SC2PATH": "/nowhere"}),
    ]
    for machine in machines:
        for line in diagnose(machine):
            assert bool(line.fix) == (line.status not in ("ok", "note")), line
            assert "\n" not in str(line)


def test_a_broken_core():
    missing = Surroundings(versions={"torch": "2.13.0"}, requirements=REQUIRED)
    assert one(diagnose(missing), "torchrl is not installed").status == "broken"
    old = one(findings({"torchrl": "0.10.1"}), "torchrl 0.10.1 is not")
    assert (old.status, old.fix) == ("broken", "pip install 'torchrl<0.15,>=0.11'")
    raising = one(findings(errors={"torch": "ImportError: libc"}), "does not import")
    assert raising.status == "broken"
    assert "libc" in raising.what


def test_extras():
    absent = one(findings(), "extra smax")
    assert absent == Finding(
        "absent", "extra smax: jaxmarl, jax not installed", "pip install 'vm3ac-modules[smax]'"
    )
    good = {"jaxmarl": "0.2.0", "jax": "0.10.2"}
    assert one(findings(good), "extra smax").what == "extra smax: jaxmarl 0.2.0, jax 0.10.2"
    old = one(findings({**good, "jax": "0.4.0"}), "extra smax")
    assert (old.status, old.what) == ("problem", "extra smax: jax 0.4.0 is not <0.12,>=0.6")
    raising = one(findings(good, errors={"jaxmarl": "ImportError: x"}), "extra smax")
    assert raising.status == "problem"
    # an installation that is older than the extra
    older = one(findings(), "extra recipes")
    assert (older.status, older.fix) == (
        "problem",
        "pip install -e '.[recipes]' where its files are",
    )


def test_the_wrong_smac(tmp_path):
    (tmp_path / "smac" / "main").mkdir(parents=True)
    line = one(findings(folders={"smac": tmp_path / "smac"}), "AutoML")
    assert line.status == "problem"
    assert line.fix.startswith("pip uninstall smac, then pip install")


@pytest.fixture
def smac(tmp_path):
    (tmp_path / "smac" / "env" / "starcraft2").mkdir(parents=True)
    return {"smac": tmp_path / "smac", "pysc2": tmp_path}


def test_smaclite(tmp_path):
    absent = one(findings(), "smaclite")
    assert (absent.status, "uoe-agents/smaclite.git" in absent.fix) == ("absent", True)
    there = {"folders": {"smaclite": tmp_path}}
    needs = {"gymnasium": "1.0", "scikit-learn": "1.5"}
    half = one(findings(needs, **there), "smaclite")
    assert (half.status, half.fix) == ("problem", "pip install Rtree")
    whole = one(findings({**needs, "rtree": "1.0", "smaclite": "0.0.1"}, **there), "smaclite")
    assert (whole.status, whole.what) == ("ok", "smaclite 0.0.1")


def test_no_game_is_no_problem():
    for name in ("smac", "smacv2"):
        assert one(findings(), f"{name} (").status == "absent"
    assert not [line for line in findings() if line.status == "problem" and "Star" in line.what]


def test_the_game_and_its_maps(smac, tmp_path):
    home = tmp_path / "StarCraftII"
    nothing = one(findings(folders=smac, home=tmp_path), "no StarCraft II in")
    assert str(home) in nothing.what
    home.mkdir()
    assert one(findings(folders=smac, home=tmp_path), "SC2_x64").status == "problem"
    assert one(findings(folders=smac, home=tmp_path), "no maps").status == "problem"
    (home / "Versions" / "Base75689").mkdir(parents=True)
    (home / "Versions" / "Base75689" / "SC2_x64").touch()
    (home / "Maps" / "SMAC_Maps").mkdir(parents=True)
    (home / "Maps" / "SMAC_Maps" / "3m.SC2Map").touch()
    lines = findings(folders=smac, environ={"SC2PATH": str(home)})
    assert one(lines, "SC2_x64").status == "ok"
    assert one(lines, "1 maps").status == "ok"
    assert "(SC2PATH)" in one(lines, "SC2_x64").what


@pytest.mark.parametrize(("version", "bad"), [("3.20.3", 0), ("3.21.0", 1), ("7.36.2", 1)])
def test_protobuf(smac, version, bad):
    lines = findings({"protobuf": version}, folders=smac)
    assert len([line for line in lines if line.what.startswith("protobuf")]) == bad
    assert not [line for line in findings({"protobuf": version}) if "protobuf" in line.what]


def test_torchrls_extension_is_a_note():
    assert one(findings(extension=False), "extension").status == "note"
    assert not [line for line in findings() if "extension" in line.what]


def test_on_this_machine_without_importing_the_extras():
    code = (
        "import sys; from vm3ac_modules import doctor; status = doctor.main([]); "
        "assert not {'vmas', 'jax', 'matplotlib', 'hypothesis', 'pygame'} & set(sys.modules); "
        "sys.exit(status)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "ok      torch " in run.stdout


def test_the_status_tells_of_a_broken_core(monkeypatch, capsys):
    from vm3ac_modules import doctor

    broken = Surroundings(versions={})
    monkeypatch.setattr(Surroundings, "here", classmethod(lambda cls, imports: broken))
    assert doctor.main([]) == 1
    assert "pip install vm3ac-modules" in capsys.readouterr().out
