"""One style of arguments for every program: ``key=value``, or ``--key value`` for the same.

The options of a program are an :class:`~vm3ac_modules.options.Options` dataclass; help, types and
checks come from it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any, NoReturn, TypeVar

from vm3ac_modules.options import Options, OptionsError, Row

__all__ = ["ERRORS", "fail", "parse", "table"]

_Options = TypeVar("_Options", bound=Options)
ERRORS: tuple[type[Exception], ...] = (ValueError, ImportError, RuntimeError, OSError)
"""What a program answers with one sentence."""


def fail(message: str) -> NoReturn:
    """End the program with one sentence on standard error and exit code 2."""
    sys.stderr.write(message.rstrip() + "\n")
    sys.exit(2)


def table(rows: Sequence[Row]) -> str:
    """Options as lines of help.

    Args:
        rows: what :meth:`~vm3ac_modules.options.Options.table` gives.
    """
    width = max(len(row.name) + len(_shown(row.default)) for row in rows) + 1
    lines = []
    for row in rows:
        unit = f" ({row.unit})" if row.unit else ""
        source = f" [{row.source}]" if row.source else ""
        head = f"{row.name}={_shown(row.default)}"
        lines.append(f"  {head:<{width}}  {row.meaning}{unit}; {row.allowed}{source}")
    return "\n".join(lines)


def parse(
    program: str,
    doc: str | None,
    options: type[_Options],
    arguments: Sequence[str],
    *,
    positional: str | None = None,
) -> _Options:
    """Read a command line; end with one sentence if it cannot be meant.

    Args:
        program: name of the program, for its help.
        doc: what it does.
        options: its options.
        arguments: the command line.
        positional: an option that may be given without its name.

    Returns:
        The options.
    """
    import yaml

    known = options.names()
    rows = options().table()
    parser = argparse.ArgumentParser(
        prog=program,
        description=doc,
        epilog="options (key=value, or --key value):\n" + table(rows),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("given", nargs="*", metavar="key=value", help=argparse.SUPPRESS)
    for row in rows:
        flag = {"nargs": "?", "const": "true"} if isinstance(row.default, bool) else {}
        names = dict.fromkeys((f"--{row.name.replace('_', '-')}", f"--{row.name}"))
        parser.add_argument(
            *names, dest=f"_{row.name}", default=None, help=argparse.SUPPRESS, **flag
        )
    found = parser.parse_intermixed_args(list(arguments))
    values: dict[str, Any] = {}
    for text in found.given:
        key, separator, value = text.partition("=")
        if not separator or key.startswith(("/", ".")):
            if positional is None or positional in values:
                fail(f"{text!r} is not of the form key=value; see --help.")
            key, value = positional, text
        values[key] = value
    values |= {name: value for name in known if (value := getattr(found, f"_{name}")) is not None}
    try:
        typed = {key: _typed(options, key, value, yaml.safe_load) for key, value in values.items()}
        return options().changed(typed, program)
    except (OptionsError, yaml.YAMLError) as error:
        fail(str(error))


def _typed(options: type[Options], key: str, value: str, load: Any) -> Any:
    """Text as the option's type: what is text by type stays so."""
    found = [row for row in options().table() if row.name == key]
    if found and "text" in found[0].allowed:
        return None if value == "null" else value
    if "," in value and not value.startswith("["):
        value = f"[{value}]"
    loaded = load(value.replace("_", "") if value.replace("_", "").isdigit() else value)
    if isinstance(loaded, str):
        try:
            return float(loaded)  # YAML takes 3e-4 for text
        except ValueError:
            return loaded
    return loaded


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(map(str, value))}]"
    return str(value)
