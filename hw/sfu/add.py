"""Addition of a second operand: two int8 values a cycle to their weighted sum, in exact fixed point.

The SFU (unit.py) has `sfu_lanes` of these between requantization and table. The numbers are those of
`systolith.numerics.add`.
"""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from systolith.hw.lib.delay import delayed
from systolith.hw.sfu.requantize import Constants, register
from systolith.isa import form

__all__ = ["ENABLE_AFTER", "FACTORS_AFTER", "LATENCY", "SHIFT_AFTER", "Add", "Factors", "add"]

FACTOR_A_BITS, FACTOR_B_BITS, SHIFT_BITS = (
    form("CONFIG.SFU.add")[name].bits for name in ("multiplier_a", "multiplier_b", "shift")
)
LATENCY = 8
"""Cycles from value and operand to the output."""
FACTORS_AFTER, SHIFT_AFTER, ENABLE_AFTER = 1, 4, LATENCY - 1
"""Cycles from a value to the constants that apply to it."""
LOW_BITS = 13
"""Factors are multiplied in two pieces, 9 x 14 bits each, that fit any FPGA's multipliers."""
TOTAL_BITS = 36
"""|a| and |b| are at most 255, |factors| at most 2^26: the sum is below 2^35."""
LIMIT_BITS = 11
"""A sum that does not fit leaves int8 whatever the zero point is."""


class Factors(data.Struct):
    """Multipliers of the first and second operand."""

    a: signed(FACTOR_A_BITS)
    b: signed(FACTOR_B_BITS)


def add(a: int, b: int, factors: tuple[int, int], shift: int, zero_point: int, low: int = -128, high: int = 127) -> int:
    """The same on plain integers, from operands without their zero points."""
    total = a * factors[0] + b * factors[1]
    if shift:
        total = (total + (1 << shift - 1) - 1 + ((total >> shift) + zero_point & 1)) >> shift
    return min(max(total + zero_point, low), high)


class Add(wiring.Component):
    """clamp(rint(((value - zero_a) * a + (operand - zero_b) * b) / 2^shift + zero_point), low, high).

    Members
    -------
    value, operand, zero_a, zero_b : In(signed(8))
    factors : In(Factors)
        `FACTORS_AFTER` cycles after the value that they apply to.
    shift : In(SHIFT_BITS)
        `SHIFT_AFTER` cycles after it.
    enable : In(1), constants : In(Constants)
        `ENABLE_AFTER` cycles after it. Without `enable` the value passes as it is.
    output : Out(signed(8))

    Latency is `LATENCY` cycles, throughput one value a cycle, without back-pressure.
    """

    value: Signal
    operand: Signal
    zero_a: Signal
    zero_b: Signal
    factors: Factors
    shift: Signal
    enable: Signal
    constants: Constants
    output: Signal

    def __init__(self):
        super().__init__(
            {
                "value": In(signed(8)),
                "operand": In(signed(8)),
                "zero_a": In(signed(8)),
                "zero_b": In(signed(8)),
                "factors": In(Factors),
                "shift": In(SHIFT_BITS),
                "enable": In(1),
                "constants": In(Constants),
                "output": Out(signed(8)),
            }
        )

    def elaborate(self, platform):
        m = Module()

        # Cycle 1: subtract the zero points.
        a, b = (register(signed(9), name=name) for name in ("a", "b"))
        m.d.sync += [a.eq(self.value - self.zero_a), b.eq(self.operand - self.zero_b)]

        # Cycle 2: multiply. Cycles 3 and 4: add.
        lows, highs = [], []
        for name, operand, factor in (("a", a, self.factors.a), ("b", b, self.factors.b)):
            low, high = register(signed(LOW_BITS + 9), name=f"{name}_low"), register(signed(23), name=f"{name}_high")
            m.d.sync += [low.eq(operand * factor[:LOW_BITS]), high.eq(operand * factor[LOW_BITS:].as_signed())]
            lows.append(low)
            highs.append(high)
        low, high, total = register(signed(LOW_BITS + 10)), register(signed(24)), register(signed(TOTAL_BITS))
        m.d.sync += [
            low.eq(lows[0] + lows[1]),
            high.eq(highs[0] + highs[1]),
            total.eq((high << LOW_BITS) + low),
        ]

        # Cycles 5 and 6: shift to integer bits, a half bit, and whether anything is left below it.
        coarse, fine = register(signed(TOTAL_BITS + 2)), register(signed(TOTAL_BITS + 2))
        fine_shift = register(3)
        value = Cat(0, 0, total).as_signed()
        m.d.sync += [
            coarse.eq(_shift_sticky(m, value, self.shift[3:], 3)),
            fine_shift.eq(self.shift[:3]),
            fine.eq(_shift_sticky(m, coarse, fine_shift, 0)),
        ]

        # Cycle 7: saturate what leaves int8 anyway.
        whole, fraction = register(signed(LIMIT_BITS)), register(2)
        above = fine[LIMIT_BITS + 1 :]
        fits = (above == 0) | above.all()
        limit = Mux(fine[-1], -(1 << LIMIT_BITS - 1), (1 << LIMIT_BITS - 1) - 1)
        m.d.sync += [
            whole.eq(Mux(fits, fine[2 : LIMIT_BITS + 2].as_signed(), limit)),
            fraction.eq(Mux(fits, fine[:2], 0)),
        ]

        # Cycle 8: zero point, round, and clamp; or what came in.
        output, shifted = register(signed(8)), Signal(signed(LIMIT_BITS + 2))
        limits = self.constants
        passed = delayed(m, self.value, LATENCY - 1, "value_line", reset_less=True)
        up = fraction[1] & (fraction[0] | (whole[0] ^ limits.zero_point[0]))
        m.d.comb += [self.output.eq(output), shifted.eq(whole + limits.zero_point + up)]
        with m.If(~self.enable):
            m.d.sync += output.eq(passed)
        with m.Elif(shifted < limits.low):
            m.d.sync += output.eq(limits.low)
        with m.Elif(shifted > limits.high):
            m.d.sync += output.eq(limits.high)
        with m.Else():
            m.d.sync += output.eq(shifted)
        return m


def _shift_sticky(m: Module, value, places, exponent: int):
    """Shifted right, keeping the sign, by `places` * 2^exponent; bit 0 collects every bit shifted out."""
    for level in reversed(range(len(places))):
        step = 1 << level + exponent
        shifted = Signal.like(value, name=f"sticky_{step}")
        fill = value[-1].replicate(min(step, len(value) - 1))
        moved = Cat(value[: step + 1].any(), value[step + 1 :], fill)
        m.d.comb += shifted.eq(Mux(places[level], moved, value))
        value = shifted
    return value
