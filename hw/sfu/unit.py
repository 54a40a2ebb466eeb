"""Special function unit (SFU): from accumulators or activations, through windows and arithmetic, into activation SRAM.

One pipeline that always flows, `sfu_lanes` channels a cycle:

setup.py -> walk.py -> memories -> lane.py -> write

Data of an output, and not of a channel, travels beside the lanes. Constants of an instruction are kept in a ring of
contexts. Each stage looks up there the constants of the step that reaches it.
"""

from amaranth.hdl import Cat, Module, Mux, Shape, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.memory import Memory as Ram
from amaranth.lib.wiring import Out, connect

from systolith.config import Config
from systolith.hw.interfaces import INDEX_BITS, READ_LATENCY, SramRead, SramWrite, UnitPort
from systolith.hw.lib.delay import delayed
from systolith.hw.lib.verilog import instantiate
from systolith.hw.sfu import add, lane, reduce, requantize, table
from systolith.hw.sfu.setup import SfuSetup
from systolith.hw.sfu.walk import CONTEXT_BITS, SfuCounts, SfuWalk
from systolith.isa import SfuSource

__all__ = ["PIPELINE", "SpecialFunctionUnit"]

PIPELINE = READ_LATENCY + lane.LATENCY
"""Cycles from the request of an output's last values to the write of its word. Tokens are given in the cycle after."""
REQUANTIZE, ADD, TABLE = (READ_LATENCY + stage for stage in (lane.REQUANTIZE, lane.ADD, lane.TABLE))
"""Cycles from a step to the stages of the lanes."""
# An instruction makes at least one step, of which up to two are on their way from its start to the pipeline.
assert 1 << CONTEXT_BITS >= PIPELINE + 3


