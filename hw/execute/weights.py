"""EXECUTE's weight stage: takes instructions from the queue, and streams the weights of their K tiles into the array.

queue -> WeightStage -> (a few instructions) -> TileStage -> RowStage
              |-> weight SRAM -> array
It runs ahead of the rows: the weights of the next tile, of this instruction or the next one, load while this tile's
rows flow.
"""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from systolith import isa
from systolith.config import Config
from systolith.hw.array.array import WeightWord
from systolith.hw.interfaces import (
    INDEX_BITS,
    READ_LATENCY,
    ErrorCode,
    Fault,
    Issued,
    SramRead,
    TokenPort,
    payload,
)
from systolith.hw.lib.decode import config_register, connect_start, is_form
from systolith.hw.lib.delay import delayed

__all__ = ["EXECUTE", "INPUT", "KERNEL", "WEIGHT_DELAY", "WeightStage"]

EXECUTE = isa.form("EXECUTE")
INPUT = isa.form("CONFIG.EXECUTE.input")
KERNEL = isa.form("CONFIG.EXECUTE.kernel")

WEIGHT_DELAY = 1 + READ_LATENCY
"""Cycles from the decision for a weight word to the word at the array."""


class WeightStage(wiring.Component):
    """Checks instructions, takes their LOAD_W token, and streams N weight words for each K tile.

    Members
    -------
    instruction : In(stream of Issued), issued : Out(stream of Issued)
        From the queue, and on to the next stage once checked and its token taken; one a cycle.
    tokens : Out(TokenPort)
        Only `wait & LOAD_W`.
    weights : Out(SramRead(weight_depth, 8N)), weight : Out(WeightWord(N))
        Reads are always taken (nobody else reads); the data goes straight to the array.
    swapped : In(1)
        Pulse: the first row of a tile is on its way, so its shadow weights are free: words may follow from the next
        cycle on.
    loaded : Out(1)
        Pulse: from the next cycle on, the tile whose words are being read may start its rows.
    busy : Out(1), fault : Out(Fault), halt : In(1)
        A fault stays until `halt` comes; see UnitPort.

    One instruction is prepared while another streams, so that words come every cycle if tiles are ready to take them.
    """

    instruction: stream.Interface
    issued: stream.Interface
    tokens: wiring.PureInterface
    weights: wiring.PureInterface
    weight: data.View
    swapped: Signal
    loaded: Signal
    busy: Signal
    fault: data.View
    halt: Signal

    def __init__(self, config: Config):
        self.config = config
        super().__init__(
            {
                "instruction": In(stream.Signature(Issued)),
                "issued": Out(stream.Signature(Issued)),
                "tokens": Out(TokenPort()),
                "weights": Out(SramRead(config.weight_depth, 8 * config.array)),
                "weight": Out(WeightWord(config.array)),
                "swapped": In(1),
                "loaded": Out(1),
                "busy": Out(1),
                "fault": Out(Fault),
                "halt": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        # The next instruction's job: what the stream below needs of it.
        job = Signal(
            data.StructLayout(
                {
                    "address": isa.ADDRESS_BITS,
                    "kernel_y": isa.STEP_BITS,
                    "kernel_x": isa.STEP_BITS,
                    "blocks": isa.COUNT_BITS,
                    "index": INDEX_BITS,
                }
            )
        )
        waiting, take = Signal(), Signal()
        error = self._accept(m, job, waiting, take)
        out_of_range, index = self._stream(m, job, waiting, take)

        # The older instruction's fault first.
        with m.If(out_of_range):
            m.d.sync += [self.fault.code.eq(ErrorCode.SRAM_RANGE), self.fault.index.eq(index)]
        with m.Elif(~self.halt):
            m.d.sync += [self.fault.code.eq(error), self.fault.index.eq(self.instruction.p.index)]
        return m

    def _accept(self, m: Module, job, waiting: Signal, take: Signal) -> Signal:
        """Take instructions in order: check, wait for the token, apply CONFIG, keep one job. Returns the error."""
        word = self.instruction.p.word
        kernel, execute = config_register(m, self.instruction, KERNEL), payload(EXECUTE, word)
        is_execute = is_form(EXECUTE, word)

        error = Signal(ErrorCode)
        counts = (execute.rows, execute.cols, kernel.kernel_y, kernel.kernel_x, kernel.blocks)
        with m.If(self.instruction.valid):
            with m.If(~is_execute & ~is_form(INPUT, word) & ~is_form(KERNEL, word)):
                m.d.comb += error.eq(ErrorCode.OPCODE)
            with m.Elif(is_execute & Cat(count == 0 for count in counts).any()):
                m.d.comb += error.eq(ErrorCode.OPERAND)

        allowed, room = ~self.halt & (error == ErrorCode.NONE), ~(is_execute & waiting)
        accept = connect_start(m, self, self.issued, allowed, units=1 << isa.Unit.LOAD_W, room=room)
        m.d.comb += self.issued.p.eq(self.instruction.p)
        with m.If(take):
            m.d.sync += waiting.eq(0)
        with m.If(accept & is_execute):
            m.d.sync += [
                waiting.eq(1),
                job.address.eq(execute.weight),
                job.kernel_y.eq(kernel.kernel_y),
                job.kernel_x.eq(kernel.kernel_x),
                job.blocks.eq(kernel.blocks),
                job.index.eq(self.instruction.p.index),
            ]
        return error

    def _stream(self, m: Module, job, waiting: Signal, take: Signal):
        """Read N words a tile, each tile as soon as the shadow weights are free. Returns: out of range, whose index."""
        size, depth = self.config.array, self.config.weight_depth
        now, active = Signal.like(job), Signal()
        kernel_x, blocks = Signal.like(job.kernel_x), Signal.like(job.blocks)
        word, free = Signal(ceil_log2(size)), Signal(init=1)
        issue, last_tile, out_of_range = Signal(), Signal(), Signal()
        tile_ends = issue & (word == size - 1)
        job_ends = tile_ends & last_tile
        m.d.comb += [
            issue.eq(active & ~self.halt & ((word != 0) | free)),
            take.eq(waiting & (~active | job_ends) & ~self.halt),
            self.loaded.eq(issue & (word == size - 2)),
            out_of_range.eq(issue & (now.address >= depth)),
            self.busy.eq(waiting | active),
        ]

        # Settles long before the tile ends.
        m.d.sync += last_tile.eq((now.blocks == 1) & (now.kernel_x == 1) & (now.kernel_y == 1))
        with m.If(self.swapped):
            m.d.sync += free.eq(1)
        with m.If(issue):
            m.d.sync += [word.eq(word + 1), now.address.eq(now.address + 1)]
            with m.If(word == 0):
                m.d.sync += free.eq(0)
        with m.If(tile_ends):
            m.d.sync += [word.eq(0), now.blocks.eq(now.blocks - 1)]
            with m.If(now.blocks == 1):
                m.d.sync += [now.blocks.eq(blocks), now.kernel_x.eq(now.kernel_x - 1)]
                with m.If(now.kernel_x == 1):
                    m.d.sync += [now.kernel_x.eq(kernel_x), now.kernel_y.eq(now.kernel_y - 1)]
        with m.If(take):
            m.d.sync += [active.eq(1), now.eq(job), kernel_x.eq(job.kernel_x), blocks.eq(job.blocks)]
        with m.Elif(job_ends):
            m.d.sync += active.eq(0)

        # Cycle 2: the request; cycle 4: data, with its mark.
        m.d.sync += [
            self.weights.valid.eq(issue & ~out_of_range),
            self.weights.address.eq(now.address),
        ]
        m.d.comb += [
            self.weight.value.as_value().eq(self.weights.data),
            self.weight.first.eq(delayed(m, issue & (word == 0), WEIGHT_DELAY, "first")),
        ]
        return out_of_range, now.index
