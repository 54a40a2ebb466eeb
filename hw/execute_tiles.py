"""EXECUTE's row stage, first half: takes instructions with their tokens, and works out where each K tile starts.

WeightStage -> TileStage -> RowStage
There are no multipliers: what must be multiplied by the row stride is added up, five bits a cycle, while the rows of
the instruction before still flow.
"""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from systolith import isa
from systolith.hw.decode import is_form
from systolith.hw.execute_weights import EXECUTE, INPUT, KERNEL
from systolith.hw.interfaces import INDEX_BITS, Issued, TokenPort, fields_layout, header, payload
from systolith.hw.multiply import DIGIT, STEPS, partial
from systolith.hw.retire import Started

__all__ = ["Tile", "TileStage"]

ADDRESS_BITS = 18
POSITION_BITS = 22
"""Holds any input row or column an instruction reaches: 14 bits of start, 12 + 8 of strides, 8 + 8 of dilation."""


class Tile(data.Struct):
    """One K tile: the input position of its first row and how the others follow; `last` of its instruction.

    `y` and `x` are two's complement; as unsigned numbers, positions before the tensor are beyond it too.
    """

    address: ADDRESS_BITS
    y: POSITION_BITS
    x: POSITION_BITS
    stride_y: 8
    stride_x: 8
    line_step: ADDRESS_BITS
    rows: 12
    cols: 12
    height: 14
    width: 14
    zero_point: signed(8)
    acc: 14
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
        active, step, settled = Signal(), Signal(range(STEPS + 1)), Signal()
        taken = self.tile.valid & self.tile.ready
        m.d.comb += [
            self.tile.valid.eq(active & (step == 0) & settled & ~self.halt),
            self.busy.eq(active),
        ]

        # Take an instruction.
        config_input, config_kernel = Signal(fields_layout(INPUT)), Signal(fields_layout(KERNEL))
        is_execute, accept, start = is_form(EXECUTE, word), Signal(), Signal()
        wanted = self.instruction.valid & ~self.halt
        m.d.comb += [
            self.tokens.need.eq(Mux(wanted, header(word).wait & ~(1 << isa.Unit.LOAD_W), 0)),
            self.tokens.index.eq(self.instruction.p.index),
            self.started.valid.eq(wanted & self.tokens.ready & (~is_execute | ~active | (taken & tile.last))),
            self.started.p.signal.eq(header(word).signal),
            self.started.p.index.eq(self.instruction.p.index),
            self.started.p.executes.eq(is_execute),
            accept.eq(self.started.valid & self.started.ready),
            start.eq(accept & is_execute),
            self.tokens.take.eq(accept),
            self.instruction.ready.eq(accept),
        ]
        with m.If(accept & is_form(INPUT, word)):
            m.d.sync += config_input.eq(payload(INPUT, word))
        with m.If(accept & is_form(KERNEL, word)):
            m.d.sync += config_kernel.eq(payload(KERNEL, word))

        # Where the row of kernels, and the kernel position, that the tile belongs to start.
        row_address, tap_address, row_x = Signal(ADDRESS_BITS), Signal(ADDRESS_BITS), Signal(POSITION_BITS)
        block_stride, kernel_step = Signal(ADDRESS_BITS), Signal(ADDRESS_BITS)
        kernel, left_y = Signal(fields_layout(KERNEL)), Signal(8)
        left_x, left_blocks = Signal(8), Signal(12)
        # What is still to be multiplied, least digit first, and the row stride, shifted to that digit.
        factor_y0, factor_stride, factor_dilation = Signal(14), Signal(8), Signal(8)
        row_stride = Signal(ADDRESS_BITS)

        m.d.sync += [
            settled.eq(~(start | taken)),
            tile.last.eq((left_blocks == 1) & (left_x == 1) & (left_y == 1)),
        ]
        with m.If(start):
            execute = payload(EXECUTE, word)
            m.d.sync += [
                active.eq(1),
                step.eq(STEPS),
                kernel.eq(config_kernel),
                left_y.eq(config_kernel.kernel_y),
                left_x.eq(config_kernel.kernel_x),
                left_blocks.eq(config_kernel.blocks),
                block_stride.eq(config_input.block_stride),
                row_stride.eq(config_input.row_stride),
                # y0 is signed: y0 = (y0 + 2^13) - 2^13, and the first is its bits with the sign inverted.
                factor_y0.eq(execute.y0.as_unsigned() ^ (1 << 13)),
                tile.address.eq(execute.act + execute.x0 - (config_input.row_stride << 13)),
                factor_stride.eq(config_kernel.stride_y),
                factor_dilation.eq(config_kernel.dilation_y),
                tile.line_step.eq(0),
                kernel_step.eq(0),
                row_x.eq(execute.x0),
                tile.y.eq(execute.y0),
                tile.x.eq(execute.x0),
                tile.stride_y.eq(config_kernel.stride_y),
                tile.stride_x.eq(config_kernel.stride_x),
                tile.rows.eq(execute.rows),
                tile.cols.eq(execute.cols),
                tile.height.eq(config_input.height),
                tile.width.eq(config_input.width),
                tile.zero_point.eq(config_input.zero_point),
                tile.acc.eq(execute.acc),
                tile.accumulate.eq(execute.accumulate),
                tile.index.eq(self.instruction.p.index),
            ]
        with m.Elif(step != 0):
            address = tile.address + partial(factor_y0, row_stride)
            m.d.sync += [
                step.eq(step - 1),
                row_stride.eq(row_stride << DIGIT),
                factor_y0.eq(factor_y0 >> DIGIT),
                factor_stride.eq(factor_stride >> DIGIT),
                factor_dilation.eq(factor_dilation >> DIGIT),
                *(start_address.eq(address) for start_address in (row_address, tap_address, tile.address)),
                tile.line_step.eq(tile.line_step + partial(factor_stride, row_stride)),
                kernel_step.eq(kernel_step + partial(factor_dilation, row_stride)),
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