class SpecialFunctionUnit(wiring.Component):
    """Runs SFU instructions, and CONFIG of the SFU, in order.

    Parameters
    ----------
    config : Config
        `array`, `sfu_lanes`, `dw_taps`, and the depths of the memories.

    Members
    -------
    unit : Out(UnitPort())
    accumulators : Out(SramRead(acc_depth, 32N)), depthwise : Out(SramRead(dw_depth, 32N)) (with `dw_taps`),
    parameters : Out(SramRead(param_depth, 64N))
        Must always be ready. A row and its parameters are requested again for each `sfu_lanes` of its channels.
    activations : Out(SramRead(act_depth, 8N))
        Words of windows, and second operands. While it is not ready, the step waits and no value enters the pipeline.
    write : Out(SramWrite(act_depth, 8N))
        Whole words. Must always be ready, as ActivationSram promises for this port.
    counts : Out(SfuCounts)

    Throughput is N / sfu_lanes cycles a tap, also from one instruction to the next, and as many more for a second
    operand of activations. A word is written `PIPELINE` cycles after its last request; its instruction retires, and
    gives its tokens, in the cycle after its last write. CONFIG takes one cycle and retires in its turn; that of the
    table, and an instruction with `drain`, first wait until the pipeline is empty. Faults: see SfuSetup and SfuWalk.
    """

    def __init__(self, config: Config):
        self.config = config
        self.lanes = config.sfu_lanes
        self.groups = config.array // config.sfu_lanes
        self.parts = {"sfu_lane": lane.SfuLane()}
        members = {
            "unit": Out(UnitPort()),
            "accumulators": Out(SramRead(config.acc_depth, 32 * config.array)),
            "activations": Out(SramRead(config.act_depth, 8 * config.array)),
            "parameters": Out(SramRead(config.param_depth, 64 * config.array)),
            "write": Out(SramWrite(config.act_depth, 8 * config.array)),
            "counts": Out(SfuCounts),
        }
        if config.dw_taps:
            members["depthwise"] = Out(SramRead(config.dw_depth, 32 * config.array))
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        m.submodules.setup = setup = SfuSetup(self.config)
        m.submodules.walker = walk = SfuWalk(self.config)
        connect(m, setup.job, walk.job)
        unit, step = self.unit, walk.step
        m.d.comb += [
            unit.instruction.ready.eq(setup.instruction.ready),
            setup.instruction.valid.eq(unit.instruction.valid),
            setup.instruction.payload.eq(unit.instruction.payload),
            unit.tokens.need.eq(walk.tokens.need),
            unit.tokens.take.eq(walk.tokens.take),
            unit.tokens.index.eq(walk.tokens.index),
            walk.tokens.ready.eq(unit.tokens.ready),
            walk.halt.eq(unit.halt),
            unit.fault.eq(walk.fault),
            self.counts.eq(walk.counts),
        ]
        self._request(m, step)
        taken = Signal()
        m.d.comb += taken.eq(step.valid & step.ready)

        job = walk.job.p
        writes, retires, contexts = Signal(PIPELINE), Signal(PIPELINE + 1), Signal(CONTEXT_BITS * PIPELINE)
        m.d.sync += [
            writes.eq(Cat(taken & step.p.write, writes)),
            retires.eq(Cat(taken & step.p.retire, retires)),
            contexts.eq(Cat(step.p.context, contexts)),
        ]
        m.d.comb += walk.empty.eq(~writes.any())

        def recalled(name: str, value, after: int) -> Value:
            """This value of the instruction whose step was made `after` cycles ago."""
            m.submodules[name] = ring = Ram(
                shape=Shape(len(Value.cast(value))), depth=1 << CONTEXT_BITS, init=[],
                attrs={"no_rw_check": 1, "ram_style": "distributed"},
            )  # fmt: skip
            write, read = ring.write_port(), ring.read_port()
            m.d.comb += [
                write.en.eq(walk.begin),
                write.addr.eq(walk.context),
                write.data.eq(value),
                read.addr.eq(contexts.word_select(after - 2, CONTEXT_BITS)),
            ]
            return read.data

        results = self._lanes(m, step.p, taken, walk, recalled)
        word = results
        if self.groups > 1:
            # Channels of earlier groups wait here for those of the last one.
            collected = Signal(8 * (self.config.array - self.lanes), reset_less=True)
            word = Cat(collected, results)
            with m.If(delayed(m, taken & step.p.emit, PIPELINE, "collect_line", reset_less=True)):
                m.d.sync += collected.eq(word[len(results) :])
        m.d.comb += [
            self.write.valid.eq(writes[-1]),
            self.write.address.eq(delayed(m, step.p.dst, PIPELINE, "dst_line", reset_less=True)),
            self.write.data.eq(word),
            self.write.mask.eq(~0),
            unit.busy.eq(walk.active | retires.any()),
            unit.retired.eq(retires[-1]),
        ]
        ended = recalled("ended", Cat(job.index, job.signal), PIPELINE + 1)
        m.d.comb += unit.retired_index.eq(ended[:INDEX_BITS])
        with m.If(unit.retired):
            m.d.comb += unit.give.eq(ended[INDEX_BITS:])
        return m

    def _request(self, m: Module, step):
        """The memories' side of a step; only activation SRAM can refuse it."""
        allowed = Signal()
        m.d.comb += [
            allowed.eq(step.valid & ~self.unit.halt),
            self.activations.valid.eq(allowed & step.p.reads_activations),
            self.activations.address.eq(step.p.word),
            step.ready.eq(~self.unit.halt & (~step.p.reads_activations | self.activations.ready)),
        ]
        rows = {SfuSource.ACCUMULATORS: self.accumulators}
        if self.config.dw_taps:
            rows[SfuSource.DEPTHWISE] = self.depthwise
        for memory, port in rows.items():
            m.d.comb += [
                port.valid.eq(allowed & step.p.tap & step.p.inside & (step.p.memory == memory)),
                port.address.eq(step.p.row),
            ]

    def _lanes(self, m: Module, step, taken: Signal, walk: SfuWalk, recalled) -> Signal:
        """Everything from the memories' data to the results, PIPELINE cycles after the step."""
        numbers, control, fill = walk.job.p.numbers, Signal(lane.Control), Signal(lane.Fill)
        select = Cat(step.memory == SfuSource.ACTIVATIONS, step.inside, step.pad)
        # Reset, because what enters must not be lost among values that mean nothing.
        fold = delayed(m, Cat(taken & step.tap, step.first, step.sum), READ_LATENCY + reduce.FOLD_AFTER, "fold_line")
        zeros = Cat(numbers.zero_a, numbers.zero_b)
        output = recalled("output", Cat(numbers.output, numbers.multiply), REQUANTIZE + requantize.CONSTANTS_AFTER)
        adds = recalled("adds", Cat(numbers.add, numbers.sum_output), ADD + add.ENABLE_AFTER)
        m.d.comb += [
            control.select.eq(delayed(m, select, READ_LATENCY, "select_line", reset_less=True)),
            control.fold.eq(fold),
            control.zeros.eq(recalled("zeros", zeros, READ_LATENCY + reduce.OPERAND_AFTER)),
            control.multiply.eq(recalled("multiply", numbers.multiply, READ_LATENCY + reduce.MULTIPLY_AFTER)),
            control.output.eq(output[:-1]),
            control.joint.eq(output[-1]),
            control.add_zeros.eq(recalled("add_zeros", zeros, ADD)),
            control.factors.eq(recalled("factors", numbers.factors, ADD + add.FACTORS_AFTER)),
            control.shift.eq(recalled("shift", numbers.shift, ADD + add.SHIFT_AFTER)),
            control.add.eq(adds[0]),
            control.sum_output.eq(adds[1:]),
            control.lookup.eq(recalled("lookup", numbers.lookup, TABLE + table.ENABLE_AFTER)),
            fill.valid.eq(walk.fill),
            fill.index.eq(walk.job.p.table_index),
            fill.entries.eq(walk.job.p.table_entries),
        ]

        # Data of the memories arrives; later that of the parameters, requested so that it does when it is needed.
        ask = REQUANTIZE - READ_LATENCY
        m.d.comb += [
            self.parameters.valid.eq(delayed(m, taken & step.emit, ask, "emit_line")),
            self.parameters.address.eq(recalled("param", numbers.param, ask)),
        ]
        group = delayed(m, step.group, READ_LATENCY, "group_line", reset_less=True)
        parameter_group = delayed(m, group, REQUANTIZE - READ_LATENCY, "parameter_group_line", reset_less=True)
        sums = self.accumulators.data
        if self.config.dw_taps:
            from_depthwise = delayed(
                m, step.memory == SfuSource.DEPTHWISE, READ_LATENCY, "depthwise_line", reset_less=True
            )
            sums = Mux(from_depthwise, self.depthwise.data, sums)
        accumulator = self._choose(m, "accumulator", sums, 32, group)
        activation = self._choose(m, "activation", self.activations.data, 8, group)
        parameter = self._choose(m, "parameter", self.parameters.data, 64, parameter_group)

        results = Signal(8 * self.lanes)
        for i in range(self.lanes):
            m.submodules[f"lane_{i}"] = instantiate(
                "sfu_lane",
                self.parts["sfu_lane"],
                accumulator=accumulator.word_select(i, 32),
                activation=activation.word_select(i, 8),
                bias=parameter.word_select(2 * i, 32),
                scale=parameter.word_select(2 * i + 1, 32),
                control=control,
                fill=fill,
                output=results.word_select(i, 8),
            )
        return results

    def _choose(self, m: Module, name: str, words, width: int, group) -> Signal:
        """Channels `group` of a word.

        A multiplexer, which costs less than the shift of the whole word that `word_select` with a signal is.
        """
        chosen = Signal(width * self.lanes, name=name)
        with m.Switch(group):
            for i in range(self.groups):
                with m.Case(i) if i < self.groups - 1 else m.Default():
                    m.d.comb += chosen.eq(words[i * len(chosen) : (i + 1) * len(chosen)])
        return chosen
