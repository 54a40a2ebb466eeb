"""One lane of the SFU: from the data of the memories to a result, one channel a cycle.

reduce.py -> requantize.py -> add.py -> table.py; unit.py has `sfu_lanes` of these and controls them
"""

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from systolith.hw.lib.delay import delayed
from systolith.hw.lib.verilog import instantiate
from systolith.hw.sfu import add as sfu_add
from systolith.hw.sfu import reduce, requantize, table

__all__ = ["ADD", "LATENCY", "REQUANTIZE", "TABLE", "Control", "Fill", "SfuLane"]

REQUANTIZE = reduce.LATENCY
ADD = REQUANTIZE + requantize.LATENCY
TABLE = ADD + sfu_add.LATENCY
LATENCY = TABLE + table.LATENCY
"""Cycles from the data of a window's last cycle to the stages it passes, and to the result."""
OPERAND_WAITS = ADD - reduce.OPERAND_AFTER


class Control(data.Struct):
    """What the stages need, each field so many cycles after the data: see the stages."""

    select: reduce.Select
    fold: reduce.Fold
    zeros: data.StructLayout({"a": signed(8), "b": signed(8)})
    multiply: 1
    output: requantize.Constants
    joint: 1
    add_zeros: data.StructLayout({"a": signed(8), "b": signed(8)})
    factors: sfu_add.Factors
    shift: sfu_add.SHIFT_BITS
    add: 1
    sum_output: requantize.Constants
    lookup: 1


class Fill(data.Struct):
    """A write of eight entries of the table."""

    valid: 1
    index: table.INDEX_BITS
    entries: table.ENTRY_BITS


class SfuLane(wiring.Component):
    """The four stages in a row.

    Members
    -------
    accumulator : In(signed(32)), activation : In(signed(8))
        Data of this cycle; the second operand comes as `activation` with the last of its window, or a cycle later.
    bias : In(signed(32)), scale : In(Float32)
        `REQUANTIZE` cycles after the last data of a window.
    control : In(Control), fill : In(Fill)
    output : Out(signed(8))

    Latency is `LATENCY` cycles, throughput one cycle of data a cycle, without back-pressure.
    """

    accumulator: Signal
    activation: Signal
    bias: Signal
    scale: data.View
    control: Control
    fill: Fill
    output: Signal

    def __init__(self):
        self.parts = {
            "sfu_reduce": reduce.Reduce(),
            "requantize": requantize.Requantize(),
            "sfu_add": sfu_add.Add(),
            "sfu_table": table.Table(),
        }
        super().__init__(
            {
                "accumulator": In(signed(32)),
                "activation": In(signed(8)),
                "bias": In(signed(32)),
                "scale": In(requantize.Float32),
                "control": In(Control),
                "fill": In(Fill),
                "output": Out(signed(8)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        control = self.control
        operand, reduced, requantized, added = Signal(8), Signal(32), Signal(8), Signal(8)
        m.submodules.reduce = instantiate(
            "sfu_reduce",
            self.parts["sfu_reduce"],
            accumulator=self.accumulator,
            activation=self.activation,
            select=control.select,
            fold=control.fold,
            operand=operand,
            zero_a=control.zeros.a,
            zero_b=control.zeros.b,
            multiply=control.multiply,
            output=reduced,
        )
        m.submodules.requantize = instantiate(
            "requantize",
            self.parts["requantize"],
            accumulator=reduced,
            bias=self.bias,
            scale=self.scale,
            constants=control.output,
            joint=control.joint,
            output=requantized,
        )
        m.submodules.add = instantiate(
            "sfu_add",
            self.parts["sfu_add"],
            value=requantized,
            operand=delayed(m, operand, OPERAND_WAITS, "operand_line", reset_less=True),
            zero_a=control.add_zeros.a,
            zero_b=control.add_zeros.b,
            factors=control.factors,
            shift=control.shift,
            enable=control.add,
            constants=control.sum_output,
            output=added,
        )
        m.submodules.table = instantiate(
            "sfu_table",
            self.parts["sfu_table"],
            value=added,
            enable=control.lookup,
            fill=self.fill.valid,
            index=self.fill.index,
            entries=self.fill.entries,
            output=self.output,
        )
        return m
