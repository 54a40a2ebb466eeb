"""Requantization: one int32 value a cycle to int8, with IEEE float32 rounding and no floating-point unit.

The SFU (unit.py) has `sfu_lanes` of these, between reduce.py and add.py. The numbers are those of
`systolith.numerics.requantize`; a float32 is handled as its 24-bit significand and its exponent.
"""

from functools import partial

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from systolith.hw.lib.delay import delayed

__all__ = ["CONSTANTS_AFTER", "LATENCY", "Constants", "Float32", "Requantize", "requantize"]

LATENCY = 12
"""Cycles from accumulator, bias and scale to the output."""
CONSTANTS_AFTER = LATENCY - 1
"""Cycles from an accumulator to the constants that apply to it: they are used by the last stage only."""
SHIFT_BASE = 15
"""Products with fewer than 15 fraction bits in a 24-bit significand are at least 512 and saturate."""
SHIFT_MOST = 10
"""Products with more than 15 + 10 fraction bits are less than a half and round to 0."""
SHIFT_START = 104
"""Fraction bits beyond 15 of a product whose accumulator has its top bit at 31 and whose scale has exponent field 0."""
SATURATED = 512
"""A magnitude that leaves int8 whatever the zero point is."""


register = partial(Signal, reset_less=True)
"""Pipeline registers: what is in them means nothing until something valid has come through."""


class Float32(data.Struct):
    """The bits of a float32."""

    fraction: 23
    exponent: 8
    sign: 1


class Constants(data.Struct):
    """Output quantization, the same for all channels."""

    zero_point: signed(8)
    low: signed(8)
    high: signed(8)


def requantize(
    accumulator: int, bias: int, scale: int, zero_point: int, low: int = -128, high: int = 127, joint: bool = False
) -> int:
    """The same on plain integers, step by step as the hardware does it; `scale` is the 32 bits of a finite float32."""
    total = (accumulator + bias + (1 << 31)) % (1 << 32) - (1 << 31)
    if total == 0:
        return min(max(zero_point, low), high)
    magnitude = abs(total)
    top = magnitude.bit_length() - 1
    significand = _shift_to_nearest_even(magnitude << (31 - top), 8)
    if significand >> 24:
        significand, top = 1 << 23, top + 1
    product = significand * (scale & 0x7FFFFF | 1 << 23)
    is_wide = product >> 47
    product = _shift_to_nearest_even(product, 23 + is_wide)
    shift = SHIFT_START + (31 - top) - (scale >> 23 & 0xFF) - is_wide
    if shift < 0:
        rounded = SATURATED
    elif shift > SHIFT_MOST:
        rounded = 0
    else:
        rounded = _shift_to_nearest_even(product, SHIFT_BASE + shift, joint & zero_point)
    is_negative = (total < 0) != bool(scale >> 31)
    return min(max((-rounded if is_negative else rounded) + zero_point, low), high)


def _shift_to_nearest_even(value: int, count: int, zero_point: int = 0) -> int:
    """Even is the sum with the zero point."""
    half = 1 << count - 1
    return (value + half - 1 + ((value >> count) + zero_point & 1)) >> count


