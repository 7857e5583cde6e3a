"""One style of arguments for every program: ``key=value``, or ``--key value`` for the same.

The options of a program are an :class:`~vm3ac_modules.options.Options` dataclass; help, types and
checks come from it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NoReturn, TypeVar

from vm3ac_modules.options import Options, OptionsError, Row

__all__ = ["ERRORS", "run"]

FIGURES = ("png", "svg", "pdf")
_Options = TypeVar("_Options", bound=Options)
_Result = TypeVar("_Result")
ERRORS: tuple[type[Exception], ...] = (ValueError, ImportError, RuntimeError, OSError)
"""What a program answers with one sentence."""


def fail(message: str) -> NoReturn:
    """End the program with one sentence on standard error and exit code 2."""
    sys.stderr.write(message.rstrip() + "\n")
    sys.exit(2)


def say(message: str) -> None:
    """Write a line to standard output at once."""
    sys.stdout.write(message + "\n")
    sys.stdout.flush()


def table(rows: Sequence[Row]) -> str:
    """Options as lines of help."""
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
    many: bool = False,
) -> _Result:
    """Read a command line and do what it says; answer what cannot be done with one sentence.

    Args:
        function: what the program does.
        program: its name, for help.
        doc: what it is.
        options: its options.
        arguments: the command line.
        of_run: whether it needs ``run_dir``, which may then be given without its name.
        many: whether several may be given so; they are then lines of its text.

    Returns:
        What the function returns.
    """
    positional = "run_dir" if of_run else None
    chosen = parse(program, doc, options, arguments, positional=positional, many=many)
    if of_run and chosen.to_dict()["run_dir"] is None:
        fail("say which run: run_dir=<directory of a run, or zoo/<name>>.")
    try:
        return function(chosen)
    except ERRORS as error:
        fail(str(error))


def program(
    function: Callable[[_Options], None], name: str, doc: str | None, options: type[_Options]
) -> Callable[..., None]:
    """The ``main`` of a program on a run."""

    def main(arguments: Sequence[str] | None = None, *, program: str = name) -> None:
        given = sys.argv[1:] if arguments is None else arguments
        run(function, program, doc, options, given, of_run=True)

    return main


def figure_forms(text: str) -> list[str]:
    """Endings of a figure's files, of an option such as ``figures=png,svg``."""
    forms = text.split(",")
    if wrong := [form for form in forms if form not in FIGURES]:
        raise OptionsError(f"figures must be of {', '.join(FIGURES)}, got {wrong[0]!r}.")
    return forms


def parse(
    program: str,
    doc: str | None,
    options: type[_Options],
    arguments: Sequence[str],
    *,
    positional: str | None = None,
    many: bool = False,
) -> _Options:
    """Read a command line; end with one sentence if it cannot be meant."""
    chosen, rest = parse_some(program, doc, options, arguments, positional=positional, many=many)
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
    many: bool = False,
) -> tuple[_Options, dict[str, str]]:
    """Read a command line that also has keys which are no options of the program: text by key."""
    defaults = options()
    if any(argument in ("-h", "--help") for argument in arguments):
        say(f"usage: {program} [key=value ...]\n\n{(doc or '').strip()}\n")
        say("options (key=value, or --key value):\n" + table(defaults.table()))
        sys.exit(0)
    given = _pairs(arguments, defaults, positional, many)
    own = {key: given.pop(key) for key in list(given) if key in options.names()}
    try:
        typed = {key: _typed(defaults, key, text) for key, text in own.items()}
        return defaults.changed(typed, program), given
    except OptionsError as error:
        fail(str(error))


def _pairs(
    arguments: Sequence[str], options: Options, positional: str | None, many: bool
) -> dict[str, str]:
    """Text by key."""
    found: dict[str, str] = {}
    for text in spelled(arguments, options):
        key, separator, value = text.partition("=")
        if not separator or "/" in key:
            if positional is None or (positional in found and not many):
                fail(f"{text!r} is not of the form key=value; see --help.")
            key, value = positional, text
        if many and key == positional and key in found:
            value = f"{found[key]}\n{value}"
        found[key] = value
    return found


def spelled(
    arguments: Sequence[str], options: Options, keep: Collection[str] = ()
) -> Iterator[str]:
    """``--key value`` as ``key=value``; a flag may stand alone, and what is to be kept stays."""
    flags = {key for key, value in options.to_dict().items() if isinstance(value, bool)}
    rest = list(arguments)
    while rest:
        text = rest.pop(0)
        key, separator, value = text[2:].partition("=")
        if not text.startswith("--") or key in keep:
            yield text
            continue
        key = key.replace("-", "_")
        if not separator and key in flags:
            value = rest.pop(0) if rest and rest[0] in ("true", "false") else "true"
        elif not separator:
            if not rest or rest[0].startswith("--"):
                fail(f"{text} needs a value; see --help.")
            value = rest.pop(0)
        yield f"{key}={value}"


def value_of(text: str) -> Any:
    """What text means: a number (3e-4, 1_000), true or false, null, a list, or itself."""
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
