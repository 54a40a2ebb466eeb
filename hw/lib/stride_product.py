"""Multiplication by a row stride without multipliers: partial products are added, five bits of a factor a cycle."""

from collections.abc import Iterable

from amaranth.hdl import Module, Mux, Signal, Value

from systolith.isa import EXTENT_BITS, STEP_BITS

__all__ = ["multiply"]

DIGIT = 5
STEPS = -(-max(EXTENT_BITS, STEP_BITS) // DIGIT)
"""Digits of the longest factor: y0, or a stride or dilation."""


def multiply(
    m: Module, start: Value, row_stride: Value, products: Iterable[tuple[Iterable[Value], Value, Value]]
) -> Value:
    """Set registers to `begin + factor * row_stride`, for each (registers, begin, factor) of `products`.

    Arguments are read in the cycle of `start`; a factor may be signed. All registers of a product get the same value.
    Returns: not done yet, in the `STEPS` cycles after `start`. From `start` until then nothing else may set them.
    """
    step, shifted = Signal(range(STEPS + 1), name="multiply_step"), Signal.like(row_stride, name="shifted_stride")
    with m.If(start):
        m.d.sync += [step.eq(STEPS), shifted.eq(row_stride)]
    with m.Elif(step != 0):
        m.d.sync += [step.eq(step - 1), shifted.eq(shifted << DIGIT)]
    for i, (registers, begin, factor) in enumerate(products):
        first, *others = registers
        rest = Signal(len(factor), name=f"factor{i}")
        total = first + sum(Mux(rest[i], shifted << i, 0) for i in range(DIGIT))
        digits = factor
        if factor.shape().signed:
            # factor = (factor + 2^k) - 2^k, and the first is its bits with the sign inverted.
            sign = len(factor) - 1
            digits, begin = factor.as_unsigned() ^ (1 << sign), begin - (row_stride << sign)
        with m.If(start):
            m.d.sync += [rest.eq(digits), *(register.eq(begin) for register in (first, *others))]
        with m.Elif(step != 0):
            m.d.sync += [rest.eq(rest >> DIGIT), *(register.eq(total) for register in (first, *others))]
    return step != 0
