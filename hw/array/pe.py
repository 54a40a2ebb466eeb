"""Processing element: one weight, one multiply-accumulate a cycle.

Data flow: activations enter from the left and leave to the right, partial sums enter from above and leave below, the
next tile's weights stream down beside them. The row it stands in (row.py) brings the marks.
"""

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["PE_LATENCY", "ProcessingElement"]

PE_LATENCY = 3
"""Cycles from an activation at the left to the sum that contains it, below."""


class ProcessingElement(wiring.Component):
    """Weight-stationary PE with an active and a shadow weight.

    Parameters
    ----------
    psum_bits : int
        Width of the partial sums, 16 + ceil(log2 N) for an N x N array.

    Members
    -------
    latch : In(1)
        Keep this cycle's `weight` as the shadow weight.
    swap : In(1)
        The shadow weight becomes active, for this cycle's activation and those after it. Takes the shadow from before a
        latch in the same cycle.
    weight : In(signed(8)), weight_below : Out(signed(8))
        Streams down one PE a cycle.
    activation : In(signed(8)), activation_right : Out(signed(8))
        From the left, and one cycle later to the right.
    psum : In(signed(psum_bits)), psum_below : Out(signed(psum_bits))
        From above, two cycles after the activation; one cycle later to below, with this PE's product added.

    Throughput is one multiply-accumulate a cycle, latency one cycle in each direction and `PE_LATENCY` from activation
    to sum. There is no back-pressure: the array always flows.
    """

    latch: Signal
    swap: Signal
    weight: Signal
    weight_below: Signal
    activation: Signal
    activation_right: Signal
    psum: Signal
    psum_below: Signal

    def __init__(self, psum_bits: int):
        self.psum_bits = psum_bits
        super().__init__(
            {
                "latch": In(1),
                "swap": In(1),
                "weight": In(signed(8)),
                "weight_below": Out(signed(8)),
                "activation": In(signed(8)),
                "activation_right": Out(signed(8)),
                "psum": In(signed(psum_bits)),
                "psum_below": Out(signed(psum_bits)),
            }
        )

    def elaborate(self, platform):
        m = Module()

        # Nothing here needs a reset: marks still on their way pass before those of the next tile, and the accumulators'
        # control decides which sums are used.
        shadow = Signal(signed(8), reset_less=True)
        active = Signal(signed(8), reset_less=True)
        activation = Signal(signed(8), reset_less=True)
        weight = Signal(signed(8), reset_less=True)
        product = Signal(signed(16), reset_less=True)
        total = Signal(signed(self.psum_bits), reset_less=True)

        with m.If(self.latch):
            m.d.sync += shadow.eq(self.weight)

        # Cycle 1: move on; the weight for this activation becomes active.
        m.d.sync += [activation.eq(self.activation), weight.eq(self.weight)]
        with m.If(self.swap):
            m.d.sync += active.eq(shadow)

        # Cycle 2: multiply, register to register. Cycle 3: add.
        m.d.sync += [product.eq(activation * active), total.eq((self.psum + product)[: self.psum_bits])]

        m.d.comb += [self.activation_right.eq(activation), self.weight_below.eq(weight), self.psum_below.eq(total)]
        return m
