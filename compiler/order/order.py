"""Program order: layer by layer as planned, or interleaved, whichever is faster by the timeline.

Drains, CONFIGs and tokens follow from it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from systolith.compiler.order.drains import drained
from systolith.compiler.order.interleave import gain, interleave
from systolith.compiler.order.program import generate
from systolith.compiler.order.timeline import estimate
from systolith.compiler.order.tokens import synchronize
from systolith.compiler.schedule.step import Step
from systolith.config import Config
from systolith.isa import Instruction

__all__ = ["Ordered", "generated", "ordered"]

WORTH = 0.03
"""Part of the time that must be there to be gained, and must be gained: the timeline knows no bank conflicts."""


@dataclass(frozen=True)
class Ordered:
    """Steps in program order, the instructions they become, and the layer of each instruction."""

    steps: list[Step]
    instructions: list[Instruction]
    owners: list[int]


def ordered(steps: Sequence[Step], config: Config) -> Ordered:
    """The faster one of the two orders."""
    plain = generated(steps, config)
    if gain(steps, config) <= WORTH:
        return plain
    other = generated(interleave(steps, config), config)
    before, after = (estimate(item.instructions, config).cycles for item in (plain, other))
    return other if after < (1 - WORTH) * before else plain


def generated(steps: Sequence[Step], config: Config) -> Ordered:
    """Steps in this order."""
    steps = drained(steps, config)
    return Ordered(steps, *generate(steps, synchronize(steps, config)))
