"""The SFU's counters: where each step of an instruction reads and writes.

SfuWalk (walk.py) loads them with an instruction, and advances them step by step.
"""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from systolith.config import Config
from systolith.hw.sfu.job import Walk
from systolith.isa import ADDRESS_BITS, COUNT_BITS, STEP_BITS, SecondOperand, SfuSource

__all__ = ["Position", "SfuWindow"]

REACH = ADDRESS_BITS + 1
"""Bits of an address that counts up: one more than any in range, so that the first one outside is recognized."""


class Position(data.StructLayout):
    """One step. It reads a value of the window at `address` (outside the tensor, it is not `inside`), or (`at_operand`)
    only the second operand. `first` and `last_tap`: of the window; `emit`: the last step of this group of channels;
    `last_group`: of this output, `last`: of the instruction. `operand` and `dst` are those of the output.
    """

    def __init__(self, config: Config):
        super().__init__(
            {
                "address": ADDRESS_BITS,
                "inside": 1,
                "at_operand": 1,
                "first": 1,
                "last_tap": 1,
                "emit": 1,
                "group": max(ceil_log2(config.array // config.sfu_lanes), 1),
                "last_group": 1,
                "last": 1,
                "operand": REACH,
                "dst": REACH,
            }
        )


class SfuWindow(wiring.Component):
    """Positions in the order: column of the window, row of the window, second operand (in a step of its own after
    activations), group of channels, output column, output row.

    Members
    -------
    load : In(1), start : In(Walk)
        The first position of this instruction is there in the next cycle.
    advance : In(1)
        The next position is there in the next cycle.
    walk : Out(Walk), position : Out(Position)
        The instruction, and where it is.
    """

    load: Signal
    start: data.View
    advance: Signal
    walk: data.View
    position: data.View

    def __init__(self, config: Config):
        self.groups = config.array // config.sfu_lanes
        super().__init__(
            {
                "load": In(1),
                "start": In(Walk),
                "advance": In(1),
                "walk": Out(Walk),
                "position": Out(Position(config)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        walk, now = self.walk, self.position
        at_operand, own_step, emit = Signal(), Signal(), Signal()
        # Signals of their own, not fields read back: simulators see a loop where a struct depends on itself.
        last_tap, last_group, last_col, last_row = Signal(), Signal(), Signal(), Signal()
        m.d.comb += emit.eq(at_operand | (last_tap & ~own_step))
        with m.If(self.load):
            m.d.sync += [
                walk.eq(self.start),
                own_step.eq((self.start.memory == SfuSource.ACTIVATIONS) & (self.start.second != SecondOperand.NONE)),
            ]
        self._window(m, emit, at_operand, last_tap, last_group, last_col)
        self._output(m, emit, last_group, last_col, last_row)
        m.d.comb += [
            now.at_operand.eq(at_operand),
            now.last_tap.eq(last_tap),
            now.emit.eq(emit),
            now.last_group.eq(last_group),
            now.last.eq(emit & last_group & last_col & last_row),
        ]
        return m

    def _window(
        self, m: Module, emit: Signal, at_operand: Signal, last_tap: Signal, last_group: Signal, last_col: Signal
    ):
        """Positions in the window, then the start of the window for the next group, column or line."""
        walk, start = self.walk, self.start
        left_y, left_x, last_y, last_x, first = Signal(STEP_BITS), Signal(STEP_BITS), Signal(), Signal(), Signal()
        # Where the tap is; where its row of the window, its window, and the windows of this output row start.
        address, y, x = Signal.like(walk.address), Signal.like(walk.y), Signal.like(walk.x)
        kernel_address, window_address, line_address = (Signal.like(address) for _ in range(3))
        window_x, line_y = Signal.like(x), Signal.like(y)
        m.d.comb += [
            self.position.address.eq(address),
            self.position.inside.eq((y < walk.height) & (x < walk.width) & ~at_operand),
            self.position.first.eq(first),
            last_tap.eq(last_x & last_y),
        ]

        next_address, next_y, next_x = Signal.like(address), Signal.like(y), Signal.like(x)
        with m.If(self.load):
            m.d.comb += [next_address.eq(start.address), next_y.eq(start.y), next_x.eq(start.x)]
        with m.Elif(~last_group):
            m.d.comb += [next_address.eq(window_address), next_y.eq(line_y), next_x.eq(window_x)]
        with m.Elif(~last_col):
            m.d.comb += [
                next_address.eq(window_address + walk.stride_x),
                next_y.eq(line_y),
                next_x.eq(window_x + walk.stride_x),
            ]
        with m.Else():
            m.d.comb += [
                next_address.eq(line_address + walk.line_step),
                next_y.eq(line_y + walk.stride_y),
                next_x.eq(walk.x),
            ]

        kernel_y, kernel_x = (Mux(self.load, start[name], walk[name]) for name in ("kernel_y", "kernel_x"))
        with m.If(self.load | (self.advance & emit)):
            m.d.sync += [
                at_operand.eq(0),
                first.eq(1),
                left_x.eq(kernel_x),
                left_y.eq(kernel_y),
                last_x.eq(kernel_x == 1),
                last_y.eq(kernel_y == 1),
                *(target.eq(next_address) for target in (address, kernel_address, window_address)),
                *(target.eq(next_x) for target in (x, window_x)),
                *(target.eq(next_y) for target in (y, line_y)),
            ]
            with m.If(self.load | (last_group & last_col)):
                m.d.sync += line_address.eq(next_address)
        with m.Elif(self.advance & last_tap):
            m.d.sync += at_operand.eq(1)
        with m.Elif(self.advance & last_x):
            m.d.sync += [
                first.eq(0),
                left_x.eq(walk.kernel_x),
                left_y.eq(left_y - 1),
                last_x.eq(walk.kernel_x == 1),
                last_y.eq(left_y == 2),
                *(target.eq(kernel_address + walk.kernel_step) for target in (address, kernel_address)),
                x.eq(window_x),
                y.eq(y + walk.dilation_y),
            ]
        with m.Elif(self.advance):
            m.d.sync += [
                first.eq(0),
                left_x.eq(left_x - 1),
                last_x.eq(left_x == 2),
                address.eq(address + walk.dilation_x),
                x.eq(x + walk.dilation_x),
            ]

    def _output(self, m: Module, emit: Signal, last_group: Signal, last_col: Signal, last_row: Signal):
        """Groups of channels, columns and rows of the output; where it is written, and its second operand."""
        walk, start, group = self.walk, self.start, Signal.like(self.position.group)
        left_cols, left_rows = Signal(COUNT_BITS), Signal(COUNT_BITS)
        dst, dst_line, operand, operand_line = (Signal(REACH) for _ in range(4))
        m.d.comb += [
            last_group.eq(group == self.groups - 1),
            self.position.group.eq(group),
            self.position.dst.eq(dst),
            self.position.operand.eq(operand),
        ]
        with m.If(self.load):
            m.d.sync += [
                group.eq(0),
                left_cols.eq(start.cols),
                left_rows.eq(start.rows),
                last_col.eq(start.cols == 1),
                last_row.eq(start.rows == 1),
                *(target.eq(start.dst) for target in (dst, dst_line)),
                *(target.eq(start.operand) for target in (operand, operand_line)),
            ]
        with m.Elif(self.advance & emit & ~last_group):
            m.d.sync += group.eq(group + 1)
        with m.Elif(self.advance & emit & ~last_col):
            m.d.sync += [
                group.eq(0),
                left_cols.eq(left_cols - 1),
                last_col.eq(left_cols == 2),
                dst.eq(dst + walk.dst_step),
                operand.eq(operand + walk.operand_step),
            ]
        with m.Elif(self.advance & emit):
            m.d.sync += [
                group.eq(0),
                left_cols.eq(walk.cols),
                left_rows.eq(left_rows - 1),
                last_col.eq(walk.cols == 1),
                last_row.eq(left_rows == 2),
                *(target.eq(dst_line + walk.dst_line_step) for target in (dst, dst_line)),
                *(target.eq(operand_line + walk.operand_line_step) for target in (operand, operand_line)),
            ]
