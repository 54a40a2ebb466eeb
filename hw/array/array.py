"""The systolic array: N x N processing elements with the skew of rows and weights around them.

Data flow: `execute` gives rows and weight words, `accumulators` take the sums. Weights stay, activations flow right,
partial sums flow down; the swap of weights travels diagonally with the data, and so does the load of the next ones.
"""

from amaranth.hdl import Cat, Const, Module, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from systolith.config import Config
from systolith.hw.array.pe import PE_LATENCY
from systolith.hw.array.row import ArrayRow
from systolith.hw.lib.delay import delayed
from systolith.hw.lib.verilog import instantiate

__all__ = ["Row", "SystolicArray", "WeightWord", "array_latency"]


class Row(data.StructLayout):
    """One row of activations, lane r for PE row r; `swap` marks the first row of a K tile."""

    def __init__(self, array: int):
        super().__init__({"value": data.ArrayLayout(signed(8), array), "swap": 1})


class WeightWord(data.StructLayout):
    """One word of weights, lane c for column c; `first` marks word 0 of a tile, word k comes k cycles later."""

    def __init__(self, array: int):
        super().__init__({"value": data.ArrayLayout(signed(8), array), "first": 1})


def array_latency(config: Config) -> int:
    """Cycles from a row at the array to its sum in column 0."""
    return config.array - 1 + PE_LATENCY


class SystolicArray(wiring.Component):
    """N x N processing elements.

    Members
    -------
    row : In(Row(N))
        A row given at cycle t enters PE row r at t + r. A row nobody takes the sums of is a bubble.
    weight : In(WeightWord(N))
        With `first` at T, the PE of row r and column c keeps word r, at T + 2r + c.
    sums : Out(ArrayLayout(signed(psum_bits), N))
        `sums[c]` of the row given at t is valid at t + latency + c.

    With `first` at T and `swap` at t0: t0 >= T + N, and T is not before the swap of the tile before. So tiles of M rows
    follow each other in max(M, N) cycles. There is no back-pressure: the array always flows.
    """

    row: data.View
    weight: data.View
    sums: data.View

    def __init__(self, config: Config):
        self.config = config
        self.latency = array_latency(config)
        self.parts = {"systolic_row": ArrayRow(config)}
        super().__init__(
            {
                "row": In(Row(config.array)),
                "weight": In(WeightWord(config.array)),
                "sums": Out(data.ArrayLayout(signed(config.psum_bits), config.array)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        size = self.config.array
        row_module = self.parts["systolic_row"]

        # Marks of row r: the swap comes r cycles late, with the data; the latch 2r, at half speed.
        swap_line = Signal(size - 1, reset_less=True)
        latch_line = Signal(2 * size - 2, reset_less=True)
        swaps, latches = Cat(self.row.swap, swap_line), Cat(self.weight.first, latch_line)
        m.d.sync += [swap_line.eq(swaps), latch_line.eq(latches)]

        # Flat signals between the rows: fields would cost N^2 names.
        weights = Cat(delayed(m, self.weight.value[c], c, f"weight_skew{c}", reset_less=True) for c in range(size))
        psums = Const(0, size * self.config.psum_bits)
        for r in range(size):
            weights_below = Signal(len(weights), name=f"weights{r}")
            psums_below = Signal(len(psums), name=f"psums{r}")
            activation = delayed(m, self.row.value[r], r, f"row_skew{r}", reset_less=True).as_signed()
            m.submodules[f"row{r}"] = instantiate(
                "systolic_row",
                row_module,
                activation=activation,
                swap=swaps[r],
                latch=latches[2 * r],
                weights=weights,
                weights_below=weights_below,
                psums=psums,
                psums_below=psums_below,
            )
            weights, psums = weights_below, psums_below
        m.d.comb += self.sums.as_value().eq(psums)
        return m
