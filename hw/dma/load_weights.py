"""LOAD.W: copies contiguous bytes of memory into weight SRAM or parameter SRAM.

queue -> LoadWeights (LoadPath -> AxiMaster) -> weight SRAM, parameter SRAM
"""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import Out, connect, flipped

from systolith import isa
from systolith.config import Config
from systolith.hw.dma.load_path import LoadPath
from systolith.hw.interfaces import ErrorCode, ReadBus, Regions, SramWrite, UnitPort, has_value, header, payload
from systolith.hw.lib.decode import connect_start, is_form, packed
from systolith.hw.lib.retire import connect_retired

__all__ = ["LoadWeights"]

LOAD = isa.form("LOAD.W")


class LoadWeights(wiring.Component):
    """The unit LOAD_W.

    Parameters
    ----------
    config : Config

    Members
    -------
    unit : Out(UnitPort)
        Tokens are taken before the first address and given after the last write.
    regions : Out(Regions), bus : Out(ReadBus)
    weights : Out(SramWrite(weight_depth, 8N)), parameters : Out(SramWrite(8 * param_depth, 8N))
        All lanes of a word are written.

    Addresses of the next instructions go out while this one's data arrives: one cycle for an instruction, one for a
    burst; one beat a cycle, or one word a cycle if a beat holds more than a word.
    """

    unit: wiring.PureInterface
    regions: wiring.PureInterface
    bus: wiring.PureInterface
    weights: wiring.PureInterface
    parameters: wiring.PureInterface

    def __init__(self, config: Config):
        self.config = config
        super().__init__(
            {
                "unit": Out(UnitPort()),
                "regions": Out(Regions(config)),
                "bus": Out(ReadBus(config)),
                "weights": Out(SramWrite(config.weight_depth, 8 * config.array)),
                "parameters": Out(SramWrite(8 * config.param_depth, 8 * config.array)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        n, unit = self.config.array, self.unit
        m.submodules.path = path = LoadPath(self.config, LOAD["words"].bits + n.bit_length())
        connect(m, path.regions, flipped(self.regions))
        connect(m, path.bus, flipped(self.bus))
        connect_retired(m, unit, path)

        word, index = unit.instruction.p.word, unit.instruction.p.index
        load = payload(LOAD, word)
        code = Signal(ErrorCode)
        with m.If(~is_form(LOAD, word)):
            m.d.comb += code.eq(ErrorCode.OPCODE)
        with m.Elif(load.words == 0):
            m.d.comb += code.eq(ErrorCode.OPERAND)
        context = {
            "high": load.words * n,
            "step": n,
            "length": n,
            "cols": load.words,
            "target": load.target,
            "write": 1,
            "index": index,
            "signal": header(word).signal,
        }
        job = {
            "region": load.region,
            "offset": load.offset,
            "bytes": load.words * n,
            "rows": 1,
            "height": 1,
            "sram": load.sram,
            "cols": load.words,
            "depth": Mux(
                has_value(load.target, isa.LoadTarget.PARAMETERS), 8 * self.config.param_depth, self.config.weight_depth
            ),
            "code": code,
            "context": context,
        }
        m.d.comb += path.job.p.eq(packed(m, path.job.p.shape(), job))
        connect_start(m, unit, path.job, ~path.stopped, code)

        is_parameter = has_value(path.word.p.target, isa.LoadTarget.PARAMETERS)
        m.d.comb += [
            unit.busy.eq(path.busy),
            unit.fault.eq(path.fault),
            path.halt.eq(unit.halt),
            self.weights.valid.eq(path.word.valid & ~is_parameter),
            self.parameters.valid.eq(path.word.valid & is_parameter),
            path.word.ready.eq(Mux(is_parameter, self.parameters.ready, self.weights.ready)),
        ]
        for port in (self.weights, self.parameters):
            m.d.comb += [
                port.address.eq(path.word.p.address),
                port.data.eq(path.word.p.data),
                port.mask.eq(path.word.p.mask),
            ]
        return m
