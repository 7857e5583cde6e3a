"""Frames of arrays that the host and an agent's process exchange over two pipes.

A frame is four letters, a number, the payload's length (both uint32, little endian) and the
payload: arrays as ``.npy`` files one behind the other, or JSON. An answer repeats the number of its
question. Nothing is unpickled.
"""

from __future__ import annotations

import io
import json
import math
import struct
import warnings
from collections.abc import Sequence
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

READY, SET, STEP, ACT, FAIL = b"redy", b"set ", b"step", b"act ", b"fail"
LARGEST = 256_000_000
"""Bytes of the largest payload."""
_HEADER = struct.Struct("<4sII")


class Frame(NamedTuple):
    """A kind, its content (arrays of ``step`` and ``act``, else what JSON held), and a number."""

    kind: bytes
    content: Any
    number: int = 0


def pack(kind: bytes, content: Any, number: int = 0) -> bytes:
    """A frame as bytes; ``STEP`` and ``ACT`` hold arrays, the others what JSON takes."""
    payload = _arrays(content) if kind in (STEP, ACT) else json.dumps(content).encode()
    return _HEADER.pack(kind, number % 2**32, len(payload)) + payload


def unpack(stream: IO[bytes]) -> Frame | None:
    """Read the next frame; None where the stream ended, even inside a frame."""
    header = stream.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return None
    kind, number, size = _HEADER.unpack(header)
    if size > LARGEST:
        raise ValueError(f"a frame declares {size} bytes, more than {LARGEST}")
    payload = stream.read(size)
    if len(payload) < size:
        return None
    if kind not in (STEP, ACT):
        return Frame(kind, json.loads(payload), number)
    data, arrays = io.BytesIO(payload), []
    while data.tell() < size:
        arrays.append(_array(data, size))
    return Frame(kind, arrays, number)


def _array(data: io.BytesIO, size: int) -> NDArray[Any]:
    """The next array, whose declared size is compared with what is there before memory is taken."""
    start = data.tell()
    try:
        if np.lib.format.read_magic(data) != (1, 0):
            raise ValueError("an array of another format version")
        with warnings.catch_warnings():
            # Of headers that Python 2 wrote: nobody here does.
            warnings.simplefilter("error")
            shape, _, dtype = np.lib.format.read_array_header_1_0(data)
    except ValueError:
        raise
    except Exception as error:
        # NumPy evaluates the header with Python's tokenizer, which has errors of its own.
        raise ValueError(f"the header of an array cannot be read ({error})") from error
    if dtype.hasobject or math.prod(shape) * dtype.itemsize > size - data.tell():
        raise ValueError(f"an array {shape} of {dtype} is declared that is not there")
    data.seek(start)
    return np.lib.format.read_array(data, allow_pickle=False)


def _arrays(arrays: Sequence[NDArray[Any]]) -> bytes:
    data = io.BytesIO()
    for array in arrays:
        np.lib.format.write_array(data, np.asarray(array), allow_pickle=False)
    return data.getvalue()
