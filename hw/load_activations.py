"""LOAD.A: gathers windows of memory rows, with padding, into activation SRAM.

queue -> LoadActivations (LoadPath -> AxiMaster) -> activation SRAM
"""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import Out, connect, flipped

from systolith import isa
from systolith.config import Config
from systolith.hw.decode import connect_start, is_form
from systolith.hw.interfaces import ErrorCode, ReadBus, Regions, SramWrite, UnitPort, fields_layout, header, payload
from systolith.hw.load_path import LoadPath

__all__ = ["LoadActivations"]

LOAD = isa.FORMATS[isa.Opcode.LOAD, isa.Unit.LOAD_A]
SOURCE = isa.CONFIG_FORMATS[isa.Unit.LOAD_A, 0]
WINDOW = isa.CONFIG_FORMATS[isa.Unit.LOAD_A, 1]
BYTE_BITS = 24
"""A row has fewer than 2^24 bytes."""


class LoadActivations(wiring.Component):
    """The unit LOAD_A.

    Parameters
    ----------
    config : Config

    Members
    -------
    unit : Out(UnitPort)
        Tokens are taken before the first address and given after the last write.
    regions : Out(Regions), bus : Out(ReadBus)
    write : Out(SramWrite(act_depth, 8N))
        Only the lanes of the window are written.

    Addresses of the next instructions go out while this one's data arrives: three cycles for an instruction, one for a
    row or burst. Data: see Extractor.
    """

    unit: wiring.PureInterface
    regions: wiring.PureInterface
    bus: wiring.PureInterface
    write: wiring.PureInterface

    def __init__(self, config: Config):
        self.config = config
        super().__init__(
            {
                "unit": Out(UnitPort()),
                "regions": Out(Regions(config)),
                "bus": Out(ReadBus(config)),
                "write": Out(SramWrite(config.act_depth, 8 * config.array)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        unit = self.unit
        m.submodules.path = path = LoadPath(self.config, BYTE_BITS)
        connect(m, path.regions, flipped(self.regions))
        connect(m, path.bus, flipped(self.bus))
        self._decode(m, path)
        m.d.comb += [
            unit.give.eq(path.give),
            unit.retired.eq(path.retired),
            unit.retired_index.eq(path.retired_index),
            unit.busy.eq(path.busy),
            unit.fault.eq(path.fault),
            path.halt.eq(unit.halt),
            self.write.valid.eq(path.word.valid),
            path.word.ready.eq(self.write.ready),
            self.write.address.eq(path.word.p.address),
            self.write.data.eq(path.word.p.data),
            self.write.mask.eq(path.word.p.mask),
        ]
        return m

    def _decode(self, m: Module, path: LoadPath):
        """Instruction and constants -> job."""
        instruction, job = self.unit.instruction, path.job.p
        word = instruction.p.word
        source, window = Signal(fields_layout(SOURCE)), Signal(fields_layout(WINDOW))
        load = payload(LOAD, word)
        is_load, is_source, is_window = (is_form(form, word) for form in (LOAD, SOURCE, WINDOW))
        measured, ready = Signal(), Signal()

        # Cycle 1: from the first window to the last one.
        distance = Signal(24)
        # Cycle 2: bytes of a row that the windows touch, and that exist.
        begin, count = Signal(16), Signal(BYTE_BITS)
        end = Signal(signed(26))
        exist = Mux(end < source.row_bytes, end, source.row_bytes)
        m.d.comb += end.eq(load.x0 + distance + window.length)
        m.d.sync += [
            distance.eq((load.cols - 1)[:12] * window.step),
            begin.eq(Mux(load.x0 < 0, 0, load.x0)),
            count.eq(Mux(exist > load.x0, exist - Mux(load.x0 < 0, 0, load.x0), 0)),
            measured.eq(instruction.valid & ~instruction.ready),
            ready.eq(measured & ~instruction.ready),
        ]
        with m.If(exist <= 0):
            m.d.sync += count.eq(0)

        # Cycle 3: start.
        m.d.comb += [
            job.region.eq(load.region),
            job.offset.eq(load.offset + begin),
            job.row_pitch.eq(source.row_pitch),
            job.row_step.eq(source.row_step),
            job.height.eq(source.height),
            job.row_stride.eq(window.row_stride),
            job.depth.eq(self.config.act_depth),
            job.context.lead.eq(Mux(load.x0 < 0, load.x0, 0)),
            job.context.low.eq(window.lane - load.x0),
            job.context.high.eq(window.lane - load.x0 + source.row_bytes),
            job.context.step.eq(window.step),
            job.context.length.eq(window.length),
            job.context.lane.eq(window.lane),
            job.context.zero_point.eq(window.zero_point),
            job.context.write.eq(is_load),
            job.context.index.eq(instruction.p.index),
            job.context.signal.eq(header(word).signal),
            job.rows.eq(1),
            job.context.cols.eq(1),
        ]
        with m.If(is_load):
            m.d.comb += [
                job.rows.eq(load.rows),
                job.bytes.eq(count),
                job.y.eq(load.y0),
                job.sram.eq(load.sram),
                job.cols.eq(load.cols),
                job.context.cols.eq(load.cols),
            ]
            empty = (load.rows == 0) | (load.cols == 0) | (window.length == 0) | (window.step == 0)
            with m.If(empty | (window.lane + window.length > self.config.array)):
                m.d.comb += job.code.eq(ErrorCode.OPERAND)
        with m.Elif(~is_source & ~is_window):
            m.d.comb += job.code.eq(ErrorCode.OPCODE)
        start = connect_start(m, self.unit, path.job, ready & ~path.stopped)
        with m.If(start & is_source):
            m.d.sync += source.eq(payload(SOURCE, word))
        with m.If(start & is_window):
            m.d.sync += window.eq(payload(WINDOW, word))
