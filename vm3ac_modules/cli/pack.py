"""Make a trained run two small files that others can load: policy.safetensors and card.json.

    vm3ac pack runs/x out=packed/x

The policy and what estimates need are kept; critics, optimizers and the replay are left out. The
card holds the configuration, the command that trains the same, versions and commit, the licence,
the SHA-256 of the weights, and what vm3ac evaluate finds when it plays the packed agent (episodes=0
leaves that out). vm3ac evaluate, export, decentralize, play and report take the directory as they
take a run's, and so does load_agent. recipes/make_zoo.py makes the zoo of the package in this way.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vm3ac_modules.cli.arguments import program
from vm3ac_modules.cli.evaluate import Evaluation, report, text_of
from vm3ac_modules.options import Options, OptionsError, option
from vm3ac_modules.runs import Settings, files_directory, load_agent, pack_agent, read_card

__all__ = ["Pack", "command_of", "main"]

OWN = (
    *("run_dir", "resume", "overwrite", "trust", "threads", "seed", "frames"),
    *("logger", "progress", "draw"),
)
"""What does not change what is learned, or is said apart."""

WORD = re.compile(r"[A-Za-z_/][\w./:-]*")
"""Text that needs no quotes of Hydra's, unless it is one of the next."""
TAKEN = ("null", "true", "false", "nan", "inf")


@dataclass(frozen=True, kw_only=True)
class Pack(Options):
    """Options of ``vm3ac pack``."""

    run_dir: str | None = option(None, "directory of a run, or zoo/<name>")
    out: str | None = option(
        None, "directory of the packed agent; null: run_dir/packed, or runs/zoo/<name>/packed"
    )
    episodes: int = option(100, "episodes of every mode of the card's evaluation", least=0)
    licence: str = option("MIT", "licence of the weights")
    about: str = option("", "a sentence on the agent, for its card")
    trust: bool = option(False, "import the module of a task that run_dir names (python:...)")


def command_of(settings: Settings, frames: int) -> str:
    """The command line that trains the same, quoted for a shell where it must be.

    Args:
        settings: of a run.
        frames: environment steps that it was trained for.

    Example:
        >>> named = {"task": {"name": "guard"}, "algorithm": {"name": "ma_sac"}}
        >>> command_of(Settings.of({**named, "lr": 1e-3}), 64_000)
        'vm3ac train algorithm=ma_sac task=guard seed=0 frames=64000 lr=0.001'
    """
    place = dict(settings.place)
    usual = Settings.of({**place, "algorithm": {"name": settings.name}}).to_dict()
    found = settings.to_dict()
    seed = [f"seed={settings.training.seed}", f"frames={frames}"]
    if "map" in place:
        named = [f"{key}={place[key]}" for key in ("map", "backend", "reward")]
        start = ["vm3ac", "battle", f"algorithm={settings.name}", *named, *seed]
        env = [f"env.{key}={_word(value)}" for key, value in place["env"].items()]
    else:
        task = place["task"]
        start = ["vm3ac", "train", f"algorithm={settings.name}", f"task={task['name']}", *seed]
        own = {k: v for k, v in task.items() if k not in ("name", "env") and v not in (None, False)}
        env = [f"task.{key}={_word(value)}" for key, value in own.items()]
        env += [f"task.env.{key}={_word(value)}" for key, value in task["env"].items()]
    return shlex.join([*start, *env, *_changes(found, usual, settings)])


def _changes(
    found: Mapping[str, Any], usual: Mapping[str, Any], settings: Settings
) -> Iterator[str]:
    algorithm, other = found["algorithm"], usual["algorithm"]
    for key, value in found.items():
        if key not in (*OWN, "algorithm", *settings.place) and value != usual.get(key):
            yield f"{key}={_word(value)}"
    for key, value in algorithm.items():
        if value != other.get(key):
            short = key in type(settings.training).shared
            yield f"{key if short else f'algorithm.{key}'}={_word(value)}"


def _word(value: Any) -> str:
    """A value as Hydra reads it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{key}:{_word(part)}' for key, part in value.items())}}}"
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(_word, value))}]"
    if isinstance(value, str) and (value.lower() in TAKEN or not WORD.fullmatch(value)):
        # Backslashes count only before a quote.
        inner = re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), value)
        return f"'{inner}'"
    return str(value)


def _pack(options: Pack) -> None:
    source = str(options.run_dir)
    if options.episodes == 1:
        raise OptionsError("episodes=1 has no interval: give more, or 0 for no evaluation.")
    trained = load_agent(source, trust=options.trust)
    # Not zoo/<name>/packed: a directory of that name would hide the zoo's agent.
    out = files_directory(source) / "packed" if options.out is None else Path(options.out)

    def evaluation(place: Path) -> dict[str, Any]:
        found = report(
            Evaluation(run_dir=str(place), episodes=options.episodes, trust=options.trust)
        )
        sys.stdout.write(text_of(found))
        return found

    about = {
        "algorithm": trained.agent.algorithm,
        "task": trained.task_name,
        **trained.task.about,
        "about": options.about,
        "seed": trained.seed,
        "command": command_of(trained.settings, trained.frame),
        "licence": options.licence,
    }
    pack_agent(source, out, about=about, evaluation=evaluation if options.episodes else None)
    card = read_card(out)
    sys.stdout.write(f"{out}: {card['size'] / 1000:.0f} kB, sha256 {card['sha256']}\n")


main = program(_pack, "vm3ac pack", __doc__, Pack)
"""Read a command line, and do what it says."""
