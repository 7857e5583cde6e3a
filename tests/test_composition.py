"""What docs/composition.md shows works as it stands, block after block."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

PAGE = (Path(__file__).parents[1] / "docs" / "composition.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.S)


# The updater of targets belongs to the host and is left out.
@pytest.mark.filterwarnings("ignore:No target network updater")
def test_the_page_runs(capsys):
    torch.manual_seed(0)
    names: dict[str, object] = {}
    for block in BLOCKS:
        exec(compile(block, "docs/composition.md", "exec"), names)
    assert "ClipPPOLoss scores stored actions under a latent of its own" in capsys.readouterr().out
    paid, seen = names["paid"], names["steps"]["next", "agents", "information_reward"]
    assert (paid == 0).all()
    assert (seen != 0).any()
    assert torch.isfinite(names["loss"])
    gradients = [p.grad for p in names["policy"].parameters()]
    assert all(g is not None and torch.isfinite(g).all() for g in gradients)


def test_a_host_that_no_recipe_has_takes_fifteen_lines():
    """Without the host's own critic, as the page says."""
    block = next(block for block in BLOCKS if "REDQLoss(" in block)
    code = [line for line in block.split("class Critic")[1].splitlines() if line.strip()]
    assert len(code) <= 15
