"""The two lists of what is installed say the same."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
OF_CUDA = re.compile(r"nvidia-|cuda-|triton$|setuptools$")
"""What torch's CUDA build needs, which the tested CPU build does not."""


def pins(name):
    """Version by package, and the text behind each pin."""
    text = (ROOT / name).read_text(encoding="utf-8")
    found = re.findall(r"^([\w.-]+)(?:\[[^\]]*\])?==([^\s;]+)(.*(?:\n    .*)*)", text, re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", package).lower(): rest for package, *rest in found}


def test_the_hashed_set_is_the_tested_one():
    tested, hashed = pins("constraints.txt"), pins("constraints-hashed.txt")
    own = {name: version for name, (version, _) in hashed.items() if not OF_CUDA.match(name)}
    assert own == {name: version for name, (version, _) in tested.items()}


def test_every_package_has_hashes():
    for name, (_, rest) in pins("constraints-hashed.txt").items():
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", rest), name
