"""One lane of the depthwise unit: one channel's shift registers, taps, multipliers and accumulators.

Emitted once and instantiated N times by name (unit.py).
"""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from systolith.config import Config
from systolith.hw.array.accumulators import AccumulatorColumn, AccumulatorControl
from systolith.hw.lib.delay import delayed

__all__ = ["LATENCY", "DepthwiseLane", "LaneStep", "LaneTap", "line_length", "window"]

LATENCY = 5
"""Cycles from an input at the lane to the sum it completes at the accumulators."""


def window(config: Config) -> tuple[int, int]:
    """Rows and columns of taps that a lane multiplies at once."""
    return {1: (1, 1), 3: (1, 3), 9: (3, 3)}[config.dw_taps]


def line_length(config: Config) -> int:
    """Words a line buffer holds, with 9 taps."""
    return min(config.dw_depth, 256)


class LaneStep(data.StructLayout):
    """One input word: `valid`; `real` if it was read, else it is `zero_point`; `swap`: the first one for new taps;
    `column`: where in the line buffers it goes."""

    def __init__(self, config: Config):
        column = ceil_log2(line_length(config))
        super().__init__({"valid": 1, "real": 1, "swap": 1, "column": column, "zero_point": signed(8)})


class LaneTap(data.StructLayout):
    """Mask of the taps that a weight goes to (tap 0 is that of the newest input, then come those of the words before
    it, then those of the lines before); `first`: the others become zero."""

    def __init__(self, config: Config):
        super().__init__({"load": config.dw_taps, "first": 1})


class DepthwiseLane(wiring.Component):
    """Multiplies a window of `dw_taps` inputs by as many taps, and accumulates the sums.

    Members
    -------
    step : In(LaneStep), value : In(signed(8))
        An input, in reading order of a tile.
    tap : In(LaneTap), weight : In(signed(8))
        A shadow tap. From one cycle before a `swap` until it, none may come for another window.
    control : In(AccumulatorControl)
        What to do with the sum of the window whose newest input came `LATENCY` cycles ago.
    read_valid : In(1), read_address : In, read_data : Out(signed(32)), finished : Out(1)
        As in AccumulatorColumn.

    Takes an input a cycle. There is no back-pressure.
    """

    step: data.View
    value: Signal
    tap: data.View
    weight: Signal
    control: data.View
    read_valid: Signal
    read_address: Signal
    read_data: Signal
    finished: Signal

    def __init__(self, config: Config):
        self.config = config
        super().__init__(
            {
                "step": In(LaneStep(config)),
                "value": In(signed(8)),
                "tap": In(LaneTap(config)),
                "weight": In(signed(8)),
                "control": In(AccumulatorControl(config.dw_depth)),
                "read_valid": In(1),
                "read_address": In(ceil_log2(config.dw_depth)),
                "read_data": Out(signed(32)),
                "finished": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        rows, cols = window(self.config)

        # Cycle 1: the input, or padding. Marks are kept in each lane, so that none of them has a huge fan-out.
        value, step = Signal(signed(8), reset_less=True), Signal(self.step.shape())
        m.d.sync += [value.eq(Mux(self.step.real, self.value, self.step.zero_point)), step.eq(self.step)]
        lines = [value, *self._lines(m, value, step, rows - 1)]
        taps = self._taps(m, step)

        # Cycle 2: the window moves on. Cycle 3: multiply. Cycle 4: add up the columns. Cycle 5: add up the rows.
        sums = []
        for r, newest in enumerate(lines):
            before, products = newest, []
            for c in range(cols):
                held = Signal(signed(8), name=f"held{r}_{c}", reset_less=True)
                product = Signal(signed(16), name=f"product{r}_{c}", reset_less=True)
                with m.If(step.valid):
                    m.d.sync += held.eq(before)
                m.d.sync += product.eq(held * taps[r * cols + c])
                products.append(product)
                before = held
            row = Signal(signed(18), name=f"row{r}", reset_less=True)
            m.d.sync += row.eq(sum(products[1:], products[0]))
            sums.append(row)
        total = Signal(signed(20), reset_less=True)
        m.d.sync += total.eq(sum(sums[1:], sums[0]))

        m.submodules.accumulators = accumulators = AccumulatorColumn(self.config.dw_depth, len(total))
        m.d.comb += [
            accumulators.control.eq(self.control),
            accumulators.sum.eq(total),
            accumulators.read_valid.eq(self.read_valid),
            accumulators.read_address.eq(self.read_address),
            self.read_data.eq(accumulators.read_data),
            self.finished.eq(accumulators.finished),
        ]
        return m

    def _lines(self, m: Module, value: Signal, step, count: int) -> list:
        """What came one line ago, two lines ago, in the same column."""
        if count == 0:
            return []
        m.submodules.line_buffers = buffers = memory.Memory(shape=8 * count, depth=line_length(self.config), init=[])
        read, write = buffers.read_port(), buffers.write_port()
        m.d.comb += [
            read.en.eq(self.step.valid),
            read.addr.eq(self.step.column),
            write.en.eq(step.valid),
            write.addr.eq(step.column),
            write.data.eq(Cat(value, read.data)),
        ]
        return [read.data.word_select(i, 8).as_signed() for i in range(count)]

    def _taps(self, m: Module, step) -> list[Signal]:
        """Shadow taps are loaded one by one, and become active with the first input they are for."""
        weight = Signal(signed(8), reset_less=True)
        m.d.sync += weight.eq(self.weight)
        tap = data.View(self.tap.shape(), delayed(m, self.tap, 1, "tap_line"))
        taps = []
        for k in range(self.config.dw_taps):
            shadow = Signal(signed(8), name=f"shadow{k}", reset_less=True)
            active = Signal(signed(8), name=f"tap{k}", reset_less=True)
            with m.If(tap.load[k]):
                m.d.sync += shadow.eq(weight)
            with m.Elif(tap.first):
                m.d.sync += shadow.eq(0)
            with m.If(step.valid & step.swap):
                m.d.sync += active.eq(shadow)
            taps.append(active)
        return taps
