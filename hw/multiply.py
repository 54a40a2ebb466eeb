"""Multiplication by a row stride without multipliers: partial products added up, five bits of a factor a cycle."""

from amaranth.hdl import Mux, Value

__all__ = ["DIGIT", "STEPS", "partial"]

DIGIT = 5
STEPS = 3
"""Digits of the longest factor, y0 (14 bits)."""


def partial(factor: Value, row_stride: Value):
    """The product of the factor's least digit and the row stride, as a sum."""
    return sum(Mux(factor[i], row_stride << i, 0) for i in range(DIGIT))
