"""Write the table behind ``vm3ac_modules.functional.counter.normal_icdf``.

The table holds one polynomial per eighth of an octave of the tail probability ``p`` in
``[2^-33, 2^-1)``: 32 octaves times 8 pieces, each a row of little-endian float64

    low edge, center, 1 / half width, c_0, ..., c_7

so that ``-Phi^{-1}(p) = sum_k c_k t^k`` with ``t = (p - center) / half width`` in ``[-1, 1)``.
Edges, centers and widths are short binary fractions, so ``t`` has no rounding error. The
coefficients interpolate at Chebyshev nodes in 50 decimal digits and are rounded once, which makes
the bytes the same on every machine.

Run ``python recipes/make_normal_table.py`` and commit the file; a test pins its checksum.
"""

from __future__ import annotations

import hashlib
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

from mpmath import chop, cos, erfinv, matrix, mp, mpf, pi, sqrt

from vm3ac_modules.cli.arguments import run
from vm3ac_modules.options import Options, option

LOWEST_EXPONENT = -33
HIGHEST_EXPONENT = -1
PIECES_PER_OCTAVE = 8
DEGREE = 7
TABLE = Path(__file__).resolve().parents[1] / "vm3ac_modules" / "functional" / "normal_icdf.f64"


@dataclass(frozen=True, kw_only=True)
class NormalTable(Options):
    """Options of this program."""

    out: str = option(str(TABLE), "the file to write")


def upper_quantile(p: mpf) -> mpf:
    """The x with ``P(X > x) = p`` for a standard normal X."""
    return sqrt(mpf(2)) * erfinv(1 - 2 * p)


def table_rows() -> list[list[float]]:
    """One row of 11 numbers per piece, in increasing order of p."""
    count = DEGREE + 1
    nodes = [cos(pi * (2 * k + 1) / (2 * count)) for k in range(count)]
    to_coefficients = matrix([[node**k for k in range(count)] for node in nodes]) ** -1
    rows = []
    for exponent in range(LOWEST_EXPONENT, HIGHEST_EXPONENT):
        half_width = mpf(2) ** exponent / (2 * PIECES_PER_OCTAVE)
        for piece in range(PIECES_PER_OCTAVE):
            low = mpf(2) ** exponent + 2 * piece * half_width
            center = low + half_width
            values = matrix([upper_quantile(center + half_width * node) for node in nodes])
            coefficients = chop(to_coefficients * values)
            rows.append([float(x) for x in (low, center, 1 / half_width, *coefficients)])
    return rows


def write(options: NormalTable) -> None:
    """Write the table and print its checksum."""
    mp.dps = 50
    rows = table_rows()
    data = b"".join(struct.pack(f"<{len(row)}d", *row) for row in rows)
    Path(options.out).write_bytes(data)
    print(f"{Path(options.out).name}: {len(rows)} rows, sha256 {hashlib.sha256(data).hexdigest()}")


if __name__ == "__main__":
    run(write, "make_normal_table.py", __doc__.split("Run ")[0], NormalTable, sys.argv[1:])
