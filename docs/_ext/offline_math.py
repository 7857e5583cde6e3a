"""Formulas as MathML, written into the pages: no script, no font and no network is needed."""

import re

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx

SPACED = re.compile(r"(<mi>(?:log|&#x1D53C;)</mi>)(?=<m)")
SPACE = r'\1<mspace width="0.17em"/>'


def mathml(source: str, display: str = "inline") -> str:
    """A formula of TeX as MathML, with a space after log and the expectation, as TeX has it."""
    return SPACED.sub(SPACE, convert(source, display=display))


def formula(self, node: nodes.Element) -> None:
    """Write one formula in the text."""
    self.body.append(mathml(node.astext()))
    raise nodes.SkipNode


def display(self, node: nodes.Element) -> None:
    """Write one formula on lines of its own."""
    self.body.append(f'<div class="math">{mathml(node.astext(), "block")}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the renderer ``mathml``."""
    app.add_html_math_renderer("mathml", (formula, None), (display, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
