"""Tokens: which instruction waits for which unit, and signals which, so that every conflict keeps its program order.

Three steps. `dependences`: for each step and each other unit, the last step of that unit it must come after. `reduce`:
leave out what an earlier wait already implies, directly or through another unit (vector clocks). `limit`: no token counter may
overflow, so the giver of every few tokens waits until their takers are done.

Units retire their steps in order, so a token from one step stands for all steps of its unit before it. EXECUTE starts twice: its
weight stage knows only the tokens of LOAD_W, its row stage all of them.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from systolith.compiler.access import STAGE_WEIGHTS, UNIT_OF, Access, accesses
from systolith.compiler.schedule import Step
from systolith.config import Config
from systolith.isa import Unit

__all__ = ["Tokens", "synchronize"]

UNITS = len(UNIT_OF)
NEVER = -1
Edges = list[dict[int, int]]
"""For each step: unit -> index of that unit's step to wait for."""


@dataclass(frozen=True)
class Tokens:
    """For each step, the units it takes a token from and gives one to."""

    wait: list[set[int]]
    signal: list[set[int]]


def synchronize(steps: Sequence[Step], config: Config) -> Tokens:
    """Tokens for a list of steps in program order."""
    units = [UNIT_OF[step.name] for step in steps]
    needed = dependences(steps, units, config)
    capacity = (1 << config.token_bits) - 1
    while True:
        edges = reduce(needed, units)
        if not limit(edges, needed, units, capacity):
            break
    wait, signal = [set() for _ in steps], [set() for _ in steps]
    for taker, givers in enumerate(edges):
        for unit, giver in givers.items():
            wait[taker].add(unit)
            signal[giver].add(units[taker])
    return Tokens(wait, signal)


def dependences(steps: Sequence[Step], units: Sequence[Unit], config: Config) -> Edges:
    """For each step and other unit, the last step of that unit with a conflicting access."""
    touched = [accesses(step, config) for step in steps]
    sizes: dict = defaultdict(int)
    for access in (a for found in touched for a in found):
        sizes[access.memory] = max(sizes[access.memory], access.end)
    last: dict = {}
    needed: Edges = []
    for index, (unit, found) in enumerate(zip(units, touched, strict=True)):
        needed.append({})
        for access in found:
            for (memory, other, write), cells in last.items():
                if memory == access.memory and other != unit and (write or access.write):
                    latest = int(_view(cells, access).max())
                    if latest > needed[-1].get(other, NEVER):
                        needed[-1][other] = latest
        for access in found:
            key = access.memory, unit, access.write
            if key not in last:
                last[key] = np.full(sizes[access.memory], NEVER, np.int32)
            _view(last[key], access)[...] = index
    return needed


def reduce(needed: Edges, units: Sequence[Unit]) -> Edges:
    """Leave out waits that are already known to be over."""
    started = [[NEVER] * UNITS for _ in range(UNITS)]
    weights_started = [NEVER] * UNITS
    retired: list[list[int]] = []
    edges: Edges = []
    for index, (unit, givers) in enumerate(zip(units, needed, strict=True)):
        kept = {}
        clock = started[unit]
        for giver_unit, giver in sorted(givers.items(), key=lambda item: -item[1]):
            known = weights_started if unit == Unit.EXECUTE and giver_unit == Unit.LOAD_W else clock
            if giver > known[giver_unit]:
                kept[giver_unit] = giver
                known[:] = map(max, known, retired[giver])
                if known is weights_started:
                    clock[:] = map(max, clock, known)
        edges.append(kept)
        after = list(clock)
        after[unit] = index
        retired.append(after)
    return edges


def limit(edges: Edges, needed: Edges, units: Sequence[Unit], capacity: int) -> bool:
    """Add to `needed` what keeps every counter within `capacity`. True if anything was added.

    The giver of token k, for every `half`-th k, waits for the taker of token k - half: then at most 2 * half - 1 are out.
    """
    half = (capacity + 1) // 2
    pairs: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for taker, givers in enumerate(edges):
        for unit, giver in givers.items():
            pairs[unit, units[taker]].append((giver, taker))
    changed = False
    for (_, taker_unit), tokens in pairs.items():
        if len(tokens) <= capacity:
            continue
        for k in range(half, len(tokens), half):
            giver, taker = tokens[k][0], tokens[k - half][1]
            if taker > giver:
                # So many tokens at once in program order: this taker can as well wait for a later one.
                changed |= _raise(needed[taker], units[tokens[k][0]], tokens[k - half + 1][0])
            else:
                changed |= _raise(needed[giver], taker_unit, taker)
    return changed


def _raise(givers: dict[int, int], unit: int, giver: int) -> bool:
    if givers.get(unit, NEVER) >= giver:
        return False
    givers[unit] = giver
    return True


def _view(cells: np.ndarray, access: Access) -> np.ndarray:
    """The cells of an access, without a copy."""
    return np.ndarray(
        [count for count, _ in access.dims],
        cells.dtype,
        cells,
        4 * access.start,
        [4 * stride for _, stride in access.dims],
    )


assert STAGE_WEIGHTS == "weights" and set(UNIT_OF.values()) == set(range(UNITS))
