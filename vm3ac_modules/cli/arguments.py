"""One style of arguments for every program: ``key=value``, or ``--key value`` for the same.

The options of a program are an :class:`~vm3ac_modules.options.Options` dataclass; help, types and
checks come from it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

from vm3ac_modules.options import Options, OptionsError, Row

__all__ = ["ERRORS", "fail", "parse", "parse_some", "run", "say", "table", "value_of"]

_Options = TypeVar("_Options", bound=Options)
_Result = TypeVar("_Result")
ERRORS: tuple[type[Exception], ...] = (ValueError, ImportError, RuntimeError, OSError)
"""What a program answers with one sentence."""


def fail(message: str) -> NoReturn:
    """End the program with one sentence on standard error and exit code 2.

    Args:
        message: the sentence.
    """
    sys.stderr.write(message.rstrip() + "\n")
    sys.exit(2)


def say(message: str) -> None:
    """Write a line to standard output at once.

    Args:
        message: the line.
    """
    sys.stdout.write(message + "\n")
    sys.stdout.flush()


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


def run(
    function: Callable[[_Options], _Result],
    program: str,
    doc: str | None,
    options: type[_Options],
    arguments: Sequence[str],
    *,
    of_run: bool = False,
) -> _Result:
    """Read a command line and do what it says; answer what cannot be done with one sentence.

    Args:
        function: what the program does.
        program: its name, for help.
        doc: what it is.
        options: its options.
        arguments: the command line.
        of_run: whether it needs ``run_dir``, which may then be given without its name.

    Returns:
        What the function returns.
    """
    chosen = parse(program, doc, options, arguments, positional="run_dir" if of_run else None)
    if of_run and chosen.to_dict()["run_dir"] is None:
        fail("say which run: run_dir=<directory of a run>.")
    try:
        return function(chosen)
    except ERRORS as error:
        fail(str(error))


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
    chosen, rest = parse_some(program, doc, options, arguments, positional=positional)
    try:
        return chosen.changed(rest, program)
    except OptionsError as error:
        fail(str(error))


def parse_some(
    program: str,
    doc: str | None,
    options: type[_Options],
    arguments: Sequence[str],
    *,
    positional: str | None = None,
) -> tuple[_Options, dict[str, str]]:
    """Read a command line that also has keys which are no options of the program.

    Args:
        program: name of the program, for its help.
        doc: what it does.
        options: its options.
        arguments: the command line.
        positional: an option that may be given without its name.

    Returns:
        The options, and the text of every other key.
    """
    defaults = options()
    if any(argument in ("-h", "--help") for argument in arguments):
        say(f"usage: {program} [key=value ...]\n\n{(doc or '').strip()}\n")
        say("options (key=value, or --key value):\n" + table(defaults.table()))
        sys.exit(0)
    given = _pairs(arguments, defaults, positional)
    own = {key: given.pop(key) for key in list(given) if key in options.names()}
    try:
        typed = {key: _typed(defaults, key, text) for key, text in own.items()}
        return defaults.changed(typed, program), given
    except OptionsError as error:
        fail(str(error))


def _pairs(arguments: Sequence[str], options: Options, positional: str | None) -> dict[str, str]:
    """Text by key; a flag may stand alone."""
    found: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        text = rest.pop(0)
        key, separator, value = text.partition("=")
        if text.startswith("--"):
            key = key[2:].replace("-", "_")
            flag = isinstance(getattr(options, key, None), bool)
            if not separator and flag:
                value = rest.pop(0) if rest and rest[0] in ("true", "false") else "true"
            elif not separator:
                if not rest or rest[0].startswith("--"):
                    fail(f"{text} needs a value; see --help.")
                value = rest.pop(0)
        elif not separator or "/" in key:
            if positional is None or positional in found:
                fail(f"{text!r} is not of the form key=value; see --help.")
            key, value = positional, text
        found[key] = value
    return found


def value_of(text: str) -> Any:
    """What text means: a number, true or false, null, a list, or itself.

    Args:
        text: e.g. ``3e-4``, ``1_000``, ``[16,16]``.

    Raises:
        OptionsError: if it is none of these.
    """
    import yaml

    try:
        return _numbers(yaml.safe_load(text))
    except yaml.YAMLError:
        raise OptionsError(f"{text!r} is no value.") from None


def _numbers(value: Any) -> Any:
    if isinstance(value, list):
        return [_numbers(part) for part in value]
    if isinstance(value, str):
        try:
            return float(value)  # YAML takes 3e-4 for text
        except ValueError:
            return value
    return value


def _typed(options: Options, key: str, text: str) -> Any:
    """Text as the option's type: what is text by type stays so."""
    [row] = [row for row in options.table() if row.name == key]
    if "text" in row.allowed:
        return None if text == "null" else text
    listed = "," in text or isinstance(row.default, list)
    return value_of(f"[{text}]" if listed and not text.startswith("[") else text)


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(map(str, value))}]"
    return str(value)
