"""The notebooks are valid, small, executed and clean; ``make notebooks`` executes them."""

from __future__ import annotations

import base64
import copy
import re
import runpy
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbclient")

DOCS = Path(__file__).parents[1] / "docs"
FILES = sorted((DOCS / "notebooks").glob("*.ipynb"))
MAKER = runpy.run_path(str(DOCS / "make_notebooks.py"))
LARGEST = 400_000
"""Of all notebooks together, in bytes."""


def read(path):
    return nbformat.read(path, as_version=4)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_notebook_is_valid_executed_and_clean(path):
    notebook = read(path)
    nbformat.validate(notebook)
    assert list(MAKER["problems"](notebook)) == []
    assert MAKER["cleaned"](copy.deepcopy(notebook)) == notebook


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_notebook_asks_shows_checks_and_goes_on(path):
    cells = read(path).cells
    assert cells[0].source.startswith("# ")
    assert "**Question.**" in cells[0].source
    assert any(re.search(r"^ *assert", cell.source, re.M) for cell in cells)
    assert "## Try next" in cells[-1].source
    for target in re.findall(r"\]\(([\w./]+)\)", "\n".join(cell.source for cell in cells)):
        assert (path.parent / target).exists(), target


def test_notebooks_are_small_and_listed():
    assert len(FILES) >= 5
    assert sum(path.stat().st_size for path in FILES) < LARGEST
    page = (DOCS / "notebooks/index.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| \[\w+\]\((\w+)\.ipynb\) \|", page, re.M)
    assert sorted(listed) == [path.stem for path in FILES]


def stream(name, text):
    return nbformat.v4.new_output("stream", name=name, text=text)


def picture(size):
    data = {"image/png": base64.b64encode(bytes(size)).decode()}
    return nbformat.v4.new_output("display_data", data=data)


@pytest.fixture
def clean():
    cells = [
        nbformat.v4.new_markdown_cell("# A title"),
        nbformat.v4.new_code_cell("print(1)", execution_count=1, outputs=[stream("stdout", "1\n")]),
    ]
    return nbformat.v4.new_notebook(cells=cells, metadata=copy.deepcopy(MAKER["METADATA"]))


FAULTS = {
    "another kernel": (lambda n: n.metadata.kernelspec.update(name="mine"), "metadata"),
    "out of order": (lambda n: n.cells[1].update(execution_count=7), "from the first to the last"),
    "not executed": (lambda n: n.cells[1].update(outputs=[]), "no outputs"),
    "timings": (lambda n: n.cells[1].update(metadata={"execution": {}}), "has metadata"),
    "an error": (
        lambda n: n.cells[1].outputs.append(nbformat.v4.new_output("error", ename="KeyError")),
        "raised KeyError",
    ),
    "standard error": (
        lambda n: n.cells[1].outputs.append(stream("stderr", "x")),
        "standard error",
    ),
    "a warning": (
        lambda n: n.cells[1].outputs.append(stream("stdout", "UserWarning: x")),
        "shows a warning",
    ),
    "a path": (
        lambda n: n.cells[1].outputs.append(stream("stdout", "in /home/me/x")),
        "path of a machine",
    ),
    "a large picture": (lambda n: n.cells[1].outputs.append(picture(60_001)), "60001 bytes"),
}


@pytest.mark.parametrize(("spoil", "said"), FAULTS.values(), ids=FAULTS)
def test_what_must_not_be_committed_is_told(clean, spoil, said):
    assert list(MAKER["problems"](clean)) == []
    spoil(clean)
    [problem] = MAKER["problems"](clean)
    assert said in problem


def test_cleaning_keeps_what_a_reader_sees(clean):
    before = copy.deepcopy(clean)
    clean.cells[1].metadata.execution = {"iopub.execute_input": "2026-01-01"}
    clean.metadata.language_info.version = "3.11.7"
    assert MAKER["cleaned"](clean) == before


def test_a_notebook_that_does_not_exist_is_refused(capsys):
    with pytest.raises(SystemExit) as stopped:
        MAKER["main"](["nothing"])
    assert stopped.value.code == 2
    assert "no notebook nothing; there are " in capsys.readouterr().err
