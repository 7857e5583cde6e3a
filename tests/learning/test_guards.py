"""The check that training stays finite."""

from __future__ import annotations

import pytest
import torch

from vm3ac_modules.learning import FiniteGuard, NonFiniteError

BAD = [float("nan"), float("inf"), -float("inf")]


def test_finite_passes():
    guard = FiniteGuard()
    guard.check(1)
    guard.watch("losses", torch.ones(2, 3), torch.tensor(1e38), torch.zeros(0), torch.arange(3))
    guard.check(2)


@pytest.mark.parametrize("bad", BAD)
def test_only_what_went_bad_is_named(bad):
    guard = FiniteGuard()
    guard.watch("observations", torch.ones(2))
    guard.watch("rewards", torch.ones(2), torch.tensor([0.0, bad]))
    guard.watch("losses", torch.tensor(bad, requires_grad=True))
    guard.watch("rewards", torch.ones(2))  # later clean values do not hide it
    with pytest.raises(NonFiniteError) as raised:
        guard.check(500, last_checkpoint="run/checkpoint/step_400")
    message = str(raised.value)
    assert message.startswith("rewards, losses became infinite or NaN between frames 0 and 500.")
    assert "observations became" not in message
    assert "run/checkpoint/step_400 (resume=true)" in message
    assert "lr" in message


def test_intervals_are_separate():
    guard = FiniteGuard(start_frame=50)
    guard.watch("losses", torch.ones(1))
    guard.check(100)
    guard.watch("losses", torch.tensor(BAD[0]))
    with pytest.raises(NonFiniteError, match="between frames 100 and 200") as raised:
        guard.check(200)
    assert "None" not in str(raised.value)
    guard.watch("losses", torch.ones(1))
    guard.check(300)


def test_start_frame():
    guard = FiniteGuard(start_frame=50)
    guard.watch("losses", torch.tensor(BAD[1]))
    with pytest.raises(NonFiniteError, match="between frames 50 and 60"):
        guard.check(60)


def test_watching_never_reads_a_value():
    """Tensors on the meta device have no values: a branch or an item() on one would fail."""
    guard = FiniteGuard()
    guard.watch("losses", torch.ones(3, device="meta"), torch.ones(3, device="meta"))
    guard.watch("losses", torch.ones(3, device="meta"))
    with pytest.raises((NotImplementedError, RuntimeError)):
        guard.check(1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
def test_watching_does_not_synchronize():
    guard = FiniteGuard()
    values = torch.tensor([1.0, BAD[0]], device="cuda")
    mode = torch.cuda.get_sync_debug_mode()
    try:
        torch.cuda.set_sync_debug_mode("error")
        guard.watch("losses", values, values)
        guard.watch("losses", values)
    finally:
        torch.cuda.set_sync_debug_mode(mode)
    guard.watch("losses", torch.ones(1))
    with pytest.raises(NonFiniteError, match=r"^losses became"):
        guard.check(1)
