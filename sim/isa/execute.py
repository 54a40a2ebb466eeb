"""How far EXECUTE's weight stage is ahead of its row stage, and which weights it has met there."""

from collections import deque
from collections.abc import Iterable

from systolith.isa import Instruction, Opcode
from systolith.sim.isa.units import Weights

__all__ = ["AHEAD", "first_beyond", "may_pass"]

AHEAD = 8
"""Instructions between the two stages."""
Waiting = tuple[int, Instruction, tuple]
"""Index, instruction, and of an EXECUTE its weights."""


def may_pass(instruction: Instruction, queue: deque[Waiting], stopped: tuple[int, int] | None) -> bool:
    """Whether the weight stage may let an instruction pass to the row stage, apart from tokens.

    `queue`: what waits there; `stopped`: K tile and row of the first EXECUTE of it that the row stage stopped at. An
    EXECUTE passes when the weights of the one before are loading; of these the last tile loads as soon as the tile
    before it has begun.
    """
    executes = _executes(queue)
    if instruction.form.opcode == Opcode.CONFIG or not executes:
        return True
    tile = stopped[0] if stopped else -1
    loaded = tile >= executes[0][1].tiles - 2
    return len(executes) < 2 + loaded


def first_beyond(queue: deque[Waiting], stopped: tuple[int, int] | None, n: int) -> int | None:
    """Index of an EXECUTE whose first K tile needs a weight word that is not there, if the weight stage has met it.

    It has if it is the first one that waits; or the second one, while the row stage is in the last tile of the first
    one, and stopped two rows behind the word at least.
    """
    executes = _executes(queue)
    if stopped is None:
        met = executes[:1]
    else:
        met = [(index, weights) for index, weights in executes[1:2]
               if stopped[0] == executes[0][1].tiles - 1 and len(weights.words) <= stopped[1] - 2]  # fmt: skip
    return next((index for index, weights in met if len(weights.words) < n), None)


def _executes(queue: Iterable[Waiting]) -> list[tuple[int, Weights]]:
    return [(index, extra[0]) for index, _, extra in queue if extra]
