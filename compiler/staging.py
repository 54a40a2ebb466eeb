"""Where a layer's staging buffers lie in activation SRAM: in the hole that living tensors leave."""

from systolith.compiler.jobs import Job
from systolith.compiler.plan import Planned
from systolith.config import Config

__all__ = ["staging"]


def staging(planned: Planned, config: Config) -> tuple[tuple[int, int], ...]:
    """(first word, words) of all buffers for the input, the second operand and the output.

    Input and output are at opposite ends: the store unit loses every read of a bank that EXECUTE is reading. The input
    begins at the start of the hole or of one of its banks, whatever shares the fewest banks with what the layer writes:
    loads lose every write to the SFU's in the same bank.
    """
    plan, (start, size) = planned.plan, planned.hole
    source, operand, target = (words * count for words, count in (plan.input, plan.operand, plan.output))
    output = start + size - target
    second = output - operand
    bank = config.act_depth // config.act_banks
    written = range(0) if planned.target.sram is None else _banks(planned.job, planned.target.sram, bank)

    def shared(first: int) -> int:
        return sum(number in written for number in range(first // bank, -(-(first + source) // bank)))

    starts = [start, *range(-(-start // bank) * bank, second - source + 1, bank)]
    return (min(starts, key=shared), source), (second, operand), (output, target)


def _banks(job: Job, start: int, bank: int) -> range:
    """The banks of activation SRAM in which the output of a job lies, from word `start` on."""
    strides, (rows, cols) = job.target, job.pooled(job.rows, job.cols)
    last = start + (job.images - 1) * strides.image + (job.out_blocks - 1) * strides.block
    last += (rows - 1) * strides.row + (cols - 1) * strides.column
    return range(start // bank, last // bank + 1)
