"""The SFU's first stage: checks instructions, and computes the walk's numbers from the constants of CONFIG.

instruction queue -> SfuSetup -> SfuWalk (walk.py)
CONFIG is applied here, while the instruction before still runs. Then it travels on to take and give its tokens. There
are no multipliers: products with the row stride are made by addition, five bits a cycle, after CONFIG.
"""

from amaranth.hdl import Array, Const, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from systolith.config import Config
from systolith.hw.interfaces import ErrorCode, Issued, has_value, header, payload, undefined_value
from systolith.hw.lib.decode import config_register
from systolith.hw.lib.stride_product import multiply
from systolith.hw.sfu.job import SFU, Job
from systolith.isa import ADDRESS_BITS, CONFIG_FORMATS, Opcode, Reduction, SecondOperand, SfuSource, Unit

__all__ = ["SfuSetup"]

GROUPS = {form.name.split(".")[-1]: form for (unit, _), form in CONFIG_FORMATS.items() if unit == Unit.SFU}


class SfuSetup(wiring.Component):
    """Makes jobs of instructions, in order.

    Parameters
    ----------
    config : Config
        Depths of the memories, and whether there is a depthwise unit.

    Members
    -------
    instruction : In(stream of Issued)
        One a cycle; an SFU instruction waits until 3 cycles after CONFIG of input or window.
    job : Out(stream of Job)
        In the cycle after its instruction. `code`: OPCODE for an undefined opcode, group or mode, OPERAND for a count
        of zero, SRAM_RANGE for addresses that are used as they stand in the instruction.
    """

    instruction: stream.Interface
    job: stream.Interface

    def __init__(self, config: Config):
        self.config = config
        super().__init__({"instruction": In(stream.Signature(Issued)), "job": Out(stream.Signature(Job))})

    def elaborate(self, platform):
        m = Module()
        constants = {
            name: config_register(m, self.instruction, form) for name, form in GROUPS.items() if name != "table"
        }
        word, job = self.instruction.p.word, self.job.p
        head, fields = header(word), payload(SFU, word)
        is_sfu, is_config, accept, settled = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            is_sfu.eq(head.opcode == Opcode.SFU),
            is_config.eq(head.opcode == Opcode.CONFIG),
            self.instruction.ready.eq((~self.job.valid | self.job.ready) & (settled | ~is_sfu)),
            accept.eq(self.instruction.valid & self.instruction.ready),
        ]
        products = self._multiply(m, accept & is_config, head.group, constants, settled)

        with m.If(self.job.ready):
            m.d.sync += self.job.valid.eq(0)
        with m.If(accept):
            m.d.sync += [
                self.job.valid.eq(1),
                job.index.eq(self.instruction.p.index),
                job.wait.eq(head.wait),
                job.signal.eq(head.signal),
                job.code.eq(self._check(m, is_sfu, is_config, head.group, fields, constants)),
                job.runs.eq(is_sfu),
                job.drain.eq(is_sfu & fields.drain),
                job.fills.eq(is_config & (head.group == GROUPS["table"].group)),
                job.table_index.eq(payload(GROUPS["table"], word).index),
                job.table_entries.eq(payload(GROUPS["table"], word).entries),
                *self._set_walk(job.walk, fields, constants, products),
                *self._set_numbers(job.numbers, fields, constants),
            ]
        return m

    def _multiply(self, m: Module, config, group, constants, settled: Signal):
        """Products of row stride and y0, stride_y, dilation_y, in the cycles after CONFIG of one of them."""
        source, window = constants["input"], constants["window"]
        begin, products = Signal(), [Signal(ADDRESS_BITS, name=f"product{i}") for i in range(3)]
        m.d.sync += begin.eq(config & ((group == GROUPS["input"].group) | (group == GROUPS["window"].group)))
        multiplying = multiply(
            m,
            begin,
            source.row_stride,
            [
                ((products[0],), source.x0, source.y0),
                ((products[1],), Const(0), window.stride_y),
                ((products[2],), Const(0), window.dilation_y),
            ],
        )
        m.d.comb += settled.eq(~begin & ~multiplying)
        return products

    def _check(self, m: Module, is_sfu, is_config, group, fields, constants) -> Signal:
        """What is wrong with an instruction, as far as it shows before its first access."""
        config, code = self.config, Signal(ErrorCode)
        window = constants["window"]
        counts = (fields.rows, fields.cols, window.kernel_y, window.kernel_x, constants["output"].col_stride)
        undefined = undefined_value(SFU, "memory", fields.memory) | undefined_value(SFU, "second", fields.second)
        if not config.dw_taps:
            undefined |= fields.memory == SfuSource.DEPTHWISE
        no_product = (fields.memory != SfuSource.ACTIVATIONS) | has_value(fields.reduce, Reduction.SUM)
        outside = (fields.param >= config.param_depth) | (fields.dst >= config.act_depth)
        outside |= (fields.memory == SfuSource.ACCUMULATORS) & (fields.source >= config.acc_depth)
        outside |= (fields.memory == SfuSource.DEPTHWISE) & (fields.source >= config.dw_depth)
        outside |= (fields.second != SecondOperand.NONE) & (fields.operand >= config.act_depth)
        with m.If(is_sfu):
            with m.If(undefined | ((fields.second == SecondOperand.MULTIPLY) & no_product)):
                m.d.comb += code.eq(ErrorCode.OPCODE)
            with m.Elif(sum((count == 0 for count in counts), start=0) != 0):
                m.d.comb += code.eq(ErrorCode.OPERAND)
            with m.Elif(outside):
                m.d.comb += code.eq(ErrorCode.SRAM_RANGE)
        with m.Elif(~is_config | (group >= len(GROUPS))):
            m.d.comb += code.eq(ErrorCode.OPCODE)
        return code

    def _set_walk(self, walk, fields, constants, products):
        output, source, window, operand = (constants[name] for name in ("output", "input", "window", "operand"))
        origin, line_step, kernel_step = products
        half_of = Array([fields.source[size.bit_length() - 1] for size in (self.config.acc_half, self.config.dw_half)])
        return [
            walk.memory.eq(fields.memory),
            walk.sum.eq(has_value(fields.reduce, Reduction.SUM)),
            walk.second.eq(fields.second),
            walk.address.eq(fields.source + origin),
            walk.half.eq(half_of[fields.memory == SfuSource.DEPTHWISE]),
            walk.y.eq(source.y0),
            walk.x.eq(source.x0),
            walk.height.eq(source.height),
            walk.width.eq(source.width),
            walk.pad.eq(source.pad),
            walk.rows.eq(fields.rows),
            walk.cols.eq(fields.cols),
            *(walk[field.name].eq(window[field.name]) for field in GROUPS["window"].fields),
            walk.line_step.eq(line_step),
            walk.kernel_step.eq(kernel_step),
            walk.operand.eq(fields.operand),
            walk.operand_line_step.eq(operand.row_stride),
            walk.operand_step.eq(operand.col_step),
            walk.dst.eq(fields.dst),
            walk.dst_line_step.eq(output.row_stride),
            walk.dst_step.eq(output.col_stride),
        ]

    def _set_numbers(self, numbers, fields, constants):
        output, operand, add = (constants[name] for name in ("output", "operand", "add"))
        return [
            numbers.param.eq(fields.param),
            numbers.multiply.eq(fields.second == SecondOperand.MULTIPLY),
            numbers.add.eq(fields.second == SecondOperand.ADD),
            numbers.lookup.eq(output.lookup),
            numbers.zero_a.eq(operand.zero_a),
            numbers.zero_b.eq(operand.zero_b),
            numbers.factors.a.eq(add.multiplier_a),
            numbers.factors.b.eq(add.multiplier_b),
            numbers.shift.eq(add.shift),
            *_set_output(numbers.output, output),
            *_set_output(numbers.sum_output, add),
        ]


def _set_output(target, source):
    return [
        target.zero_point.eq(source.zero_point),
        target.low.eq(source.clamp_min),
        target.high.eq(source.clamp_max),
    ]