class Requantize(wiring.Component):
    """clamp(rint(float32(accumulator + bias) * scale) + zero_point, low, high); with `joint`, ties go to the even sum.

    Members
    -------
    accumulator, bias : In(signed(32))
        Their sum wraps at 32 bits.
    scale : In(Float32)
        Finite; 0 and denormals act as 0, which is what they amount to.
    constants : In(Constants), joint : In(1)
        Come `CONSTANTS_AFTER` cycles after the accumulator that they apply to.
    output : Out(signed(8))

    Latency is `LATENCY` cycles, throughput one value a cycle. There is no back-pressure: the lane always flows, and
    whoever feeds it knows which outputs mean something.
    """

    accumulator: Signal
    bias: Signal
    scale: Float32
    constants: Constants
    joint: Signal
    output: Signal

    def __init__(self):
        super().__init__(
            {
                "accumulator": In(signed(32)),
                "bias": In(signed(32)),
                "scale": In(Float32),
                "constants": In(Constants),
                "joint": In(1),
                "output": Out(signed(8)),
            }
        )

    def elaborate(self, platform):
        m = Module()

        # Cycle 1: add the bias. Cycle 2: sign and magnitude.
        total = register(signed(32))
        magnitude = register(32)
        scale_1 = register(Float32)
        negative_2 = register()
        m.d.sync += [
            total.eq(self.accumulator + self.bias),
            scale_1.eq(self.scale),
            magnitude.eq(Mux(total[31], -total, total)),
            negative_2.eq(total[31] ^ scale_1.sign),
        ]
        exponent_2 = delayed(m, scale_1.exponent, 1, "exponent_line", reset_less=True)
        significand_5 = delayed(m, Cat(scale_1.fraction, Const(1, 1)), 4, "significand_line", reset_less=True)
        negative_11 = delayed(m, negative_2, 9, "negative_line", reset_less=True)

        # Cycles 3 and 4: shift the leading one to bit 31. `shift` becomes the fraction bits beyond SHIFT_BASE.
        coarse, fine = register(32), register(32)
        shift_3, shift_4 = register(signed(9)), register(signed(9))
        coarse_value, coarse_places = _normalize(m, magnitude, (16, 8))
        fine_value, fine_places = _normalize(m, coarse, (4, 2, 1))
        m.d.sync += [
            coarse.eq(coarse_value),
            shift_3.eq(SHIFT_START + (coarse_places << 3) - exponent_2),
            fine.eq(fine_value),
            shift_4.eq(shift_3 + fine_places),
        ]

        # Cycle 5: round to 24 bits; a carry makes the significand of the next power of two. Zero must not saturate.
        rounded = Signal(25)
        left = register(24)
        shift_5 = register(signed(9))
        m.d.comb += rounded.eq(fine[8:] + _rounds_up(fine[8], fine[7], fine[:7].any()))
        m.d.sync += [
            left.eq(rounded[:24] | rounded[24] << 23),
            shift_5.eq(Mux(fine[31], shift_4 - rounded[24], 0)),
        ]
        shift_8 = delayed(m, shift_5, 3, "shift_line", reset_less=True).as_signed()

        # Cycles 6 to 8: multiply in four pieces that fit any FPGA's multipliers, a register after each step.
        low, cross_0, cross_1, high = (register(24, name=name) for name in ("low", "cross_0", "cross_1", "high"))
        outer, cross = register(48), register(25)
        product = register(48)
        m.d.sync += [
            low.eq(left[:12] * significand_5[:12]),
            cross_0.eq(left[:12] * significand_5[12:]),
            cross_1.eq(left[12:] * significand_5[:12]),
            high.eq(left[12:] * significand_5[12:]),
            outer.eq(Cat(low, high)),
            cross.eq(cross_0 + cross_1),
            product.eq(outer + (cross << 12)),
        ]

        # Cycle 9: round to 24 bits. The product has 47 or 48; a carry needs no care, its value is right.
        wide = product[47]
        significand_9 = register(25)
        shift_9 = register(signed(9))
        up = Mux(
            wide,
            _rounds_up(product[24], product[23], product[:23].any()),
            _rounds_up(product[23], product[22], product[:22].any()),
        )
        m.d.sync += [significand_9.eq(Mux(wide, product[24:], product[23:47]) + up), shift_9.eq(shift_8 - wide)]

        # Cycle 10: shift to integer bits, a half bit, and whether anything is left below it. Cycle 11: limit.
        fixed = register(12)
        magnitude_11, fraction_11 = register(10), register(2)
        overflow, underflow = register(), register()
        m.d.sync += [
            fixed.eq(_shift_sticky(m, Cat(significand_9[:14].any(), significand_9[14:]), shift_9[:4])),
            overflow.eq(shift_9 < 0),
            underflow.eq(shift_9 > SHIFT_MOST),
            magnitude_11.eq(fixed[2:]),
            fraction_11.eq(fixed[:2]),
        ]
        with m.If(overflow):
            m.d.sync += [magnitude_11.eq(SATURATED), fraction_11.eq(0)]
        with m.Elif(underflow):
            m.d.sync += [magnitude_11.eq(0), fraction_11.eq(0)]

        # Cycle 12: round, zero point and clamp. -(magnitude + up) = ~magnitude + 1 - up.
        shifted = Signal(signed(12))
        limits = self.constants
        output = register(signed(8))
        m.d.comb += self.output.eq(output)
        odd = magnitude_11[0] ^ self.joint & limits.zero_point[0]
        up = _rounds_up(odd, fraction_11[1], fraction_11[0])
        value = Cat(magnitude_11 ^ negative_11.replicate(10), negative_11).as_signed()
        m.d.comb += shifted.eq(value + limits.zero_point + (up ^ negative_11))
        with m.If(shifted < limits.low):
            m.d.sync += output.eq(limits.low)
        with m.Elif(shifted > limits.high):
            m.d.sync += output.eq(limits.high)
        with m.Else():
            m.d.sync += output.eq(shifted)
        return m


def _normalize(m: Module, value: Signal, steps: tuple[int, ...]) -> tuple[Signal, Cat]:
    """`value` shifted left by each of `steps` (halving) whose places are all zero; and by how many of the last step."""
    taken = []
    for step in steps:
        shifted, empty = Signal(32, name=f"shifted_{step}"), Signal(name=f"empty_{step}")
        m.d.comb += [empty.eq(~value[-step:].any()), shifted.eq(Mux(empty, value << step, value))]
        value = shifted
        taken.insert(0, empty)
    return value, Cat(taken)


def _rounds_up(odd, half, rest):
    """Whether round to nearest even goes up: `half` is the first bit cut off, `rest` whether a lower one is set."""
    return half & (odd | rest)


def _shift_sticky(m: Module, value, places) -> Signal:
    """12 bits shifted right by up to 15 places; bit 0 collects every bit shifted out."""
    for level in reversed(range(4)):
        step = 1 << level
        shifted = Signal(12, name=f"sticky_{step}")
        m.d.comb += shifted.eq(Mux(places[level], Cat(value[: step + 1].any(), value[step + 1 :]), value))
        value = shifted
    return value
