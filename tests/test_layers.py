"""Imports point only to the left (docs/layers.md)."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "vm3ac_modules"

# The rooms from left to right: each may import from all to its left.
ROOMS = (
    *("extras", "_lazy", "files", "options", "keys", "functional", "testing", "envs", "nn"),
    *(
        "priors",
        "modules",
        "objectives",
        "baselines",
        "learning",
        "algorithms",
        "evaluation",
        "integrations",
    ),
    *("runs", "execution", "doctor", "cli"),
)
# What a room may import of those to its left, where that is less than all.
ONLY: dict[str, set[str]] = {
    "files": set(),
    "options": set(),
    "functional": set(),
    "testing": {"keys", "functional"},
    "envs": {"extras", "options", "keys"},
    "nn": {"functional"},
    "priors": {"keys", "functional"},
    "doctor": {"envs"},
}
STANDARD = (
    "__future__",
    "collections",
    "functools",
    "importlib",
    "math",
    "operator",
    "pathlib",
    "typing",
)


def room_of(file: Path) -> str:
    relative = file.relative_to(PACKAGE)
    return relative.parts[0].removesuffix(".py")


def imports(file: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            if node.module == "vm3ac_modules":
                names |= {f"vm3ac_modules.{alias.name}" for alias in node.names}
    return names


FILES = sorted(file for file in PACKAGE.rglob("*.py") if file != PACKAGE / "__init__.py")


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_point_to_the_left(file):
    room = room_of(file)
    assert room in ROOMS, f"{room} is a new room: give it a place among the layers"
    ours = {name.split(".")[1] for name in imports(file) if name.startswith("vm3ac_modules.")}
    allowed = ONLY.get(room, set(ROOMS[: ROOMS.index(room)]))
    assert ours - {room, "_lazy", "extras"} <= allowed


def test_functional_imports_torch_and_the_standard_library_only():
    files = (PACKAGE / "functional").glob("*.py")
    found = {name.split(".")[0] for file in files for name in imports(file)}
    assert found - {"vm3ac_modules"} <= {"torch", *STANDARD}


def test_importing_the_package_imports_nothing_heavy():
    code = (
        "import sys, vm3ac_modules, vm3ac_modules.envs, "
        "vm3ac_modules.runs, vm3ac_modules.evaluation, vm3ac_modules.execution, "
        "vm3ac_modules.execution.clock; "
        "print(sorted({'torch', 'vmas', 'hypothesis', 'matplotlib', 'hydra'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_nothing_imports_the_integrations():
    for file in FILES:
        if room_of(file) != "integrations":
            assert not any("integrations" in name for name in imports(file)), file


def test_core_never_imports_hydra_or_prints():
    for file in FILES:
        if room_of(file) in ("cli", "integrations"):
            continue
        assert not {"hydra", "omegaconf"} & {name.split(".")[0] for name in imports(file)}, file
