"""LOAD.A: gathers windows of memory rows, with padding, into activation SRAM.

queue -> LoadActivations (LoadPath -> AxiMaster) -> activation SRAM
"""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import Out, connect, flipped

from systolith import isa
from systolith.config import Config
from systolith.hw.dma.load_path import LoadPath
from systolith.hw.interfaces import ErrorCode, ReadBus, Regions, SramWrite, UnitPort, header, payload
from systolith.hw.lib.decode import config_register, connect_start, is_form, packed
from systolith.hw.lib.retire import connect_retired

__all__ = ["LoadActivations"]

LOAD = isa.form("LOAD.A")
SOURCE = isa.form("CONFIG.LOAD_A.source")
WINDOW = isa.form("CONFIG.LOAD_A.window")
BYTE_BITS = SOURCE["row_bytes"].bits
"""Of the number of bytes in a row."""


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
        connect_retired(m, unit, path)
        self._decode(m, path)
        m.d.comb += [
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
        instruction = self.unit.instruction
        word = instruction.p.word
        source, window = (config_register(m, instruction, form) for form in (SOURCE, WINDOW))
        load = payload(LOAD, word)
        is_load, is_source, is_window = (is_form(form, word) for form in (LOAD, SOURCE, WINDOW))
        empty = (load.rows == 0) | (load.cols == 0) | (window.length == 0) | (window.step == 0)
        code = Signal(ErrorCode)
        with m.If(is_load & (empty | (window.lane + window.length > self.config.array))):
            m.d.comb += code.eq(ErrorCode.OPERAND)
        with m.Elif(~is_load & ~is_source & ~is_window):
            m.d.comb += code.eq(ErrorCode.OPCODE)

        # Cycle 1: from the first window to the last one.
        distance, measured = Signal(isa.COUNT_BITS + WINDOW["step"].bits), Signal()
        m.d.sync += [
            distance.eq((load.cols - 1)[: isa.COUNT_BITS] * window.step),
            measured.eq(instruction.valid & ~instruction.ready),
        ]

        # Cycle 2: bytes of a row that the windows touch, and that exist.
        before = Mux(load.x0 < 0, load.x0, 0)
        after = Mux(load.x0 < 0, 0, load.x0)
        end = Signal(signed(BYTE_BITS + 2))
        last = Mux(end < source.row_bytes, end, source.row_bytes)
        count, ready = Signal(BYTE_BITS), Signal()
        m.d.comb += end.eq(load.x0 + distance + window.length)
        m.d.sync += [count.eq(Mux(last > after, last - after, 0)), ready.eq(measured & ~instruction.ready)]

        # Cycle 3: start. A CONFIG is a row of one word that is not written.
        context = {
            "lead": before,
            "low": window.lane - load.x0,
            "high": window.lane - load.x0 + source.row_bytes,
            "step": window.step,
            "length": window.length,
            "lane": window.lane,
            "zero_point": window.zero_point,
            "cols": Mux(is_load, load.cols, 1),
            "write": is_load,
            "index": instruction.p.index,
            "signal": header(word).signal,
        }
        job = {
            "region": load.region,
            "offset": load.offset + after,
            "bytes": Mux(is_load, count, 0),
            "row_pitch": source.row_pitch,
            "rows": Mux(is_load, load.rows, 1),
            "y": load.y0,
            "row_step": source.row_step,
            "height": source.height,
            "sram": Mux(is_load, load.sram, 0),
            "cols": Mux(is_load, load.cols, 0),
            "row_stride": window.row_stride,
            "depth": self.config.act_depth,
            "code": code,
            "context": context,
        }
        m.d.comb += path.job.p.eq(packed(m, path.job.p.shape(), job))
        connect_start(m, self.unit, path.job, ready & ~path.stopped, code)
