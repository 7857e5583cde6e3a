"""Completion: what a shell offers at the end of a line."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from vm3ac_modules.cli import completion
from vm3ac_modules.cli.main import COMMANDS

needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("completion") / "script"
    with pytest.MonkeyPatch.context() as patch, path.open("w") as file:
        patch.setattr("sys.stdout", file)
        completion.main(["bash"])
    return path


def offered(script, line, breaks="= "):
    call = f'COMP_WORDBREAKS="{breaks}"; COMP_LINE="{line}"; COMP_POINT=${{#COMP_LINE}}; _vm3ac'
    code = f'source {script}; {call}; printf "%s\\n" "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.split()


@needs_bash
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("vm3ac ", list(COMMANDS)),
        ("vm3ac tr", ["train"]),
        ("vm3ac train fra", ["frames="]),
        ("vm3ac train algorithm=vm3ac_t", ["vm3ac_tight"]),
        ("vm3ac train seed=1 task=predator_prey_2 algorithm=ma_s", ["ma_sac", "ma_sac_latent"]),
        ("vm3ac train task=coop", ["cooperative_navigation_3"]),
        ("vm3ac train loop=", ["default", "demo", "paper"]),
        ("vm3ac train draw=", ["true", "false"]),
        ("vm3ac train algorithm.pri", ["algorithm.prior="]),
        ("vm3ac train critic=at", ["attention"]),
        ("vm3ac battle algorithm=f", ["fop", "fop_cpu"]),
        ("vm3ac battle backend=", ["smax", "smaclite", "smac", "smacv2", "games"]),
        ("vm3ac reproduce tab", ["table3"]),
        ("vm3ac reproduce figure5 stage=", ["early", "final"]),
        ("vm3ac reproduce figure4 algorithms=fop,dop,l", ["fop,dop,lica", "fop,dop,lica_cpu"]),
        ("vm3ac completion ", ["bash", "zsh"]),
        ("vm3ac nonsense key=", []),
    ],
)
def test_what_is_offered(script, line, words):
    assert offered(script, line) == words


@needs_bash
def test_a_shell_that_takes_key_and_value_for_one_word(script):
    line = "vm3ac reproduce figure3 tasks=predator_prey_2,coop"
    assert offered(script, line, breaks=" ") == ["tasks=predator_prey_2,cooperative_navigation_3"]


def test_every_command_whose_module_is_there_has_its_keys():
    found = completion.words()
    assert {"train:", "battle:", "reproduce:", "completion:"} <= set(found)
    assert "run_dir=" in found["train:"]
    assert {"map=", "hidden_size="} <= set(found["battle:"])
    assert all(words for words in found.values())


def test_zsh_loads_what_bash_has(capsys):
    completion.main(["zsh"])
    said = capsys.readouterr().out
    assert said.startswith("autoload -Uz compinit bashcompinit")
    assert "complete -o nospace" in said


def test_another_shell_is_refused(capsys):
    with pytest.raises(SystemExit) as ended:
        completion.main(["fish"])
    assert ended.value.code == 2
    assert "shell must be bash or zsh, got 'fish'" in capsys.readouterr().err
