"""Frames between host and agents: arrays arrive as they are, and what is none ends in one error."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vm3ac_modules.execution.team._frames import ACT, STEP, pack, unpack


@given(st.lists(hnp.arrays(st.sampled_from([np.float32, np.int64, bool]), hnp.array_shapes())))
def test_frames_carry_arrays_as_they_are(arrays):
    frame = unpack(io.BytesIO(pack(STEP, arrays)))
    assert frame.kind == STEP
    assert all(
        a.dtype == b.dtype and a.tobytes() == b.tobytes() and a.shape == b.shape
        for a, b in zip(arrays, frame.content, strict=True)
    )


def test_a_frame_that_was_cut_is_the_end():
    whole = pack(ACT, [np.arange(3)])
    assert all(unpack(io.BytesIO(whole[:length])) is None for length in range(len(whole)))


@pytest.mark.parametrize(
    "header",
    [b"{'descr': '<f4', 'fortran_order': (((", b"{1: 2, b'x': 3}", b"{'shape': (10**9,)}", b"\xff"],
)
def test_an_array_whose_header_is_no_header_ends_in_one_kind_of_error(header):
    text = header.ljust(63) + b"\n"
    payload = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text
    frame = ACT + (0).to_bytes(4, "little") + len(payload).to_bytes(4, "little") + payload
    with pytest.raises(ValueError, match=r".+"):
        unpack(io.BytesIO(frame))
