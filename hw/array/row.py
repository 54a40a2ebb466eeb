"""One row of the systolic array: N processing elements side by side, and the marks that travel along them.

Emitted once and instantiated N times by name (array.py).
"""

from amaranth.hdl import Cat, Module, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from systolith.config import Config
from systolith.hw.array.pe import ProcessingElement
from systolith.hw.lib.verilog import instantiate

__all__ = ["ArrayRow"]


class ArrayRow(wiring.Component):
    """N processing elements: activations and marks go right, weights and partial sums down.

    Members
    -------
    activation : In(signed(8)), swap : In(1)
        The row element, and whether it is the first of a tile; both reach column c after c cycles.
    latch : In(1)
        Column 0 keeps its weight of this cycle as shadow weight, column c that of c cycles later.
    weights : In(ArrayLayout(signed(8), N)), weights_below : Out(...)
        Lane c goes through column c in one cycle.
    psums : In(ArrayLayout(signed(psum_bits), N)), psums_below : Out(...)
        Partial sums from above, 2 cycles after the activation they belong to (plus c in column c), and to below.
    """

    activation: Signal
    swap: Signal
    latch: Signal
    weights: data.View
    weights_below: data.View
    psums: data.View
    psums_below: data.View

    def __init__(self, config: Config):
        self.config = config
        self.parts = {"systolic_pe": ProcessingElement(config.psum_bits)}
        weights = data.ArrayLayout(signed(8), config.array)
        psums = data.ArrayLayout(signed(config.psum_bits), config.array)
        super().__init__(
            {
                "activation": In(signed(8)),
                "swap": In(1),
                "latch": In(1),
                "weights": In(weights),
                "weights_below": Out(weights),
                "psums": In(psums),
                "psums_below": Out(psums),
            }
        )

    def elaborate(self, platform):
        m = Module()
        size = self.config.array

        # A mark is one bit of a line for the whole row. Like the PEs, it needs no reset.
        swap_line = Signal(size - 1, reset_less=True)
        latch_line = Signal(size - 1, reset_less=True)
        swaps, latches = Cat(self.swap, swap_line), Cat(self.latch, latch_line)
        m.d.sync += [swap_line.eq(swaps), latch_line.eq(latches)]

        activation = self.activation
        for c in range(size):
            activation_right = Signal(signed(8), name=f"activation{c}")
            m.submodules[f"pe{c}"] = instantiate(
                "systolic_pe",
                self.parts["systolic_pe"],
                latch=latches[c],
                swap=swaps[c],
                weight=self.weights[c],
                weight_below=self.weights_below[c],
                activation=activation,
                activation_right=activation_right,
                psum=self.psums[c],
                psum_below=self.psums_below[c],
            )
            activation = activation_right
        return m
