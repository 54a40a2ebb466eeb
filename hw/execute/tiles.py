"""EXECUTE's row stage, first half: takes instructions with their tokens, and computes where each K tile starts.

WeightStage -> TileStage -> RowStage
There are no multipliers: products with the row stride are made by addition, five bits a cycle, while the rows of the
instruction before still flow.
"""

from amaranth.hdl import Const, Module, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from systolith import isa
from systolith.hw.execute.weights import EXECUTE, INPUT, KERNEL
from systolith.hw.interfaces import INDEX_BITS, POSITION_BITS, Issued, TokenPort, fields_layout, header, payload
from systolith.hw.lib.decode import config_register, connect_start, is_form
from systolith.hw.lib.retire import Started
from systolith.hw.lib.stride_product import multiply
from systolith.isa import ACC_BITS, ADDRESS_BITS, COUNT_BITS, EXTENT_BITS, STEP_BITS, UNITS, VALUE_BITS

__all__ = ["Tile", "TileStage"]


class Tile(data.Struct):
    """One K tile: the input position of its first row and how the others follow; `last` of its instruction.

    `y` and `x` are two's complement; as unsigned numbers, positions before the tensor are beyond it too.
    """

    address: ADDRESS_BITS
    y: POSITION_BITS
    x: POSITION_BITS
    stride_y: STEP_BITS
    stride_x: STEP_BITS
    line_step: ADDRESS_BITS
    rows: COUNT_BITS
    cols: COUNT_BITS
    height: EXTENT_BITS
    width: EXTENT_BITS
    zero_point: signed(VALUE_BITS)
    acc: ACC_BITS
    accumulate: 1
    last: 1
    index: INDEX_BITS


class TileStage(wiring.Component):
    """Makes K tiles, in the order kernel y, kernel x, channel block.

    Members
    -------
    instruction : In(stream of Issued)
        Checked by the weight stage. A CONFIG takes one cycle; an EXECUTE is taken when the last tile of the one before
        goes.
    tokens : Out(TokenPort)
        All of `wait` but LOAD_W.
    started : Out(stream of Started)
        In the cycle in which an instruction is taken.
    tile : Out(stream of Tile)
        The first one 4 cycles after its instruction, each other at most 2 cycles after the one before.
    busy : Out(1), halt : In(1)
    """

    instruction: stream.Interface
    tokens: wiring.PureInterface
    started: stream.Interface
    tile: stream.Interface
    busy: Signal
    halt: Signal

    def __init__(self):
        super().__init__(
            {
                "instruction": In(stream.Signature(Issued)),
                "tokens": Out(TokenPort()),
                "started": Out(stream.Signature(Started)),
                "tile": Out(stream.Signature(Tile)),
                "busy": Out(1),
                "halt": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        tile, word = self.tile.p, self.instruction.p.word
        active, settled = Signal(), Signal()
        taken = self.tile.valid & self.tile.ready

        # Take an instruction.
        tensor, window = (config_register(m, self.instruction, form) for form in (INPUT, KERNEL))
        execute, is_execute, start = payload(EXECUTE, word), is_form(EXECUTE, word), Signal()
        others = ~(1 << isa.Unit.LOAD_W) & (1 << UNITS) - 1
        room = ~is_execute | ~active | (taken & tile.last)
        m.d.comb += [
            start.eq(connect_start(m, self, self.started, ~self.halt, units=others, room=room) & is_execute),
            self.started.p.signal.eq(header(word).signal),
            self.started.p.index.eq(self.instruction.p.index),
            self.started.p.executes.eq(is_execute),
        ]

        # Where the row of kernels, and the kernel position, that the tile belongs to start.
        row_address, tap_address, row_x = Signal(ADDRESS_BITS), Signal(ADDRESS_BITS), Signal(POSITION_BITS)
        block_stride, kernel_step = Signal(ADDRESS_BITS), Signal(ADDRESS_BITS)
        kernel, left_y = Signal(fields_layout(KERNEL)), Signal(STEP_BITS)
        left_x, left_blocks = Signal(STEP_BITS), Signal(COUNT_BITS)
        multiplying = multiply(
            m,
            start,
            tensor.row_stride,
            [
                ((tile.address, row_address, tap_address), execute.act + execute.x0, execute.y0),
                ((tile.line_step,), Const(0), window.stride_y),
                ((kernel_step,), Const(0), window.dilation_y),
            ],
        )
        m.d.comb += [
            self.tile.valid.eq(active & ~multiplying & settled & ~self.halt),
            self.busy.eq(active),
        ]
        m.d.sync += [
            settled.eq(~(start | taken)),
            tile.last.eq((left_blocks == 1) & (left_x == 1) & (left_y == 1)),
        ]
        with m.If(start):
            m.d.sync += [
                active.eq(1),
                kernel.eq(window),
                left_y.eq(window.kernel_y),
                left_x.eq(window.kernel_x),
                left_blocks.eq(window.blocks),
                block_stride.eq(tensor.block_stride),
                row_x.eq(execute.x0),
                tile.y.eq(execute.y0),
                tile.x.eq(execute.x0),
                tile.stride_y.eq(window.stride_y),
                tile.stride_x.eq(window.stride_x),
                tile.rows.eq(execute.rows),
                tile.cols.eq(execute.cols),
                tile.height.eq(tensor.height),
                tile.width.eq(tensor.width),
                tile.zero_point.eq(tensor.zero_point),
                tile.acc.eq(execute.acc),
                tile.accumulate.eq(execute.accumulate),
                tile.index.eq(self.instruction.p.index),
            ]
        with m.Elif(taken):
            # The next tile: next block, or next kernel column, or next kernel row.
            m.d.sync += [tile.accumulate.eq(1), active.eq(~tile.last)]
            with m.If(left_blocks != 1):
                m.d.sync += [left_blocks.eq(left_blocks - 1), tile.address.eq(tile.address + block_stride)]
            with m.Elif(left_x != 1):
                address = tap_address + kernel.dilation_x
                m.d.sync += [
                    left_blocks.eq(kernel.blocks),
                    left_x.eq(left_x - 1),
                    tap_address.eq(address),
                    tile.address.eq(address),
                    tile.x.eq(tile.x + kernel.dilation_x),
                ]
            with m.Else():
                address = row_address + kernel_step
                m.d.sync += [
                    left_blocks.eq(kernel.blocks),
                    left_x.eq(kernel.kernel_x),
                    left_y.eq(left_y - 1),
                    row_address.eq(address),
                    tap_address.eq(address),
                    tile.address.eq(address),
                    tile.x.eq(row_x),
                    tile.y.eq(tile.y + kernel.dilation_y),
                ]
        return m
