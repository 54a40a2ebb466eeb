"""EXECUTE, array and accumulators joined, as a component: what the testbench of EXECUTE verilates."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from systolith.config import Config
from systolith.hw.array.accumulators import Accumulators
from systolith.hw.array.array import SystolicArray
from systolith.hw.execute.unit import ExecuteCounts, ExecuteUnit
from systolith.hw.interfaces import SramRead, TokenPort, UnitPort

__all__ = ["ComputeTop"]


class ComputeTop(wiring.Component):
    """The compute half of the accelerator; SRAMs, tokens and queue are the testbench's.

    Members as in `ExecuteUnit` and `Accumulators`.
    """

    def __init__(self, config: Config):
        self.execute = ExecuteUnit(config)
        self.array = SystolicArray(config)
        self.accumulators = Accumulators(config)
        self.parts = {**self.array.parts, **self.accumulators.parts}
        super().__init__(
            {
                "unit": Out(UnitPort()),
                "weight_tokens": Out(TokenPort()),
                "weights": Out(SramRead(config.weight_depth, 8 * config.array)),
                "activations": Out(SramRead(config.act_depth, 8 * config.array)),
                "read": In(SramRead(config.acc_depth, 32 * config.array)),
                "counts": Out(ExecuteCounts),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.execute = execute = self.execute
        m.submodules.array = array = self.array
        m.submodules.accumulators = accumulators = self.accumulators
        for name in ("unit", "weight_tokens", "weights", "activations"):
            connect(m, getattr(execute, name), flipped(getattr(self, name)))
        connect(m, accumulators.read, flipped(self.read))
        m.d.comb += [
            array.row.eq(execute.row),
            array.weight.eq(execute.weight),
            accumulators.sums.eq(array.sums),
            accumulators.control.eq(execute.control),
            execute.finished.eq(accumulators.finished),
            self.counts.eq(execute.counts),
        ]
        return m
