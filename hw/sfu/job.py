"""Structs between the stages of the SFU: an instruction with its constants, as the walk and the lanes need it."""

from amaranth.hdl import signed
from amaranth.lib import data

from systolith.hw.interfaces import ADDRESS_BITS, INDEX_BITS, POSITION_BITS, UNITS, ErrorCode
from systolith.hw.sfu.add import Factors
from systolith.hw.sfu.requantize import Constants

__all__ = ["Job", "Memory", "Numbers", "Second", "Walk"]


class Memory:
    """Values of the field `memory`."""

    ACCUMULATORS, ACTIVATIONS, DEPTHWISE = range(3)


class Second:
    """Values of the field `second`."""

    NONE, ADD, MULTIPLY = range(3)


class Walk(data.Struct):
    """Where an instruction reads and writes.

    `address`, `y` and `x`: of the first tap of the first output; positions are two's complement, so that as unsigned
    numbers those before the tensor are beyond it, too. `half`: the half of the accumulators that `source` is in.
    """

    memory: 2
    sum: 1
    second: 2
    address: ADDRESS_BITS
    half: 1
    y: POSITION_BITS
    x: POSITION_BITS
    height: 14
    width: 14
    pad: signed(8)
    rows: 12
    cols: 12
    kernel_y: 8
    kernel_x: 8
    stride_y: 8
    stride_x: 8
    dilation_y: 8
    dilation_x: 8
    line_step: ADDRESS_BITS
    kernel_step: ADDRESS_BITS
    operand: ADDRESS_BITS
    operand_line_step: ADDRESS_BITS
    operand_step: 1
    dst: ADDRESS_BITS
    dst_line_step: ADDRESS_BITS
    dst_step: 8


class Numbers(data.Struct):
    """What an instruction does with its values, the same for all of them."""

    param: 12
    multiply: 1
    add: 1
    lookup: 1
    zero_a: signed(8)
    zero_b: signed(8)
    output: Constants
    factors: Factors
    shift: 6
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
    table_index: 5
    table_entries: 64
    walk: Walk
    numbers: Numbers
