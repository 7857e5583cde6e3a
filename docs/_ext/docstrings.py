"""Docstrings as their authors read them: what napoleon and reStructuredText take otherwise.

Text in ``Returns:`` is prose, though a colon in it looks like a type to napoleon; so is the first
line of a property. An indented block of a module's docstring is shown as it stands.
"""

import re
from typing import Any

from sphinx.application import Sphinx
from sphinx.util import inspect

KINDS = ("attribute", "data", "property")


def prose_returns(lines: list[str]) -> list[str]:
    """Write a section ``Returns:`` as a field whose text is taken as it is."""
    done, inside = [], False
    for line in lines:
        if re.fullmatch(r"(Returns|Yields):", line):
            inside, field = True, line
            continue
        if inside:
            name = "returns" if field == "Returns:" else "yields"
            line, inside = f":{name}: {line.strip()}", False
            if done and done[-1]:
                done.append("")
        done.append(line)
    return done


def shown_blocks(lines: list[str]) -> list[str]:
    """Mark the indented blocks of a module's docstring as literal."""
    done: list[str] = []
    before = ""
    for line in lines:
        starts = line.startswith("    ") and done and not done[-1] and before[:1] not in (" ", "")
        if starts and not before.startswith(("..", "-", "*")) and not before.endswith("::"):
            done += ["::", ""]
        done.append(line)
        before = line or before
    return done


def read(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Change the lines of one docstring in place, before napoleon reads them."""
    changed = prose_returns(lines)
    if what == "module":
        changed = shown_blocks(changed)
    if what in KINDS:
        changed = ["..", "", *changed]  # an empty comment: napoleon skips blank lines
    lines[:] = changed


def sign(
    app: Sphinx,
    what: str,
    name: str,
    obj: Any,
    options: object,
    signature: str | None,
    returns: str | None,
) -> tuple[str | None, str | None]:
    """Write the arguments of ``__init__`` where a metaclass hides them, and aliases by name."""
    if what == "class" and signature == "(*args, **kwargs)":
        own = inspect.signature(obj.__init__, bound_method=True)
        signature = inspect.stringify_signature(
            own, show_return_annotation=False, unqualified_typehints=True
        )

    def bare(text: str | None) -> str | None:
        return text and re.sub(r"TypeAliasForwardRef\('([^']+)'\)", r"\1", text)

    return bare(signature), bare(returns)


def setup(app: Sphinx) -> dict[str, bool]:
    """Read docstrings before napoleon does."""
    app.connect("autodoc-process-docstring", read, priority=100)
    app.connect("autodoc-process-signature", sign)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
