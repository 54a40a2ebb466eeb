"""STORE: writes rows of activation SRAM to memory.

queue -> Store: RowAccess -+-> bursts -> AxiMaster <- beats <- Packer <-+
                           +-> ReadWords (activation SRAM) -------------+
"""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import Out, connect, flipped

from systolith import isa
from systolith.config import Config
from systolith.hw.dma.bounds import beat_bits
from systolith.hw.dma.burst import BurstSplitter
from systolith.hw.dma.packer import Packer
from systolith.hw.dma.row_access import RowAccess
from systolith.hw.dma.sram_reader import ReadWords, words_row
from systolith.hw.dma.write_ledger import Ledger
from systolith.hw.interfaces import INDEX_BITS, ErrorCode, Regions, SramRead, UnitPort, WriteBus, header, payload
from systolith.hw.lib.decode import config_register, connect_start, is_form, packed
from systolith.hw.lib.queue import Queue
from systolith.hw.lib.retire import connect_retired
from systolith.isa import UNITS

__all__ = ["Store"]

STORE = isa.form("STORE")
TARGET = isa.form("CONFIG.STORE.target")
ROWS_AHEAD = 4


class StoreContext(data.Struct):
    """What travels with an instruction's rows."""

    cols: isa.COUNT_BITS
    config: 1
    index: INDEX_BITS
    signal: UNITS


class Store(wiring.Component):
    """The unit STORE.

    Parameters
    ----------
    config : Config

    Members
    -------
    unit : Out(UnitPort)
        Tokens are taken before the first SRAM read and given after the last write response.
    regions : Out(Regions), bus : Out(WriteBus)
    read : Out(SramRead(act_depth, 8N))

    One cycle for an instruction, one for a row or burst, several bursts in flight; SRAM is read ahead of the next rows
    and instructions. Data: see Packer.
    """

    unit: wiring.PureInterface
    regions: wiring.PureInterface
    bus: wiring.PureInterface
    read: wiring.PureInterface

    def __init__(self, config: Config):
        self.config = config
        self.byte_bits = 12 + config.array.bit_length()
        super().__init__(
            {
                "unit": Out(UnitPort()),
                "regions": Out(Regions(config)),
                "bus": Out(WriteBus(config)),
                "read": Out(SramRead(config.act_depth, 8 * config.array)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config, unit, bits = self.config, self.unit, self.byte_bits
        m.submodules.access = access = RowAccess(config, bits, StoreContext)
        m.submodules.splitter = splitter = BurstSplitter(config, beat_bits(config, bits))
        m.submodules.queue = queue = Queue(words_row(config), ROWS_AHEAD)
        m.submodules.words = words = ReadWords(config)
        m.submodules.packer = packer = Packer(config)
        m.submodules.ledger = ledger = Ledger(config)
        connect(m, flipped(self.regions), access.regions)
        connect(m, queue.o, words.row)
        connect(m, words.read, flipped(self.read))
        connect(m, words.word, packer.word)
        connect(m, packer.beat, flipped(self.bus.beat))
        self._decode(m, access)
        self._pass_on(m, access, splitter, queue, ledger)
        connect_retired(m, unit, ledger)
        m.d.comb += [
            access.halt.eq(unit.halt),
            access.failed.code.eq(Mux(ledger.failed, ErrorCode.AXI_WRITE, ErrorCode.NONE)),
            access.failed.index.eq(ledger.failed_index),
            unit.fault.eq(access.fault),
            words.halt.eq(access.stopped),
            ledger.halt.eq(access.stopped),
            ledger.done.eq(self.bus.done),
            ledger.error.eq(self.bus.error),
            unit.busy.eq(access.busy | splitter.burst.valid | ledger.busy),
        ]
        return m

    def _decode(self, m: Module, access: RowAccess):
        """Instruction and constants -> job."""
        word = self.unit.instruction.p.word
        target, store = config_register(m, self.unit.instruction, TARGET), payload(STORE, word)
        is_store, is_target = is_form(STORE, word), is_form(TARGET, word)
        code = Signal(ErrorCode)
        with m.If(is_store & ((store.rows == 0) | (store.cols == 0))):
            m.d.comb += code.eq(ErrorCode.OPERAND)
        with m.Elif(~is_store & ~is_target):
            m.d.comb += code.eq(ErrorCode.OPCODE)
        context = {
            "cols": store.cols,
            "config": is_target,
            "index": self.unit.instruction.p.index,
            "signal": header(word).signal,
        }
        job = {
            "region": store.region,
            "offset": store.offset,
            "bytes": Mux(is_store, store.cols * self.config.array, 0),
            "row_pitch": target.row_pitch,
            "rows": Mux(is_store, store.rows, 1),
            "height": 1,
            "sram": Mux(is_store, store.sram, 0),
            "cols": Mux(is_store, store.cols, 0),
            "row_stride": target.row_stride,
            "depth": self.config.act_depth,
            "code": code,
            "context": context,
        }
        m.d.comb += access.job.p.eq(packed(m, access.job.p.shape(), job))
        connect_start(m, self.unit, access.job, ~access.stopped, code)

    def _pass_on(self, m: Module, access: RowAccess, splitter: BurstSplitter, queue: Queue, ledger: Ledger):
        """A row goes to the splitter and to the SRAM reader at once; each burst into the ledger."""
        row, burst, request = access.row, splitter.burst, self.bus.request
        context = row.p.context
        splitting = Signal(data.StructLayout({"index": INDEX_BITS, "signal": UNITS, "last": 1}))
        m.d.comb += [
            splitter.span.valid.eq(row.valid & ~context.config & queue.i.ready),
            splitter.span.p.address.eq(row.p.address),
            splitter.span.p.beats.eq(row.p.beats),
            queue.i.valid.eq(splitter.span.valid & splitter.span.ready),
            queue.i.p.sram.eq(row.p.sram),
            queue.i.p.cols.eq(context.cols),
            queue.i.p.phase.eq(row.p.address),
            request.p.address.eq(burst.p.address),
            request.p.beats.eq(burst.p.beats),
        ]
        with m.If(queue.i.valid):
            m.d.sync += [
                splitting.index.eq(context.index),
                splitting.signal.eq(context.signal),
                splitting.last.eq(row.p.last),
            ]

        with m.If(burst.valid):
            m.d.comb += [
                request.valid.eq(ledger.entry.ready & ~access.stopped),
                burst.ready.eq(request.valid & request.ready),
                ledger.entry.valid.eq(burst.ready),
                ledger.entry.p.index.eq(splitting.index),
                ledger.entry.p.signal.eq(splitting.signal),
                ledger.entry.p.last.eq(burst.p.last & splitting.last),
                row.ready.eq(queue.i.valid),
            ]
        with m.Else():
            # An instruction without bursts waits until those before it are in the ledger.
            m.d.comb += [
                ledger.entry.valid.eq(row.valid & context.config),
                ledger.entry.p.index.eq(context.index),
                ledger.entry.p.signal.eq(context.signal),
                ledger.entry.p.last.eq(1),
                ledger.entry.p.config.eq(1),
                row.ready.eq(queue.i.valid | (ledger.entry.valid & ledger.entry.ready)),
            ]
