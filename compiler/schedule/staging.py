"""Staging buffers of a layer in activation SRAM: they lie in the hole that living tensors leave."""

from systolith.compiler.plan.plan import Planned
from systolith.config import Config

__all__ = ["staging"]

Words = tuple[int, int]
"""First word, words."""


def staging(planned: Planned, config: Config) -> tuple[Words, Words, Words]:
    """All buffers for the input, the second operand and the output.

    Input and output are at opposite ends: the store unit loses every read of a bank that EXECUTE is reading. Where
    loads are most of the work, the input begins at the start of the hole or of one of its banks, whatever shares the
    fewest banks with what the layer writes: loads lose every write to the SFU's in the same bank. Elsewhere it stays
    away from the buffers of the layer before, which still drain.
    """
    plan, (start, size) = planned.plan, planned.hole
    source, operand, target = (words * count for words, count in (plan.input, plan.operand, plan.output))
    output = start + size - target
    second, first = output - operand, start
    if plan.costs.read > plan.costs.array:
        bank = config.act_depth // config.act_banks
        written = set(_banks(*_written(planned), bank))
        starts = [start, *range(-(-start // bank) * bank, second - source + 1, bank)]
        first = min(starts, key=lambda word: len(written.intersection(_banks(word, source, bank))))
    return (first, source), (second, operand), (output, target)


def _written(planned: Planned) -> Words:
    """What the layer writes of activation SRAM, without staging buffers: from its first word to its last one."""
    job, strides = planned.job, planned.job.target
    if planned.target.sram is None:
        return 0, 0
    rows, cols = job.pooled(job.rows, job.cols)
    last = (job.images - 1) * strides.image + (job.out_blocks - 1) * strides.block
    return planned.target.sram, last + (rows - 1) * strides.row + (cols - 1) * strides.column + 1


def _banks(start: int, words: int, bank: int) -> range:
    return range(start // bank, -(-(start + words) // bank)) if words else range(0)
