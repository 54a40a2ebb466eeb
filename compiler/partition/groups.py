"""Groups of nodes on two sides, as few as their order allows: each takes all nodes of its side that can run next."""

from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter

__all__ = ["Units", "cycle", "groups"]

Waits = Mapping[int, set[int]]


class Units:
    """Disjoint sets of nodes, which run together; each goes by one of its nodes."""

    def __init__(self, nodes: Iterable[int]):
        self.parent = {node: node for node in nodes}

    def of(self, node: int) -> int:
        """The unit of a node."""
        while self.parent[node] != node:
            self.parent[node] = self.parent[self.parent[node]]
            node = self.parent[node]
        return node

    def join(self, nodes: Iterable[int]) -> None:
        """Make the units of these nodes one."""
        roots = sorted({self.of(node) for node in nodes})
        for root in roots:
            self.parent[root] = roots[0]

    def waits(self, before: Waits) -> dict[int, set[int]]:
        """What each unit waits for, given what each node waits for."""
        found: dict[int, set[int]] = {self.of(node): set() for node in before}
        for node, others in before.items():
            found[self.of(node)] |= {self.of(other) for other in others} - {self.of(node)}
        return found


def cycle(units: Units, before: Waits) -> list[int]:
    """Nodes of units that wait for each other; none where all can run."""
    try:
        TopologicalSorter(units.waits(before)).prepare()
    except CycleError as error:
        return [node for node in before if units.of(node) in error.args[1]]
    return []


def groups(units: Units, before: Waits, hosts: Iterable[int]) -> list[list[int]]:
    """Nodes of each group in order. `hosts` are the nodes of one side; a unit has nodes of one side only."""
    waits = units.waits(before)
    order = list(TopologicalSorter(waits).static_order())
    on_host = {units.of(node) for node in hosts}
    turns = min((_turns(order, waits, on_host, host) for host in (False, True)), key=len)
    members: dict[int, list[int]] = {}
    for node in before:
        members.setdefault(units.of(node), []).append(node)
    return [sorted(node for unit in turn for node in members[unit]) for turn in turns]


def _turns(order: list[int], waits: Waits, on_host: set[int], host: bool) -> list[list[int]]:
    """Units by turns of the two sides, that of `host` first; each time everything that can run."""
    turn_of: dict[int, int] = {}
    for unit in order:
        first = int((unit in on_host) != host)
        turn_of[unit] = max([first, *(turn_of[other] + ((other in on_host) != (unit in on_host))
                                      for other in waits[unit])])  # fmt: skip
    turns: dict[int, list[int]] = {}
    for unit in order:
        turns.setdefault(turn_of[unit], []).append(unit)
    return [turns[number] for number in sorted(turns)]
