"""Options as plain dataclasses: one line per field, checked in one place whoever gives them.

A field made by :func:`option` says its meaning, unit and range. The dataclass is then the preset,
what the command line and its help are made from, the table in the docs, and what a checkpoint
records.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

__all__ = ["Options", "OptionsError", "Row", "check_taken", "meant", "option"]


class OptionsError(ValueError):
    """An option is unknown or cannot have the value that it was given."""


def meant(name: str, known: Iterable[str], count: int = 1, prefix: str = "") -> str:
    """What an unknown name was probably meant to be, for a message that refuses it.

    Args:
        name: the unknown name.
        known: the names there are.
        count: how many of them may be said.
        prefix: what names may begin with, and may be left out: it makes no two of them alike.

    Returns:
        `` (did you mean 'x'?)``, or nothing where no name is near.

    Example:
        >>> meant("balence", ["balance", "football"]), meant("?", ["balance"])
        (" (did you mean 'balance'?)", '')
    """
    bare = {other.removeprefix(prefix): other for other in known}
    near = [bare[x] for x in difflib.get_close_matches(name.removeprefix(prefix), bare, n=count)]
    return f" (did you mean {' or '.join(map(repr, near))}?)" if near else ""


def check_taken(
    function: Callable[..., Any], given: Iterable[str], owner: str, also: Iterable[str] = ()
) -> None:
    """Refuse options that a function or class does not take; one with ``**options`` takes all.

    Args:
        function: what is called with them.
        given: their names.
        owner: whose options they are, for the message.
        also: all that ``**options`` takes, where that is known.

    Raises:
        OptionsError: names the option, and what is taken besides the others.

    Example:
        >>> check_taken(lambda *, rate=0.1: rate, ["rat"], "guard")
        Traceback (most recent call last):
        ...
        vm3ac_modules.options.OptionsError: guard: unknown option 'rat' (did you mean 'rate'?); ...
    """
    # A metaclass (EnvBase's) may take anything, whatever the class takes.
    called = typing.cast(Any, function).__init__ if isinstance(function, type) else function
    parameters = inspect.signature(called).parameters
    taken = [name for name, one in parameters.items() if one.kind is not one.VAR_KEYWORD]
    also = sorted(also)
    if len(taken) < len(parameters) and not also:
        return
    given, taken = list(given), [*taken, *also]
    known = [name for name in taken if name != "self" and name not in given]
    for name in given:
        if name not in taken:
            raise OptionsError(
                f"{owner}: unknown option {name!r}{meant(name, known)}; valid besides: "
                f"{', '.join(known)}."
            )


def option(
    default: Any,
    meaning: str,
    *,
    unit: str = "",
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    choices: Sequence[Any] = (),
    source: str = "",
) -> Any:
    """A field of an :class:`Options` dataclass.

    Args:
        default: its value unless another is given.
        meaning: one line of plain text.
        unit: unit of a number.
        least: smallest number allowed.
        above: every number must be larger.
        most: largest number allowed.
        choices: the words allowed; numbers may stand beside them if the annotation says so.
        source: where the value comes from, e.g. a table of the paper.

    Returns:
        A dataclass field.

    Example:
        >>> @dataclass(frozen=True, kw_only=True)
        ... class Mine(Options):
        ...     beta: float = option(0.1, "temperature", unit="reward per nat", least=0)
        >>> Mine(beta=0.2).beta
        0.2
        >>> Mine(beta=-1)
        Traceback (most recent call last):
        ...
        vm3ac_modules.options.OptionsError: beta must be a number >= 0, got -1.
    """
    metadata = {
        "meaning": meaning,
        "unit": unit,
        "least": least,
        "above": above,
        "most": most,
        "choices": tuple(choices),
        "source": source,
    }
    return dataclasses.field(default=default, metadata=metadata)


class Row(typing.NamedTuple):
    """What help and docs say of one option."""

    name: str
    default: Any
    allowed: str
    unit: str
    meaning: str
    source: str
    choices: tuple[Any, ...]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Base of every group of options: fields of :func:`option`, checked when an instance is made.

    Variants are instances: ``dataclasses.replace(preset, name=value)`` checks again. A subclass
    that changes only a default says only that: ``beta: float = 0.2``.

    Raises:
        OptionsError: for a value of another type or outside its range; says what is allowed.
    """

    def __post_init__(self) -> None:
        for name, field in _fields(type(self)).items():
            value = field.accept(getattr(self, name))
            object.__setattr__(self, name, value)

    @classmethod
    def names(cls) -> list[str]:
        """Names of all options."""
        return list(_fields(cls))

    def changed(
        self, values: Mapping[str, Any], owner: str = "", *, also: Sequence[str] = ()
    ) -> Self:
        """The same options with other values.

        Args:
            values: value by name.
            owner: whose options they are, for messages.
            also: further words that may have been meant.

        Raises:
            OptionsError: for an unknown name or a value that is not allowed.
        """
        known = self.names()
        for name in values:
            if name not in known:
                hint = meant(name, [*known, *also], 2)
                of = f" of {owner}" if owner else ""
                raise OptionsError(f"unknown option {name!r}{of}{hint}; valid: {', '.join(known)}.")
        return dataclasses.replace(self, **values)

    def to_dict(self) -> dict[str, Any]:
        """Value by name, with lists for tuples, as JSON and YAML hold them."""
        return {name: _plain(getattr(self, name)) for name in self.names()}

    def table(self) -> list[Row]:
        """A row per option, for help and docs, with the values of this instance."""
        values = self.to_dict()
        return [
            Row(f.name, values[f.name], f.allowed(), f.unit, f.meaning, f.source, f.choices)
            for f in _fields(type(self)).values()
        ]


