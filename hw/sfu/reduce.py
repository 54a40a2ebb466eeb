"""Reduction in a lane of the SFU: a window of values, one a cycle, to its maximum or sum; then the product.

memories -> choice of the lane's channel (unit.py) -> here -> requantize.py
"""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from systolith.hw.lib.delay import delayed
from systolith.hw.sfu.requantize import register

__all__ = ["FOLD_AFTER", "LATENCY", "MULTIPLY_AFTER", "OPERAND_AFTER", "Fold", "Reduce", "Select"]

LATENCY = 4
"""Cycles from the last value of a window, or from the operand of a cycle of its own, to the output."""
FOLD_AFTER, OPERAND_AFTER, MULTIPLY_AFTER = 1, 2, 3
"""Cycles from a value to what is done with it; to its zero points, and the operand on its way out; to `multiply`."""


class Select(data.Struct):
    """Where a value comes from: activation SRAM or accumulators, or it is `pad`."""

    activations: 1
    inside: 1
    pad: signed(8)


class Fold(data.Struct):
    """What becomes of a value: nothing (`tap` 0), or it is the `first` of its window, or goes to maximum or sum."""

    tap: 1
    first: 1
    sum: 1


class Reduce(wiring.Component):
    """max or sum of values, in 32 bits; with `multiply`, (that - zero_a) * (operand - zero_b) of their low bytes.

    Members
    -------
    accumulator : In(signed(32)), activation : In(signed(8)), select : In(Select)
        One value a cycle.
    fold : In(Fold)
        `FOLD_AFTER` cycles after the value that it applies to.
    operand : Out(signed(8)), zero_a, zero_b : In(signed(8))
        `OPERAND_AFTER` cycles after the window's last cycle, whose `activation` was the operand.
    multiply : In(1)
        `MULTIPLY_AFTER` cycles after it.
    output : Out(signed(32))

    Latency is `LATENCY` cycles, throughput one value a cycle, without back-pressure. The total stays until the first
    value of the next window.
    """

    accumulator: Signal
    activation: Signal
    select: Select
    fold: Fold
    operand: Signal
    zero_a: Signal
    zero_b: Signal
    multiply: Signal
    output: Signal

    def __init__(self):
        super().__init__(
            {
                "accumulator": In(signed(32)),
                "activation": In(signed(8)),
                "select": In(Select),
                "fold": In(Fold),
                "operand": Out(signed(8)),
                "zero_a": In(signed(8)),
                "zero_b": In(signed(8)),
                "multiply": In(1),
                "output": Out(signed(32)),
            }
        )

    def elaborate(self, platform):
        m = Module()

        # Cycle 1: choose the value.
        value, select = register(signed(32)), self.select
        with m.If(~select.inside):
            m.d.sync += value.eq(select.pad)
        with m.Elif(select.activations):
            m.d.sync += value.eq(self.activation)
        with m.Else():
            m.d.sync += value.eq(self.accumulator)

        # Cycle 2: fold it into the total.
        total, fold = register(signed(32)), self.fold
        with m.If(fold.tap & fold.sum & ~fold.first):
            m.d.sync += total.eq(total + value)
        with m.Elif(fold.tap & (fold.first | (value > total))):
            m.d.sync += total.eq(value)
        operand = delayed(m, self.activation, OPERAND_AFTER, "operand_line", reset_less=True).as_signed()

        # Cycle 3: subtract the zero points. Cycle 4: multiply.
        passed, output = register(signed(32)), register(signed(32))
        a, b = (register(signed(9), name=name) for name in ("a", "b"))
        m.d.sync += [
            passed.eq(total),
            a.eq(total[:8].as_signed() - self.zero_a),
            b.eq(operand - self.zero_b),
            output.eq(Mux(self.multiply, a * b, passed)),
        ]
        m.d.comb += [self.operand.eq(operand), self.output.eq(output)]
        return m
