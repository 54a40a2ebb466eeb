"""Source of the SFU's pipeline: turns instructions into steps, one for each `sfu_lanes` channels of a row.

instruction queue -> here -> the pipeline of sfu.py, which reads what the steps name and writes the results.
"""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from systolith.config import Config
from systolith.hw.interfaces import INDEX_BITS, UNITS, ErrorCode, Fault, Issued, TokenPort, header, payload
from systolith.hw.requantize import Constants
from systolith.isa import CONFIG_FORMATS, FORMATS, Opcode, Unit

__all__ = ["SfuCounts", "SfuSource", "Step"]

SFU = FORMATS[Opcode.SFU, Unit.SFU]
OUTPUT = CONFIG_FORMATS[Unit.SFU, 0]
MODE_ACCUMULATORS = 0


class SfuCounts(data.Struct):
    """One bit each for a cycle that reads `sfu_lanes` channels of a row, and one in which only a token is missing."""

    busy: 1
    wait_tokens: 1


class Step(data.StructLayout):
    """What the pipeline does in one cycle.

    `read`: channels `group` of accumulator row `row` enter the pipeline, with parameter word `param`. `write`: with the
    row's last group, its word goes to `address`. `retire`: the instruction ends with this step.
    """

    def __init__(self, config: Config):
        super().__init__(
            {
                "read": 1,
                "write": 1,
                "retire": 1,
                "row": ceil_log2(config.acc_depth),
                "param": ceil_log2(config.param_depth),
                "group": max(ceil_log2(config.array // config.sfu_lanes), 1),
                "address": ceil_log2(config.act_depth),
                "constants": Constants,
                "index": INDEX_BITS,
                "signal": UNITS,
            }
        )


class SfuSource(wiring.Component):
    """Runs the SFU's instructions in order, one step a cycle, also from one instruction to the next.

    Members
    -------
    instruction : In(stream of Issued), tokens : Out(TokenPort()), fault : Out(Fault), halt : In(1)
        As in UnitPort. One instruction is checked, and waits for its tokens, while the one before it runs.
    step : Out(Step)
        CONFIG takes one step, too, which only retires. There is no back-pressure.
    active : Out(1)
        An instruction is here that has not made its last step.
    counts : Out(SfuCounts)

    Faults, in the order of instructions: OPCODE for an undefined opcode, group or mode, OPERAND for a count of zero and
    SRAM_RANGE for the first row and the parameter word, all before an instruction starts; OPERAND for leaving the half
    of the accumulators and SRAM_RANGE for a destination outside the memory in the cycle of the first such step, which
    is not made.
    """

    def __init__(self, config: Config):
        self.config = config
        self.groups = config.array // config.sfu_lanes
        super().__init__(
            {
                "instruction": In(stream.Signature(Issued)),
                "tokens": Out(TokenPort()),
                "step": Out(Step(config)),
                "fault": Out(Fault),
                "halt": In(1),
                "active": Out(1),
                "counts": Out(SfuCounts),
            }
        )

    def elaborate(self, platform):
        m = Module()
        free, start, running = Signal(), Signal(), Signal()
        waiting = Signal(Issued)
        has_waiting = Signal()
        self._accept(m, waiting, has_waiting, free, start)
        self._run(m, waiting, free, start, running)
        m.d.comb += self.active.eq(has_waiting | running)
        return m

    def _accept(self, m: Module, waiting, has_waiting: Signal, free: Signal, start: Signal):
        """Cycle 1: check. Cycle 2 and on: take the tokens once the instruction before it makes its last step."""
        waiting_code = Signal(ErrorCode)
        stopped = Signal()
        legal = has_waiting & (waiting_code == ErrorCode.NONE)
        m.d.comb += [
            stopped.eq(self.halt | (self.fault.code != ErrorCode.NONE)),
            self.tokens.need.eq(Mux(legal, header(waiting.word).wait, 0)),
            self.tokens.index.eq(waiting.index),
            self.tokens.take.eq(start),
            start.eq(legal & free & ~stopped & self.tokens.ready),
            self.counts.wait_tokens.eq(legal & free & ~stopped & ~self.tokens.ready),
            self.instruction.ready.eq(~has_waiting | start),
        ]
        with m.If(self.instruction.ready):
            m.d.sync += [
                has_waiting.eq(self.instruction.valid),
                waiting.eq(self.instruction.payload),
                waiting_code.eq(self._check(m, self.instruction.payload.word)),
            ]
        with m.If(has_waiting & free & ~stopped & ~legal):
            m.d.sync += [self.fault.code.eq(waiting_code), self.fault.index.eq(waiting.index)]

    def _check(self, m: Module, word) -> Signal:
        """What is wrong with an instruction, as far as it shows before its first step."""
        code = Signal(ErrorCode)
        head, fields = header(word), payload(SFU, word)
        with m.If((head.opcode == Opcode.SFU) & (fields.mode == MODE_ACCUMULATORS)):
            with m.If((fields.rows == 0) | (fields.cols == 0)):
                m.d.comb += code.eq(ErrorCode.OPERAND)
            with m.Elif((fields.acc >= self.config.acc_depth) | (fields.param >= self.config.param_depth)):
                m.d.comb += code.eq(ErrorCode.SRAM_RANGE)
        with m.Elif((head.opcode != Opcode.CONFIG) | (head.group != OUTPUT.group)):
            m.d.comb += code.eq(ErrorCode.OPCODE)
        return code

    def _run(self, m: Module, waiting, free: Signal, start: Signal, running: Signal):
        """The instruction that makes steps: counters over rows, columns and channel groups."""
        config, step = self.config, self.step
        head, fields, output = header(waiting.word), payload(SFU, waiting.word), payload(OUTPUT, waiting.word)
        is_config, half = Signal(), Signal()
        rows_left, cols_left, cols = Signal(12), Signal(12), Signal(12)
        # One bit more than any address in range: the first one outside is recognized, and none after it is reached.
        address, line_start = Signal(19), Signal(19)
        row_stride = Signal(18)

        last_group, last_col, last = Signal(), Signal(), Signal()
        left_half, outside, good = Signal(), Signal(), Signal()
        # Signals of their own, not fields read back: simulators see a loop where a struct depends on itself.
        reading, read, write, retire = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            last_group.eq(step.group == self.groups - 1),
            last_col.eq(cols_left == 0),
            last.eq(last_group & last_col & (rows_left == 0)),
            left_half.eq(step.row[-1] != half),
            outside.eq(address >= config.act_depth),
            good.eq(~left_half & ~outside),
            reading.eq(running & ~is_config & ~self.halt),
            read.eq(reading & good),
            write.eq(read & last_group),
            retire.eq(running & ~self.halt & (is_config | good & last)),
            step.read.eq(read),
            step.write.eq(write),
            step.retire.eq(retire),
            step.address.eq(address),
            self.counts.busy.eq(read),
            free.eq(~running | retire),
        ]
        with m.If(reading & ~good):
            m.d.sync += [
                running.eq(0),
                self.fault.code.eq(Mux(left_half, ErrorCode.OPERAND, ErrorCode.SRAM_RANGE)),
                self.fault.index.eq(step.index),
            ]

        next_line = Signal(19)
        m.d.comb += next_line.eq(line_start + row_stride)
        with m.If(read):
            m.d.sync += step.group.eq(step.group + 1)
        with m.If(write):
            m.d.sync += [
                step.group.eq(0),
                step.row.eq(step.row + 1),
                address.eq(address + 1),
                cols_left.eq(cols_left - 1),
            ]
            with m.If(last_col):
                m.d.sync += [
                    line_start.eq(next_line),
                    address.eq(next_line),
                    cols_left.eq(cols),
                    rows_left.eq(rows_left - 1),
                ]
        with m.If(retire):
            m.d.sync += running.eq(0)
        with m.If(start):
            m.d.sync += [
                running.eq(1),
                is_config.eq(head.opcode == Opcode.CONFIG),
                step.index.eq(waiting.index),
                step.signal.eq(head.signal),
                step.row.eq(fields.acc),
                half.eq(fields.acc[len(step.row) - 1]),
                step.param.eq(fields.param),
                address.eq(fields.dst),
                line_start.eq(fields.dst),
                cols.eq(fields.cols - 1),
                cols_left.eq(fields.cols - 1),
                rows_left.eq(fields.rows - 1),
            ]
            with m.If(head.opcode == Opcode.CONFIG):
                m.d.sync += [
                    row_stride.eq(output.row_stride),
                    step.constants.zero_point.eq(output.zero_point),
                    step.constants.low.eq(output.clamp_min),
                    step.constants.high.eq(output.clamp_max),
                ]
