"""Widths of the fields that several formats have, in bits; those of one format alone are in that format.

Hardware, compiler and simulators take widths and limits from here or from the formats.
"""

__all__ = [
    "ACC_BITS",
    "ADDRESS_BITS",
    "COUNT_BITS",
    "EXTENT_BITS",
    "OFFSET_BITS",
    "PARAM_BITS",
    "REGION_BITS",
    "STEP_BITS",
    "VALUE_BITS",
]

VALUE_BITS = 8
"""An activation, a zero point, a limit."""
COUNT_BITS = 12
"""Rows, columns or channel blocks of an instruction."""
STEP_BITS = 8
"""A kernel size, stride or dilation."""
EXTENT_BITS = 14
"""Height and width of an input; as two's complement, a position in it or beside it."""
ADDRESS_BITS = 18
"""A word of activation or weight SRAM, and a distance between two; arithmetic wraps."""
ACC_BITS = 14
"""A row of accumulators."""
PARAM_BITS = 12
"""A word of parameter SRAM."""
REGION_BITS = 3
"""A memory region."""
OFFSET_BITS = 32
"""A byte in a region, and a distance between two; arithmetic wraps."""
