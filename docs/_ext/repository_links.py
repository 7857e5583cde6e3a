"""Links and lists of pages that work in the repository and on the site.

A page may link to a folder of the repository, or to a page of its root. The site has neither, so a
link to a folder leads to the list of all results, and one to a page of the root to its page here.
A list of pages may name, by a pattern, pages that a checkout does not have.
"""

import re
from pathlib import Path, PurePosixPath

from sphinx.application import Sphinx

ROOT_PAGES = {"SECURITY.md": "security.md", "CHANGELOG.md": "changelog.md"}
PATTERN = re.compile(r"^([\w/]+\*)\n", re.M)
LINK = re.compile(r"\]\(([\w./-]+)(#[\w-]*)?\)")


def read(app: Sphinx, name: str, source: list[str]) -> None:
    """Rewrite the links of one page, and keep the tables of results out of the navigation."""
    docs = Path(app.srcdir)
    folder = (docs / name).parent

    def link(match: re.Match[str]) -> str:
        target = (folder / match[1]).resolve()
        if target.is_dir():
            target = docs / "results" / "README.md"
        elif target.parent == docs.parent and target.name in ROOT_PAGES:
            target = docs / ROOT_PAGES[target.name]
        else:
            return match[0]
        up = len(folder.relative_to(docs).parts)
        path = PurePosixPath(*[".."] * up, target.relative_to(docs).as_posix())
        return f"]({path}{match[2] or ''})"

    text = PATTERN.sub(lambda m: m[0] if any(docs.glob(f"{m[1]}.*")) else "", source[0])
    text = LINK.sub(link, text)
    alone = name.startswith("results/") and name != "results/README"
    source[0] = f"---\norphan: true\n---\n\n{text}" if alone else text


def setup(app: Sphinx) -> dict[str, bool]:
    """Rewrite links as pages are read."""
    app.connect("source-read", read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
