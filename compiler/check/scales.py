"""Proof that every scale that the SFU multiplies by is positive and normal, as the compiler makes them.

With other scales the results of hardware and simulators may differ. Scales lie in the bytes that LOAD.W brings to
parameter SRAM.
"""

import numpy as np

from systolith.errors import SystolithError
from systolith.isa import LoadTarget, Region, decode_program
from systolith.program import Program

__all__ = ["check_scales"]

PARAMETER = np.dtype([("bias", "<i4"), ("scale", "<f4")])
"""A lane of a parameter word."""
CHUNKS = 8
"""N-byte chunks of a parameter word."""


def check_scales(program: Program) -> None:
    """Raises SystolithError, naming the instruction, unless parameters come in whole words from region WEIGHTS, with
    scales that are positive, normal float32. The accesses must have been checked."""
    for index, instruction in enumerate(decode_program(program.code)):
        if instruction.form.name != "LOAD.W" or instruction["target"] != LoadTarget.PARAMETERS:
            continue
        where = f"Instruction {index} (LOAD.W)"
        if instruction["region"] != Region.WEIGHTS or instruction["sram"] % CHUNKS or instruction["words"] % CHUNKS:
            raise SystolithError(f"{where} must load whole parameter words from region WEIGHTS")
        count = instruction["words"] * program.array // PARAMETER.itemsize
        scales = np.frombuffer(program.weights, PARAMETER, count, instruction["offset"])["scale"]
        good = np.isfinite(scales) & (scales >= np.finfo(np.float32).tiny)
        if not good.all():
            raise SystolithError(f"{where} must load scales that are positive, normal float32, not {scales[~good][0]}")
