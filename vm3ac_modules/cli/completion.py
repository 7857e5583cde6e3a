"""``vm3ac completion bash|zsh``: print what completes commands, keys and values.

bash: put ``source <(vm3ac completion bash)`` into ~/.bashrc; zsh: ``source <(vm3ac completion
zsh)`` into ~/.zshrc. Names are those of the installed version: new ones need a new shell.
"""

from __future__ import annotations

import importlib
import inspect
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

from vm3ac_modules.algorithms.registry import presets
from vm3ac_modules.cli.arguments import parse, say
from vm3ac_modules.cli.main import COMMANDS
from vm3ac_modules.cli.reproduce import ARTEFACTS
from vm3ac_modules.envs.battles.factory import BACKENDS
from vm3ac_modules.envs.tasks import available_environments
from vm3ac_modules.options import Options, option
from vm3ac_modules.runs.settings import COMMANDS as TRAININGS
from vm3ac_modules.runs.settings import LOOPS, StepTraining, Training

__all__ = ["Completion", "main"]

# The word after "key=" is completed. bash takes "=" for the end of a word, zsh does not.
SCRIPT = """\
_vm3ac() {{
    local line="${{COMP_LINE:0:$COMP_POINT}}" command=() word key= value= prefix= found=
    local current="${{line##* }}"
    for word in ${{line% *}}; do [[ $word == *=* ]] || command+=("$word"); done
    local place="${{command[*]:1}}"
    if [[ $current == *=* ]]; then
        key="${{current%%=*}}=" value="${{current#*=}}"
        [[ $value == *,* ]] && prefix="${{value%,*}},"
        [[ $COMP_WORDBREAKS == *=* ]] || prefix="$key$prefix"
        value="${{value##*,}}"
    else
        value="$current"
    fi
    case "$place:$key" in
{cases}
    esac
    COMPREPLY=($(compgen -W "$found" -P "$prefix" -- "$value"))
}}
complete -o nospace -o default -F _vm3ac vm3ac
"""
ZSH = "autoload -Uz compinit bashcompinit && compinit && bashcompinit\n"


@dataclass(frozen=True, kw_only=True)
class Completion(Options):
    """Options of this program."""

    shell: str = option("bash", "which shell", choices=("bash", "zsh"))


def words() -> dict[str, list[str]]:
    """What can follow, by ``<command>:<key>=``; by ``<command>:`` where no key was begun.

    Example:
        >>> words()["train:loop="]
        ['default', 'demo', 'paper']
    """
    keys: dict[str, dict[str, list[str]]] = {}
    for command, kind in TRAININGS.items():
        keys[command] = _training(kind)
    modules = {name: place.split(":")[0] for name, (place, _) in COMMANDS.items()}
    modules |= {f"reproduce {name}": f"vm3ac_modules.cli.reproduce.{name}" for name in ARTEFACTS}
    for command, place in modules.items():
        for options in _options(place):
            keys[command] = _program(options)
    found = {":": list(COMMANDS), "reproduce:": list(ARTEFACTS)}
    for command, known in keys.items():
        found[f"{command}:"] = [f"{name}=" for name in known]
        found |= {f"{command}:{name}=": values for name, values in known.items() if values}
    return found | {"completion:": found["completion:shell="]}


def _training(kind: type[Training]) -> dict[str, list[str]]:
    """Keys of a training, those of every algorithm included, with their values."""
    found = {**_choices(kind), "algorithm": list(presets(kind.kind))}
    if kind is StepTraining:
        found |= {"task": available_environments(), "loop": list(LOOPS), "task.max_steps": []}
        found["task.agent_index"] = ["true", "false"]
    else:
        found |= {"map": [], "backend": list(BACKENDS), "reward": ["sparse", "shaped"]}
    for preset in presets(kind.kind).values():
        for name, values in _choices(type(preset.options)).items():
            for key in (f"algorithm.{name}", *([name] if name in kind.shared else [])):
                found[key] = found.get(key) or values
    return found


def _program(options: type[Options]) -> dict[str, list[str]]:
    """Keys of another program with their values."""
    program = getattr(options, "program", None)
    battles = program is not None and program.command == "battle"
    lists = {"algorithms": list(presets("discrete" if battles else "continuous"))}
    lists |= {} if battles else dict.fromkeys(("task", "tasks"), available_environments())
    return {name: lists.get(name, values) for name, values in _choices(options).items()}


def _choices(options: type[Options]) -> dict[str, list[str]]:
    """Every option with the words that it takes, if these are few."""
    hints = typing.get_type_hints(options)
    flags = {name: ["true", "false"] for name in options.names() if hints[name] is bool}
    words = {row.name: [*map(str, row.choices)] for row in options().table()}
    return words | flags


def _options(place: str) -> list[type[Options]]:
    """Options that a program's module defines; none where it needs what is not installed."""
    try:
        module: ModuleType = importlib.import_module(place)
    except ImportError:
        return []
    own = (item for _, item in inspect.getmembers(module, inspect.isclass))
    return [item for item in own if issubclass(item, Options) and item.__module__ == place]


def main(arguments: Sequence[str]) -> None:
    """Print the completion script for a shell.

    Args:
        arguments: the command line.
    """
    chosen = parse("vm3ac completion", __doc__, Completion, arguments, positional="shell")
    cases = "\n".join(
        f'        "{place}") found="{" ".join(found)}" ;;' for place, found in words().items()
    )
    say((ZSH if chosen.shell == "zsh" else "") + SCRIPT.format(cases=cases))
