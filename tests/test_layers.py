"""Imports point only to the left (docs/index.md, "Layers")."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "vm3ac_modules"

# Each room and the rooms of this package that it may import from.
ALLOWED: dict[str, set[str]] = {
    "keys": set(),
    "functional": set(),
    "nn": {"functional"},
    "module": {"keys"},
    "priors": {"keys", "functional"},
    "latent": {"keys", "functional", "priors"},
    "actor": {"keys", "module", "nn"},
    "predictor": {"keys", "functional", "nn", "actor"},
    "categorical_predictor": {"keys", "functional", "nn"},
    "critic": {"keys", "module", "nn"},
    "recurrent_actor": {"keys", "functional", "nn", "latent"},
    "factorized_critic": {"nn"},
    "utility_actor": {"keys", "functional", "nn", "recurrent_actor"},
    "testing": {"keys", "functional"},
    "envs": {"keys"},
    "baselines": {
        "keys",
        "functional",
        "nn",
        "module",
        "actor",
        "critic",
        "recurrent_actor",
        "utility_actor",
        "objectives",
    },
    "objectives": {
        "keys",
        "functional",
        "nn",
        "module",
        "priors",
        "latent",
        "predictor",
        "categorical_predictor",
        "recurrent_actor",
        "factorized_critic",
    },
    "training": {
        "keys",
        "functional",
        "nn",
        "latent",
        "actor",
        "predictor",
        "critic",
        "recurrent_actor",
        "factorized_critic",
        "utility_actor",
        "envs",
        "objectives",
        "baselines",
    },
    "evaluation": {
        "keys",
        "functional",
        "latent",
        "predictor",
        "envs",
        "objectives",
        "training",
    },
    "execution": {
        "keys",
        "functional",
        "nn",
        "priors",
        "latent",
        "utility_actor",
        "training",
        "evaluation",
    },
    "doctor": {"envs"},
}
FUNCTIONAL_IMPORTS = {"__future__", "collections", "functools", "importlib", "math", "pathlib",
                      "torch", "typing"}  # fmt: skip


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
    assert room in ALLOWED, f"{room} is a new room: give it a place among the layers"
    ours = {name.split(".")[1] for name in imports(file) if name.startswith("vm3ac_modules.")}
    assert ours <= ALLOWED[room] | {room}


def test_functional_imports_torch_and_the_standard_library_only():
    found = {name.split(".")[0] for file in (PACKAGE / "functional").glob("*.py")
             for name in imports(file)}  # fmt: skip
    assert found - {"vm3ac_modules"} <= FUNCTIONAL_IMPORTS


def test_importing_the_package_imports_nothing_heavy():
    code = (
        "import sys, vm3ac_modules, vm3ac_modules.envs, "
        "vm3ac_modules.training, vm3ac_modules.evaluation, vm3ac_modules.execution, "
        "vm3ac_modules.execution.clock; "
        "print(sorted({'torch', 'vmas', 'hypothesis', 'matplotlib', 'hydra'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_core_never_imports_hydra_or_prints():
    for file in FILES:
        assert not {"hydra", "omegaconf"} & {name.split(".")[0] for name in imports(file)}, file