class _Field(typing.NamedTuple):
    name: str
    kinds: tuple[type, ...]
    """int, float, bool, str, tuple, NoneType."""
    item: type
    """Of what a tuple is made: int, float or str, which then is one of the choices."""
    unit: str
    meaning: str
    source: str
    least: float | None
    above: float | None
    most: float | None
    choices: tuple[Any, ...]

    def allowed(self) -> str:
        words = [str(choice) for choice in self.choices]
        items = "integers" if self.item is int else "numbers"
        numbers = {int: "an integer", float: "a number", tuple: f"a list of {items}"}
        if self.item is str:
            return f"a list of {', '.join(words)}"
        for kind, word in numbers.items():
            if kind in self.kinds:
                limits = [(">=", self.least), (">", self.above), ("<=", self.most)]
                said = " and ".join(f"{sign} {at:g}" for sign, at in limits if at is not None)
                words.insert(0, f"{word} {said}".strip())
        if bool in self.kinds:
            words.append("true or false")
        if str in self.kinds and not self.choices:
            words.append("text")
        if types.NoneType in self.kinds:
            words.append("null")
        return " or ".join(words) if len(words) < 3 else ", ".join(words)

    def accept(self, value: Any) -> Any:
        if self.item is str:
            parts = (value,) if isinstance(value, str) else value
            known = isinstance(parts, (list, tuple)) and all(p in self.choices for p in parts)
            return tuple(dict.fromkeys(parts)) if known else self._refuse(value)
        if isinstance(value, (list, tuple)) and tuple in self.kinds:
            return tuple(self._number(self.item, part) for part in value) or self._refuse(value)
        if value is None and types.NoneType in self.kinds:
            return None
        if isinstance(value, bool):
            return value if bool in self.kinds else self._refuse(value)
        if isinstance(value, str):
            fits = value in self.choices if self.choices else str in self.kinds
            return value if fits else self._refuse(value)
        if value in self.choices:
            return value
        if int in self.kinds or float in self.kinds:
            return self._number(float if float in self.kinds else int, value)
        return self._refuse(value)

    def _number(self, kind: type, value: Any) -> Any:
        whole = isinstance(value, int) and not isinstance(value, bool)
        if kind is int and isinstance(value, float) and value.is_integer():
            whole, value = True, int(value)
        if not (whole or (kind is float and isinstance(value, float) and math.isfinite(value))):
            self._refuse(value)
        low = self.least is not None and value < self.least
        low = low or (self.above is not None and value <= self.above)
        if low or (self.most is not None and value > self.most):
            self._refuse(value)
        return kind(value)

    def _refuse(self, value: Any) -> Any:
        raise OptionsError(f"{self.name} must be {self.allowed()}, got {value!r}.")


_KNOWN: dict[type, dict[str, _Field]] = {}


def _fields(cls: type[Options]) -> dict[str, _Field]:
    if cls in _KNOWN:
        return _KNOWN[cls]
    hints = typing.get_type_hints(cls)
    found = {}
    for field in dataclasses.fields(cls):
        hint, known = hints[field.name], _metadata(cls, field.name)
        if not known:
            raise OptionsError(f"{cls.__name__}.{field.name} must be made by option(...).")
        parts = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        kinds = tuple(typing.get_origin(part) or part for part in parts)
        lists = [typing.get_args(part)[0] for part in parts if typing.get_origin(part) is tuple]
        found[field.name] = _Field(
            field.name,
            kinds,
            lists[0] if lists else int,
            **{k: known[k] for k in ("unit", "meaning", "source")},
            **{k: known[k] for k in ("least", "above", "most", "choices")},
        )
    _KNOWN[cls] = found
    return found


def _metadata(cls: type[Options], name: str) -> Mapping[str, Any]:
    """What is said of a field where its class, or the nearest base, says it."""
    own = (vars(base).get("__dataclass_fields__", {}).get(name) for base in cls.__mro__)
    return next((field.metadata for field in own if field is not None and field.metadata), {})


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
