"""Tokens: each instruction waits for units and signals units, so that every conflict keeps its program order.
 Three steps. `dependences`: for each step and each other unit, the last step of that unit it must come after. `reduce`:
leave out dependences that an earlier wait already implies, directly or through another unit (vector clocks). `limit`:
no token counter may overflow, so a giver that is too far ahead waits until earlier tokens are taken.

Units retire their steps in order, so a token from one step stands for all steps of its unit before it. EXECUTE starts
twice: its weight stage knows only the tokens of LOAD_W, its row stage all of them.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from systolith.compiler.order.access import STAGE_WEIGHTS, UNIT_OF, accesses
from systolith.compiler.schedule.step import Step
from systolith.config import Config
from systolith.isa import UNITS, Unit

__all__ = ["Tokens", "synchronize"]

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
        edges, retired = reduce(needed, units)
        if not limit(edges, retired, needed, units, capacity):
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
                    latest = int(access.view(cells).max())
                    if latest > needed[-1].get(other, NEVER):
                        needed[-1][other] = latest
        for access in found:
            key = access.memory, unit, access.write
            if key not in last:
                last[key] = np.full(sizes[access.memory], NEVER, np.int32)
            access.view(last[key])[...] = index
    return needed


def reduce(needed: Edges, units: Sequence[Unit]) -> tuple[Edges, list[list[int]]]:
    """The waits that are not known to be over already; and, for each step, what is known when it retires."""
    started = [[NEVER] * UNITS for _ in range(UNITS)]
    weights_started = [NEVER] * UNITS
    retired: list[list[int]] = []
    edges: Edges = []
    for index, (unit, givers) in enumerate(zip(units, needed, strict=True)):
        kept = {}
        clock = started[unit]
        # Later givers first: they tell more about others.
        order = sorted(givers.items(), key=lambda item: -item[1]) if len(givers) > 1 else givers.items()
        for giver_unit, giver in order:
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
    return edges, retired


def limit(edges: Edges, retired: list[list[int]], needed: Edges, units: Sequence[Unit], capacity: int) -> bool:
    """Add to `needed` what keeps every counter within `capacity`: when token k is given, the taker of token
    k - capacity must have retired. True if anything was added."""
    pairs: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for taker, givers in enumerate(edges):
        for unit, giver in givers.items():
            pairs[unit, units[taker]].append((giver, taker))
    changed = False
    for (giver_unit, taker_unit), tokens in pairs.items():
        changed |= _limit_pair(tokens, giver_unit, taker_unit, retired, needed, capacity)
    return changed


def _limit_pair(tokens, giver_unit: int, taker_unit: int, retired, needed: Edges, capacity: int) -> bool:
    changed, known, k = False, NEVER, capacity
    while k < len(tokens):
        giver, first = tokens[k][0], k - capacity
        known = max(known, retired[giver][taker_unit])
        if known < tokens[first][1]:
            # Wait for more than needed, so that the next few tokens are safe as well.
            before = [taker for _, taker in tokens[first : k - capacity // 2] if taker < giver]
            if before:
                known = before[-1]
                changed |= _raise(needed[giver], taker_unit, known)
            else:
                # All of them are out in program order already: every second taker waits for the next one's token too.
                for i in range(first, k, 2):
                    changed |= _raise(needed[tokens[i][1]], giver_unit, tokens[i + 1][0])
                k += capacity
        k += 1
    return changed


def _raise(givers: dict[int, int], unit: int, giver: int) -> bool:
    if givers.get(unit, NEVER) >= giver:
        return False
    givers[unit] = giver
    return True


assert STAGE_WEIGHTS == "weights" and set(UNIT_OF.values()) == set(range(UNITS))
