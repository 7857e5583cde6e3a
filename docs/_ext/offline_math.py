"""Formulas as MathML, written into the pages: no script, no font and no network is needed."""

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx


def formula(self, node: nodes.Element) -> None:
    """Write one formula in the text."""
    self.body.append(convert(node.astext()))
    raise nodes.SkipNode


def display(self, node: nodes.Element) -> None:
    """Write one formula on lines of its own."""
    self.body.append(f'<div class="math">{convert(node.astext(), display="block")}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the renderer ``mathml``."""
    app.add_html_math_renderer("mathml", (formula, None), (display, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
