"""Structs between the stages of the SFU: an instruction with its constants, as the walk and the lanes need it."""

from amaranth.hdl import signed
from amaranth.lib import data

from systolith.hw.interfaces import INDEX_BITS, POSITION_BITS, ErrorCode
from systolith.hw.sfu import table
from systolith.hw.sfu.add import SHIFT_BITS, Factors
from systolith.hw.sfu.requantize import Constants
from systolith.isa import ADDRESS_BITS, COUNT_BITS, EXTENT_BITS, PARAM_BITS, STEP_BITS, UNITS, VALUE_BITS, form

__all__ = ["SFU", "SOURCE_BITS", "Job", "Numbers", "Walk"]

SFU = form("SFU")
SOURCE_BITS, SECOND_BITS = SFU["memory"].bits, SFU["second"].bits
DST_STEP_BITS = form("CONFIG.SFU.output")["col_stride"].bits


class Walk(data.Struct):
    """Where an instruction reads and writes.

    `address`, `y` and `x`: of the first tap of the first output; positions are two's complement, so that as unsigned
    numbers those before the tensor are beyond it, too. `half`: the half of the accumulators that `source` is in.
    """

    memory: SOURCE_BITS
    sum: 1
    second: SECOND_BITS
    address: ADDRESS_BITS
    half: 1
    y: POSITION_BITS
    x: POSITION_BITS
    height: EXTENT_BITS
    width: EXTENT_BITS
    pad: signed(VALUE_BITS)
    rows: COUNT_BITS
    cols: COUNT_BITS
    kernel_y: STEP_BITS
    kernel_x: STEP_BITS
    stride_y: STEP_BITS
    stride_x: STEP_BITS
    dilation_y: STEP_BITS
    dilation_x: STEP_BITS
    line_step: ADDRESS_BITS
    kernel_step: ADDRESS_BITS
    operand: ADDRESS_BITS
    operand_line_step: ADDRESS_BITS
    operand_step: 1
    dst: ADDRESS_BITS
    dst_line_step: ADDRESS_BITS
    dst_step: DST_STEP_BITS


class Numbers(data.Struct):
    """What an instruction does with its values, the same for all of them."""

    param: PARAM_BITS
    multiply: 1
    add: 1
    lookup: 1
    zero_a: signed(VALUE_BITS)
    zero_b: signed(VALUE_BITS)
    output: Constants
    factors: Factors
    shift: SHIFT_BITS
    sum_output: Constants


class Job(data.Struct):
    """A checked instruction: an SFU (`runs`), a CONFIG of the table (`fills`), or another CONFIG."""

    index: INDEX_BITS
    wait: UNITS
    signal: UNITS
    code: ErrorCode
    runs: 1
    drain: 1
    fills: 1
    table_index: table.INDEX_BITS
    table_entries: table.ENTRY_BITS
    walk: Walk
    numbers: Numbers
