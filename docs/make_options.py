"""Write docs/options.md from the options' dataclasses: ``python docs/make_options.py``.

A test compares the page with what this prints.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any, get_args

from vm3ac_modules.algorithms import presets
from vm3ac_modules.algorithms.base import Kind
from vm3ac_modules.algorithms.tuning import TUNED
from vm3ac_modules.options import Options
from vm3ac_modules.runs.settings import LOOPS, BattleTraining, StepTraining

PAGE = Path(__file__).with_name("options.md")
HEAD = """# Options

Every option with its default, what is allowed, unit and source. Written by
`python docs/make_options.py` from the dataclasses that also make the command line, its help and
what a checkpoint records; `vm3ac train algorithm=NAME --help` shows the same.
"""


def shown(value: Any) -> str:
    """A value as it is given on the command line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(map(str, value))}]"
    return str(value) or '""'


def table(options: Options) -> Iterator[str]:
    """Rows of a group of options."""
    yield "| option | default | allowed | meaning |\n|---|---|---|---|"
    for row in options.table():
        unit = f" ({row.unit})" if row.unit else ""
        source = f" [{row.source}]" if row.source else ""
        # A page would take <k> for a tag.
        said = escape(f"{row.meaning}{unit}{source}", quote=False)
        yield f"| `{row.name}` | `{shown(row.default)}` | {row.allowed} | {said} |"


def sections() -> Iterator[str]:
    """The page, piece by piece."""
    yield HEAD
    yield "\n## A training on transitions: `vm3ac train`\n"
    yield from table(StepTraining())
    yield "\nNamed loops, `loop=NAME`:\n"
    for name, (about, values) in LOOPS.items():
        said = " ".join(f"`{key}={shown(value)}`" for key, value in values.items())
        yield f"- `{name}`: {about}{': ' if said else ''}{said}"
    yield "\n## A training on battles: `vm3ac battle`\n"
    yield from table(BattleTraining())
    for kind in get_args(Kind):
        yield f"\n## Algorithms, {kind} actions\n"
        known = presets(kind)
        first: dict[type, str] = {}
        for name, preset in known.items():
            cls = type(preset.options)
            if cls not in first:
                first[cls] = name
                yield f"\n### `{name}`\n\n{preset.about}\n"
                yield from table(preset.options)
                variants = [n for n, p in known.items() if type(p.options) is cls and n != name]
                if variants:
                    yield "\nVariants, and what they change:\n"
                for other in variants:
                    yield variant(other, known[other].options, preset.options)
    yield "\n## What is tuned\n"
    yield "| algorithm | task | values |\n|---|---|---|"
    for algorithms, tasks, values in TUNED:
        said = " ".join(f"`{key}={shown(value)}`" for key, value in values.items())
        yield f"| `{algorithms}` | `{tasks}` | {said} |"


def variant(name: str, options: Options, base: Options) -> str:
    """A variant by what differs."""
    own, others = options.to_dict(), base.to_dict()
    changed = [f"`{k}={shown(v)}`" for k, v in own.items() if others[k] != v]
    return f"- `{name}`: {' '.join(changed)}"


def page() -> str:
    """The whole page."""
    return "\n".join(sections()) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
