"""Special function unit: from the accumulators, through requantization, into activation SRAM.

One pipeline that always flows: source (a row of accumulators and its parameters) -> requantize, `sfu_lanes` channels a
cycle (requantize.py) -> write of whole words. What belongs to a row, and not to a channel, travels beside it as `Step`.
"""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from systolith.config import Config
from systolith.hw.delay import delayed
from systolith.hw.interfaces import READ_LATENCY, SramRead, SramWrite, UnitPort
from systolith.hw.requantize import CONSTANTS_AFTER, LATENCY, Requantize
from systolith.hw.sfu_source import SfuCounts, SfuSource
from systolith.hw.verilog import instantiate

__all__ = ["PIPELINE", "SpecialFunctionUnit"]

PIPELINE = READ_LATENCY + LATENCY
"""Cycles from the request of a row's last channels to the write of its word. Tokens are given in the cycle after."""


class SpecialFunctionUnit(wiring.Component):
    """Runs SFU instructions, and CONFIG of the SFU, in order.

    Parameters
    ----------
    config : Config
        `array`, `sfu_lanes`, and the depths of the memories.

    Members
    -------
    unit : Out(UnitPort())
    accumulators : Out(SramRead(acc_depth, 32N)), parameters : Out(SramRead(param_depth, 64N))
        Both must always be ready. A row and its parameters are requested again for each `sfu_lanes` of its channels.
    write : Out(SramWrite(act_depth, 8N))
        Whole words. Must always be ready, as ActivationSram promises for this port.
    counts : Out(SfuCounts)

    Throughput is N / sfu_lanes cycles a row, also from one instruction to the next: the constants of CONFIG travel with
    each row, so that nothing waits for the pipeline to drain. A row is written `PIPELINE` cycles after its last
    request; its instruction retires, and gives its tokens, in the cycle after its last write. CONFIG takes one cycle
    and retires in its turn. An instruction that reads or writes outside its memories, or outside its half of the
    accumulators, faults no later than at the first such access, which is not made.
    """

    def __init__(self, config: Config):
        self.config = config
        self.lanes = config.sfu_lanes
        self.groups = config.array // config.sfu_lanes
        self.parts = {"requantize": Requantize()}
        super().__init__(
            {
                "unit": Out(UnitPort()),
                "accumulators": Out(SramRead(config.acc_depth, 32 * config.array)),
                "parameters": Out(SramRead(config.param_depth, 64 * config.array)),
                "write": Out(SramWrite(config.act_depth, 8 * config.array)),
                "counts": Out(SfuCounts),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.source = source = SfuSource(self.config)
        step = source.step
        m.d.comb += [
            self.unit.instruction.ready.eq(source.instruction.ready),
            source.instruction.valid.eq(self.unit.instruction.valid),
            source.instruction.payload.eq(self.unit.instruction.payload),
            self.unit.tokens.need.eq(source.tokens.need),
            self.unit.tokens.take.eq(source.tokens.take),
            self.unit.tokens.index.eq(source.tokens.index),
            source.tokens.ready.eq(self.unit.tokens.ready),
            source.halt.eq(self.unit.halt),
            self.unit.fault.eq(source.fault),
            self.counts.eq(source.counts),
        ]

        # The memories: a row of accumulators and its parameters.
        m.d.comb += [
            self.accumulators.valid.eq(step.read),
            self.accumulators.address.eq(step.row),
            self.parameters.valid.eq(step.read),
            self.parameters.address.eq(step.param),
        ]
        results = self._requantize(m, step)

        # The word: channels of earlier groups wait here for those of the last one.
        size = 8 * self.lanes
        word = results
        if self.groups > 1:
            collected = Signal(8 * self.config.array - size, reset_less=True)
            word = Cat(collected, results)
            m.d.sync += collected.eq(word[size:])
        m.d.comb += [
            self.write.valid.eq(delayed(m, step.write, PIPELINE, "write_line")),
            self.write.address.eq(delayed(m, step.address, PIPELINE, "address_line", reset_less=True)),
            self.write.data.eq(word),
            self.write.mask.eq(~0),
        ]

        give = delayed(m, step.signal, PIPELINE + 1, "signal_line", reset_less=True)
        retires = Signal(PIPELINE + 1)
        m.d.sync += retires.eq(Cat(step.retire, retires))
        m.d.comb += [
            self.unit.busy.eq(source.active | retires.any()),
            self.unit.retired.eq(retires[-1]),
            self.unit.retired_index.eq(delayed(m, step.index, PIPELINE + 1, "index_line", reset_less=True)),
        ]
        with m.If(self.unit.retired):
            m.d.comb += self.unit.give.eq(give)
        return m

    def _requantize(self, m: Module, step) -> Cat:
        """The lanes: READ_LATENCY cycles after the step, its group of channels goes in; LATENCY cycles later, out."""
        group = delayed(m, step.group, READ_LATENCY, "group_line", reset_less=True)
        constants = delayed(m, step.constants, READ_LATENCY + CONSTANTS_AFTER, "constants_line", reset_less=True)
        values, parameters = Signal(32 * self.lanes), Signal(64 * self.lanes)
        # A multiplexer, which costs less than the shift of the whole word that `word_select` with a signal is.
        with m.Switch(group):
            for i in range(self.groups):
                with m.Case(i) if i < self.groups - 1 else m.Default():
                    m.d.comb += [
                        values.eq(self.accumulators.data.word_select(i, len(values))),
                        parameters.eq(self.parameters.data.word_select(i, len(parameters))),
                    ]
        results = Signal(8 * self.lanes)
        for i in range(self.lanes):
            parameter = parameters.word_select(i, 64)
            m.submodules[f"lane_{i}"] = instantiate(
                "requantize",
                self.parts["requantize"],
                accumulator=values.word_select(i, 32),
                bias=parameter[:32],
                scale=parameter[32:],
                constants=constants,
                output=results.word_select(i, 8),
            )
        return results
