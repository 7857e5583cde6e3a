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
MODULES = sorted(
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for file in (ROOT / "vm3ac_modules").rglob("*.py")
    if not file.name.startswith("_")
)


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_in_the_api_page(module):
    text = (DOCS / "api.md").read_text()
    try:
        names = importlib.import_module(module).__all__
    except ImportError as error:
        pytest.skip(str(error))
    section = re.search(rf"^## `{re.escape(module)}`$(.*?)(?=^## |\Z)", text, re.M | re.S)
    assert section, f"docs/api.md has no section for {module}"
    listed = re.findall(r"^\| `([^`]+)` \|", section.group(1), re.M)
    assert sorted(listed) == sorted(names)


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
    rows = [line for line in (DOCS / "traps.md").read_text().splitlines() if line.startswith("| ")]
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


def readme_blocks():
    return re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)


# The updater belongs to the host and is left out of ten lines.
@pytest.mark.filterwarnings("ignore:No target network updater")
def test_the_readme_example_runs():
    pytest.importorskip("vmas")
    import sys

    import torch
    from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer

    import vm3ac_modules as vm
    from vm3ac_modules.envs import ExpandDone

    sys.path.insert(0, str(ROOT / "recipes"))
    from add_mi_to_sac import stock_sac

    env = vm.make_env("predator_prey_2", 4, seed=0).append_transform(ExpandDone("agents"))
    replay = TensorDictReplayBuffer(storage=LazyTensorStorage(100), batch_size=8)
    replay.extend(env.rollout(5).reshape(-1))
    names = {
        "torch": torch,
        "vm": vm,
        "stock_sac": stock_sac,
        "env": env,
        "batch": replay.sample(),
        "obs_dim": env.observation_spec["agents", "observation"].shape[-1],
        "action_spec": env.full_action_spec["agents", "action"],
    }
    example = readme_blocks()[0]
    assert len([line for line in example.splitlines() if line]) <= 10
    exec(example, names)
    groups = {
        "policy": names["sac"].actor_network_params,
        "critic": names["sac"].qvalue_network_params,
        "predictor": names["mi"].predictor_network_params,
    }
    for name, params in groups.items():
        gradients = [p.grad for p in params.parameters()]
        assert gradients, name
        assert all(g is not None and g.abs().sum() > 0 for g in gradients), name


def test_the_readme_test_of_a_bound_runs():
    pytest.importorskip("hypothesis")
    example = readme_blocks()[1]
    exec(example, {"my_bound": lambda game: game.surrogate(0, 1, game.conditional(1, given=0))})
    with pytest.raises(AssertionError):
        exec(example, {"my_bound": lambda game: game.mutual_information(0, 1) + 0.1})


def test_every_preset_is_in_the_algorithms_page():
    from vm3ac_modules.algorithms import presets

    text = (DOCS / "algorithms.md").read_text()
    assert all(f"| `{name}` |" in text for kind in KINDS for name in presets(kind))


def test_readings_are_numbered_without_gaps():
    rows = re.findall(r"^\| (\d+) \|", (DOCS / "readings.md").read_text(), re.M)
    assert rows == [str(k) for k in range(1, len(rows) + 1)]


@pytest.mark.parametrize("name", ["api", "options"])
def test_a_generated_page_is_what_its_program_writes(name):
    page = runpy.run_path(str(DOCS / f"make_{name}.py"))["page"]
    assert page() == (DOCS / f"{name}.md").read_text(), f"run python docs/make_{name}.py"


def test_the_table_of_the_layers_is_that_of_the_code():
    page = runpy.run_path(str(DOCS / "make_layers.py"))["page"]
    text = (DOCS / "layers.md").read_text()
    assert page(text) == text, "run python docs/make_layers.py"
