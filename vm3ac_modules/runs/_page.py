"""A page of HTML that needs nothing but itself: every text escaped, every picture inside.

A policy in its head forbids scripts and everything from elsewhere, so a browser holds it to that.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

KINDS = {".gif": "image/gif", ".png": "image/png", ".svg": "image/svg+xml"}
_HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
:root {{ --paper: #ffffff; --ink: #1b1f24; --soft: #57606a; --line: #d0d7de; --fill: #f6f8fa; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --paper: #0d1117; --ink: #e6edf3; --soft: #9198a1; --line: #30363d; --fill: #161b22; }}
  img.figure {{ filter: invert(0.92) hue-rotate(180deg); }}
}}
* {{ box-sizing: border-box; }}
body {{ margin: 0 auto; max-width: 62rem; padding: 1.5rem 1rem 4rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; }}
h1 {{ font-size: 1.5rem; line-height: 1.25; margin: 0 0 .25rem; overflow-wrap: anywhere; }}
h2 {{ font-size: 1.15rem; margin: 2.25rem 0 .5rem; border-bottom: 1px solid var(--line); }}
p, figcaption {{ color: var(--soft); font-size: .9rem; margin: .4rem 0; }}
.wide {{ overflow-x: auto; -webkit-overflow-scrolling: touch; }}
table {{ border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; white-space: nowrap; }}
th {{ background: var(--fill); }}
figure {{ margin: 1rem 0; }}
.pair {{ display: flex; flex-wrap: wrap; gap: 1rem; }}
.pair figure {{ flex: 0 1 24rem; margin: .5rem 0; }}
img.figure {{ min-width: 36rem; }}
img {{ max-width: 100%; height: auto; display: block; border-radius: .3rem; background: #ffffff; }}
pre {{ overflow-x: auto; background: var(--fill); padding: .7rem; font-size: .8rem; }}
details > summary {{ cursor: pointer; color: var(--soft); }}
</style>
</head>
<body>
"""


def page(title: str, parts: Iterable[str]) -> str:
    """The whole page; the parts are HTML already."""
    return f"{_HEAD.format(title=escape(title))}{''.join(parts)}</body>\n</html>\n"


def heading(text: str, level: int = 2) -> str:
    """A heading."""
    return f"<h{level}>{escape(text)}</h{level}>\n"


def paragraph(text: str) -> str:
    """A paragraph."""
    return f"<p>{escape(text)}</p>\n"


def preformatted(text: str) -> str:
    """Text whose columns stay."""
    return f"<pre>{escape(text)}</pre>\n"


def table(header: Sequence[Any], rows: Iterable[Sequence[Any]]) -> str:
    """A table that scrolls on a narrow screen."""
    head = "".join(f'<th scope="col">{escape(str(cell))}</th>' for cell in header)
    lines = [
        "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows
    ]
    body = "\n".join(lines)
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>\n"
    )


def details(summary: str, inner: str) -> str:
    """What is folded until somebody asks; ``inner`` is HTML."""
    return f"<details><summary>{escape(summary)}</summary>{inner}</details>\n"


def picture(path: Path, caption: str, *, drawing: bool = True) -> str:
    """A picture inside the page; a drawing on white is turned dark with the page."""
    data = base64.b64encode(path.read_bytes()).decode()
    kind = ' class="figure"' if drawing else ""
    return (
        f'<figure><div class="wide"><img{kind} alt="{escape(caption)}" '
        f'src="data:{KINDS[path.suffix]};base64,{data}">'
        f"</div><figcaption>{escape(caption)}</figcaption></figure>\n"
    )
