"""Conflicts: steps that must keep their order, on whatever unit they run; and chains of steps on the same sums."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from systolith.compiler.order.access import UNIT_OF, Access, accesses
from systolith.compiler.schedule.step import Step
from systolith.config import Config

__all__ = ["NEVER", "SUMS", "before", "chains"]

SUMS = {"accumulators": "EXECUTE", "depthwise accumulators": "DEPTHWISE"}
"""Memories of sums, and what makes them."""
NEVER = -1
"""No step."""


def chains(steps: Sequence[Step], config: Config) -> list[int]:
    """For each step the first step of its chain, those that make sums in one half of the accumulators and those that
    read them; -1 for steps without sums."""
    current: dict[tuple, int] = {}
    found = []
    for index, step in enumerate(steps):
        half = [(a.memory, a.start) for a in accesses(step, config) if a.memory in SUMS]
        if half and step.name in SUMS.values() and not step.fields.get("accumulate"):
            current[half[0]] = index
        found.append(current[half[0]] if half else NEVER)
    return found


def before(steps: Sequence[Step], config: Config) -> list[set[int]]:
    """For each step, earlier ones that it has to come after. Every pair with a conflict is ordered, directly or through
    others; sums of different chains do not conflict, because a chain may move to the other half."""
    touched = [[access for access in accesses(step, config) if access.memory not in SUMS] for step in steps]
    sizes: dict = defaultdict(int)
    for access in (a for found in touched for a in found):
        sizes[access.memory] = max(sizes[access.memory], access.end)
    last: dict = defaultdict(dict)
    edges: list[set[int]] = []
    for index, step in enumerate(steps):
        unit, needed = UNIT_OF[step.name], set()
        for access in touched[index]:
            for (other, write), cells in last[access.memory].items():
                # Reads of one unit stay in order as well: the last one then stands for all of them.
                if write or access.write or other == unit:
                    needed |= _steps(access, cells)
        for access in touched[index]:
            key = unit, access.write
            if key not in last[access.memory]:
                last[access.memory][key] = np.full(sizes[access.memory], NEVER, np.int32)
            access.view(last[access.memory][key])[...] = index
        edges.append(needed - {NEVER})
    _order_chains(chains(steps, config), steps, edges)
    return edges


def _steps(access: Access, cells: np.ndarray) -> set[int]:
    found = access.view(cells)
    low, high = int(found.min()), int(found.max())
    return {low} if low == high else set(np.unique(found).tolist())


def _order_chains(chains: Sequence[int], steps: Sequence[Step], edges: list[set[int]]) -> None:
    """Sums are made one after the other, then read."""
    made: dict[int, int] = {}
    for index, chain in enumerate(chains):
        if chain != NEVER:
            edges[index] |= {made[chain]} if chain in made else set()
            if steps[index].name in SUMS.values():
                made[chain] = index
