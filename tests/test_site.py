"""The site: links that lead somewhere, pages of the API for every name, names that have an address.

`make docs` builds it with warnings as errors; what that takes too long to say is said here.
"""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(
    page.relative_to(ROOT).as_posix()
    for page in [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]
    if not {"_build", "api"} & set(page.relative_to(ROOT).parts)
)
HOSTS = (
    "https://www.contributor-covenant.org/",
    "https://arxiv.org/",
    "https://github.com/",
    "https://keepachangelog.com/",
    "https://semver.org/",
)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


@pytest.fixture
def extension(monkeypatch):
    """Import an extension of the site."""
    monkeypatch.syspath_prepend(str(DOCS / "_ext"))

    def load(name):
        pytest.importorskip("sphinx")
        monkeypatch.delitem(sys.modules, name, raising=False)
        return importlib.import_module(name)

    return load


def text_of(page):
    """A page without its blocks of code and what is marked as code."""
    text = re.sub(r"^( *)(```+|~~~+).*?^\1\2", "", (ROOT / page).read_text(), flags=re.M | re.S)
    return re.sub(r"`[^`\n]*`", "", text)


def anchors_of(page):
    """The anchors of a page's headings, as GitHub and the site make them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    titles = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES)
def test_no_page_loses_what_stands_in_angle_brackets(page):
    """Outside code a page shows ``run_<k>`` as ``run_``: it is taken for a tag."""
    assert re.findall(r"<(?!https?:|!--)/?[a-zA-Z][^>\n]*>", text_of(page)) == []


def problems_of(page, target):
    """What is wrong with a link of a page; nothing where it leads somewhere."""
    if target.startswith(("http://", "https://")):
        return "" if target.startswith(HOSTS) else "an address that nobody vouched for"
    path, _, anchor = target.partition("#")
    file = ((ROOT / page).parent / path).resolve() if path else ROOT / page
    if DOCS / "api" in file.parents:
        module = ROOT / file.stem.replace(".", "/")
        there = module.is_dir() or module.with_suffix(".py").exists()
        return "" if there else "no such module"
    if not file.exists():
        return "no such file"
    return "" if not anchor or anchor in anchors_of(file) else "no such heading"


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    found = {target: problems_of(page, target) for target in LINK.findall(text_of(page))}
    assert not {target: problem for target, problem in found.items() if problem}


def test_broken_links_are_found():
    assert problems_of("README.md", "docs/nowhere.md") == "no such file"
    assert problems_of("README.md", "docs/readings.md#nowhere") == "no such heading"
    assert problems_of("README.md", "docs/api/vm3ac_modules.nowhere.rst") == "no such module"
    assert problems_of("README.md", "http://example.org") == "an address that nobody vouched for"
    assert problems_of("README.md", "docs/performance.md#a-gpu") == ""


def test_every_page_is_in_the_navigation():
    index = (DOCS / "index.md").read_text() + (DOCS / "concepts" / "index.md").read_text()
    entries = re.findall(r"^[\w/*.]+$", index, re.M)
    names = {page.stem for page in [*DOCS.glob("*.md"), *(DOCS / "concepts").glob("*.md")]}
    covered = {Path(entry).name.rstrip("*") for entry in entries}
    missing = {n for n in names - {"index"} if not any(n == c or n.startswith(c) for c in covered)}
    assert not missing


def test_every_public_name_has_a_place_in_the_api(extension):
    pages = extension("api_pages")
    everything = pages.modules()
    checked = 0
    for name, package in everything.items():
        text, tree = pages.page(name, package, everything), pages.tree_of(name, package)
        members = ":members:\n" in text
        for public in pages.listed(tree):
            elsewhere = pages.offered(tree).get(public, "")
            said = members and pages.said_in(tree).get(public)
            row = elsewhere and f"`{public} <" in text
            kept = members and any(elsewhere.startswith(other) for other in everything)
            assert said or row or kept or re.search(rf"\b{public}\b", text), f"{name}.{public}"
            checked += 1
    assert checked > 500


def test_a_page_of_the_api_names_its_members(extension):
    pages = extension("api_pages")
    everything = pages.modules()
    text = pages.page("vm3ac_modules.objectives", True, everything)
    assert "`VM3ACLoss <vm3ac_modules.objectives.algorithms.VM3ACLoss>`" in text
    assert ":doc:`drawn_pairs </api/vm3ac_modules.objectives.drawn_pairs>`" in text
    text = pages.page("vm3ac_modules.objectives.drawn_pairs", False, everything)
    assert ".. automodule:: vm3ac_modules.objectives.drawn_pairs\n   :members:" in text


def test_every_name_with_an_address_exists(extension):
    links = extension("external_links")
    lost = [name for name in links.PAGES if links.imported(name) is None]
    assert not lost
    assert links.homes()["torch.nn.modules.module.Module"] == links.PAGES["torch.nn.Module"]
    assert links.imported("torch.nn.Nowhere") is None


def test_docstrings_are_read_as_prose(extension):
    read = extension("docstrings")
    lines = ["Say it.", "", "Returns:", "    Means, with rows first: ``[B]``.", "", "Raises:"]
    assert ":returns: Means, with rows first: ``[B]``." in read.prose_returns(lines)
    assert read.shown_blocks(["A table:", "", "    a  b"]) == ["A table:", "", "::", "", "    a  b"]
    marked = [".. math::", "", "    x"]
    assert read.shown_blocks(marked) == marked


def test_figures_are_those_of_the_program(tmp_path):
    pytest.importorskip("matplotlib")
    import runpy

    program = runpy.run_path(str(DOCS / "make_figures.py"))
    drawn = {f"{name}_{theme}.svg" for name in program["FIGURES"] for theme in program["THEMES"]}
    assert drawn == {file.name for file in (DOCS / "figures").glob("*.svg")}
    program["draw"]("run", "light", tmp_path / "run.svg")
    assert (tmp_path / "run.svg").read_bytes() == (DOCS / "figures" / "run_light.svg").read_bytes()
