"""The documents say what is there: every public name, every mapped equation, every example."""

from __future__ import annotations

import ast
import importlib
import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
KINDS = ("continuous", "discrete")
READ_FROM_TOP_TO_BOTTOM = [
    "README.md",
    "docs/start.md",
    "docs/howto.md",
    *(f"docs/concepts/{file.name}" for file in sorted((DOCS / "concepts").glob("*.md"))),
]
MODULES = sorted(
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for file in (ROOT / "vm3ac_modules").rglob("*.py")
    if not file.name.startswith("_")
)


def docstring_owners():
    for module in MODULES:
        place = ROOT / module.replace(".", "/")
        file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        tree = ast.parse(file.read_text())
        exported = {
            element.value
            for node in tree.body
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
            for element in getattr(node.value, "elts", [])
        }
        for node in tree.body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name in exported:
                yield pytest.param(node, id=f"{module}.{node.name}")


@pytest.mark.parametrize("node", list(docstring_owners()))
def test_every_argument_of_a_public_function_is_documented(node):
    text = ast.get_docstring(node) or ""
    assert text, "no docstring"
    if isinstance(node, ast.ClassDef):
        found = [n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"]
        arguments = found[0].args if found else None
    else:
        arguments = node.args
    if arguments is None:
        return
    names = [
        a.arg for a in [*arguments.args, *arguments.kwonlyargs] if a.arg not in ("self", "cls")
    ]
    missing = [name for name in names if not re.search(rf"^\s+\**{name}\b.*:", text, re.M)]
    assert not missing


def mapped_rows():
    for line in (DOCS / "paper_map.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split(" | ")]
        if line.startswith(("| (", "| App", "| Alg")):
            yield pytest.param(*cells, id=cells[0])


@pytest.mark.parametrize(("equation", "says", "functions", "tests"), list(mapped_rows()))
def test_every_target_of_the_paper_map_exists(equation, says, functions, tests):
    del equation, says
    targets = re.findall(r"`([\w.]+):([\w.]+)`", functions)
    places = re.findall(r"`([\w/.]+)::([\w:]+)`", tests)
    assert targets
    assert places
    for module, path in targets:
        found = importlib.import_module(module)
        for name in path.split("."):
            found = getattr(found, name)
    for file, path in places:
        find_test(file, path)


def find_test(file, path):
    body = ast.parse((ROOT / file).read_text()).body
    for name in path.split("::"):
        [node] = [n for n in body if getattr(n, "name", None) == name]
        body = node.body


def test_every_trap_has_a_guard_that_is_tested():
    guarded, _ = (DOCS / "traps.md").read_text().split("## What looks right and is not")
    rows = [line for line in guarded.splitlines() if line.startswith("| ")]
    rows = [row for row in rows if not row.startswith("| trap |")]
    assert len(rows) > 30
    for row in rows:
        *_, checked = row.strip("| ").split(" | ")
        places = re.findall(r"`(tests/[\w/.]+)::([\w:]+)`", checked)
        assert places or checked == "`make test-benchmarl`", row
        for file, path in places:
            find_test(file, path)


def test_the_map_has_every_equation_that_is_implemented():
    mapped = (DOCS / "paper_map.md").read_text()
    for number in (6, 7, 8, 9, 11, 45, 46, 47, 48, 49, 50):
        assert f"| ({number})" in mapped


def python_blocks(page):
    return re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.M | re.S)


@pytest.mark.parametrize("page", READ_FROM_TOP_TO_BOTTOM)
def test_the_blocks_of_a_page_run_as_they_stand(page):
    pytest.importorskip("hypothesis")
    names = {}
    for block in python_blocks(page):
        exec(block, names)
    assert names or page.startswith("docs/concepts")


def test_the_example_of_the_readme_trains_policy_and_predictor():
    names = {}
    [example] = python_blocks("README.md")
    assert len([line for line in example.splitlines() if line]) <= 13
    exec(example, names)
    groups = {
        "policy": names["ppo"].actor_network_params,
        "predictor": names["mi"].predictor_network_params,
    }
    for name, params in groups.items():
        gradients = [p.grad for p in params.parameters()]
        assert gradients, name
        assert all(g is not None and g.abs().sum() > 0 for g in gradients), name


def test_every_preset_is_in_the_algorithms_page():
    from vm3ac_modules.algorithms import presets

    text = (DOCS / "algorithms.md").read_text()
    assert all(f"| `{name}` |" in text for kind in KINDS for name in presets(kind))


def test_readings_are_numbered_without_gaps():
    rows = re.findall(r"^\| (\d+) \|", (DOCS / "readings.md").read_text(), re.M)
    assert rows == [str(k) for k in range(1, len(rows) + 1)]


def test_the_options_page_is_what_its_program_writes():
    page = runpy.run_path(str(DOCS / "make_options.py"))["page"]
    assert page() == (DOCS / "options.md").read_text(), "run python docs/make_options.py"


def test_the_table_of_the_layers_is_that_of_the_code():
    page = runpy.run_path(str(DOCS / "make_layers.py"))["page"]
    text = (DOCS / "layers.md").read_text()
    assert page(text) == text, "run python docs/make_layers.py"
