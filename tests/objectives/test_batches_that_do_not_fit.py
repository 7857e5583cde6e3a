"""What torch says of a batch comes with the entries that it was said of."""

from __future__ import annotations

import pytest
import torch
from contracts.hostile_batches import loss_and_batch


@pytest.mark.parametrize("algorithm", ["vm3ac", "maddpg", "maven", "si_moa"])
def test_actions_of_another_size(algorithm):
    loss, batch = loss_and_batch("continuous", algorithm)
    action = batch["agents", "action"]
    batch = batch.exclude(("agents", "action")).set(("agents", "action"), action.repeat(1, 1, 2))
    with pytest.raises(ValueError, match=r"cannot compute on this batch: .*'action'\) \[4, 2, 4\]"):
        loss(batch)


@pytest.mark.parametrize("algorithm", ["fop", "vm3ac", "lica", "maven"])
def test_a_state_of_another_size(algorithm):
    loss, batch = loss_and_batch("discrete", algorithm)
    batch = batch.exclude("state").set("state", torch.zeros(*batch.shape, 7))
    with pytest.raises(
        ValueError, match=r"cannot compute on this batch: .*'state' \[.*7\] float32"
    ):
        loss(batch)


def test_memory_that_is_short_is_no_fault_of_the_batch(monkeypatch):
    loss, batch = loss_and_batch("continuous", "ma_ac")

    def short(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(type(loss), "compute", short)
    with pytest.raises(torch.OutOfMemoryError):
        loss(batch)
