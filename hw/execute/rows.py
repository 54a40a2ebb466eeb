"""EXECUTE's row stage, second half: feeds the rows of each K tile to the array, and addresses to the accumulators.

TileStage -> RowStage -> activation SRAM -> array
                  |-> accumulators
"""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from systolith.config import Config
from systolith.hw.array.accumulators import REPEAT, AccumulatorControl
from systolith.hw.array.array import Row, array_latency
from systolith.hw.execute.tiles import Tile
from systolith.hw.execute.weights import WEIGHT_DELAY
from systolith.hw.interfaces import READ_LATENCY, ErrorCode, Fault, SramRead
from systolith.hw.lib.delay import delayed
from systolith.isa import COUNT_BITS

__all__ = ["RowStage"]

ROW_DELAY = 2 + READ_LATENCY
"""Cycles from the decision for a row to the row at the array: request, read, choice of padding.

The shadow weights are free in the very cycle in which the row arrives, if the weights' first word takes one cycle less.
"""
assert ROW_DELAY == WEIGHT_DELAY + 1


class RowStage(wiring.Component):
    """One row a cycle: output columns inside output rows.

    Members
    -------
    tile : In(stream of Tile)
        Taken in the cycle of the last row of the tile before.
    loaded : In(1), swapped : Out(1)
        To and from the weight stage, see there.
    activations : Out(SramRead(act_depth, 8N))
        Always taken (execute goes first); not asked for padding.
    row : Out(Row(N)), control : Out(AccumulatorControl)
        To the array, and to the accumulators when the sums are there.
    fed : Out(1), busy : Out(1), fault : Out(Fault), halt : In(1)
        `fed`: a row is decided. Faults are pulses.

    A row is given `ROW_DELAY` cycles after it is decided. Tiles follow each other without a bubble if weights are
    loaded. Only a tile that adds to accumulators from another row on than the tile before waits for 3 cycles: until
    what that one wrote can be read.
    """

    tile: stream.Interface
    loaded: Signal
    swapped: Signal
    activations: wiring.PureInterface
    row: data.View
    control: data.View
    fed: Signal
    busy: Signal
    fault: data.View
    halt: Signal

    def __init__(self, config: Config):
        self.config = config
        super().__init__(
            {
                "tile": In(stream.Signature(Tile)),
                "loaded": In(1),
                "swapped": Out(1),
                "activations": Out(SramRead(config.act_depth, 8 * config.array)),
                "row": Out(Row(config.array)),
                "control": Out(AccumulatorControl(config.acc_depth)),
                "fed": Out(1),
                "busy": Out(1),
                "fault": Out(Fault),
                "halt": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        now, first, ends = Signal(Tile), Signal(), Signal()
        self._walk(m, now, first, ends)
        inside, in_range = self._check(m, now, first)
        self._feed(m, now, ends, inside & in_range)
        return m

    def _walk(self, m: Module, now, first: Signal, ends: Signal) -> None:
        """`now` is the tile, at the position of the current row; `ends` with its last row."""
        active, ready = Signal(), Signal()
        first_acc = Signal.like(now.acc)
        line_address, line_x, left_cols, single = (
            Signal.like(now.address),
            Signal.like(now.x),
            Signal(COUNT_BITS),
            Signal(),
        )
        last_col, last_line, hold = Signal(), Signal(), Signal(range(REPEAT))
        m.d.comb += [
            self.fed.eq(active & ~self.halt & (~first | (ready & (hold == 0)))),
            self.swapped.eq(self.fed & first),
            ends.eq(self.fed & last_col & last_line),
            self.tile.ready.eq(~active | ends),
            self.busy.eq(active),
        ]
        with m.If(self.swapped):
            m.d.sync += ready.eq(0)
        with m.If(self.loaded):
            m.d.sync += ready.eq(1)

        tile, take = self.tile.p, self.tile.valid & self.tile.ready
        with m.If(hold != 0):
            m.d.sync += hold.eq(hold - 1)
        with m.If(take):
            # From the same accumulator row on, a row comes again after max(M, N) cycles; from another, maybe at once.
            m.d.sync += [
                hold.eq(Mux(tile.accumulate & (tile.acc != first_acc), REPEAT - 1, 0)),
                first_acc.eq(tile.acc),
                active.eq(1),
                first.eq(1),
                now.eq(tile),
                line_address.eq(tile.address + tile.line_step),
                line_x.eq(tile.x),
                left_cols.eq(tile.cols),
                single.eq(tile.cols == 1),
                last_col.eq(tile.cols == 1),
                last_line.eq(tile.rows == 1),
            ]
        with m.Elif(self.fed):
            m.d.sync += [first.eq(0), active.eq(~ends), now.acc.eq(now.acc + 1)]
            with m.If(last_col):
                m.d.sync += [
                    now.address.eq(line_address),
                    now.x.eq(line_x),
                    now.y.eq(now.y + now.stride_y),
                    now.rows.eq(now.rows - 1),
                    line_address.eq(line_address + now.line_step),
                    left_cols.eq(now.cols),
                    last_col.eq(single),
                    last_line.eq(now.rows == 2),
                ]
            with m.Else():
                m.d.sync += [
                    now.address.eq(now.address + now.stride_x),
                    now.x.eq(now.x + now.stride_x),
                    left_cols.eq(left_cols - 1),
                    last_col.eq(left_cols == 2),
                ]

    def _check(self, m: Module, now, first: Signal):
        """Bounds of the current row. Returns: it is inside the tensor, and its address inside the SRAM."""
        config = self.config
        inside, in_range = Signal(), Signal()
        m.d.comb += [
            inside.eq((now.y < now.height) & (now.x < now.width)),
            in_range.eq(now.address < config.act_depth),
        ]
        m.d.sync += [self.fault.code.eq(ErrorCode.NONE), self.fault.index.eq(now.index)]
        with m.If(self.fed):
            with m.If((inside & ~in_range) | (first & (now.acc >= config.acc_depth))):
                m.d.sync += self.fault.code.eq(ErrorCode.SRAM_RANGE)
            with m.Elif(~first & (now.acc & (config.acc_half - 1) == 0)):
                m.d.sync += self.fault.code.eq(ErrorCode.OPERAND)
        return inside, in_range

    def _feed(self, m: Module, now, ends: Signal, exists) -> None:
        """Cycle 2: request. Cycle 4: data, or the zero point. Cycle 5: the row. Much later: the accumulators."""
        m.d.sync += [
            self.activations.valid.eq(self.fed & exists),
            self.activations.address.eq(now.address),
        ]
        real = delayed(m, self.activations.valid, READ_LATENCY, "real")
        zero_point = delayed(m, now.zero_point, 1 + READ_LATENCY, "zero_point", reset_less=True)
        for lane in range(self.config.array):
            byte = self.activations.data.word_select(lane, 8)
            m.d.sync += self.row.value[lane].eq(Mux(real, byte, zero_point))

        control = Signal.like(self.control)
        m.d.comb += [
            self.row.swap.eq(delayed(m, self.swapped, ROW_DELAY, "swap")),
            control.valid.eq(self.fed),
            control.address.eq(now.acc),
            control.accumulate.eq(now.accumulate),
            control.last.eq(ends & now.last),
            self.control.as_value().eq(delayed(m, control, ROW_DELAY + array_latency(self.config), "control")),
        ]
