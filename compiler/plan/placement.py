"""Placement of tensors by liveness, and rings: buffers in turn for data that passes through an SRAM."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

from systolith.compiler.ir.graph import Graph
from systolith.compiler.layout.layout import words_of
from systolith.compiler.plan.liveness import Lifetime
from systolith.compiler.plan.packing import fit
from systolith.config import Config
from systolith.errors import SystolithError
from systolith.isa import Region

__all__ = ["ALIGN", "Place", "Placement", "Ring", "aligned", "place_tensors"]

ALIGN = 64


@dataclass(frozen=True)
class Place:
    """Where a tensor is: its first word in activation SRAM, or region and byte offset in memory, or both."""

    sram: int | None
    region: Region | None
    offset: int = 0

    @property
    def word(self) -> int:
        """`sram` of a tensor that is known to be there."""
        assert self.sram is not None
        return self.sram

    @property
    def home(self) -> Region:
        """`region` of a tensor that is known to be in memory."""
        assert self.region is not None
        return self.region


class Ring:
    """Buffers in a part of an SRAM, handed out in turn; a new one takes the place of the oldest ones.

    `find` gives the address of a buffer still there. Nothing is said about when it may be overwritten: that follows
    from program order, and the synchronization makes it hold.
    """

    def __init__(self, base: int, size: int):
        self.base, self.size, self.head = base, size, 0
        self._live: dict[Hashable, tuple[int, int]] = {}

    def find(self, key: Hashable) -> int | None:
        """First word of a buffer handed out for `key`, if nothing has taken its place."""
        return self.base + self._live[key][0] if key in self._live else None

    def take(self, key: Hashable, words: int) -> int:
        """First word of a new buffer."""
        if words > self.size:
            raise SystolithError(f"Buffer must have at most {self.size} words, not {words}")
        start = self.head if self.head + words <= self.size else 0
        end = start + words
        self._live = {k: (s, e) for k, (s, e) in self._live.items() if e <= start or s >= end}
        self._live[key] = (start, end)
        self.head = end
        return self.base + start


@dataclass(frozen=True)
class Placement:
    """A place for each tensor that lies inside no other, and what that leaves: for each layer the largest part of
    activation SRAM that no living tensor takes, as (first word, words), and the words that are taken."""

    places: Mapping[str, Place]
    lives: Mapping[str, Lifetime]
    scratch_bytes: int
    holes: tuple[tuple[int, int], ...]
    taken: tuple[int, ...]


def place_tensors(
    graph: Graph, lives: Mapping[str, Lifetime], config: Config, spilled: frozenset[str], early: int = 0
) -> Placement:
    """Tensors between layers stay in activation SRAM unless they are in `spilled` or find no room; network inputs and
    outputs have a place in memory as well. `lives` are the lifetimes of the graph. In SRAM a tensor has its words
    `early` layers before it is made, so that these layers can overlap."""
    inputs, outputs = [port.value for port in graph.inputs], [port.value for port in graph.outputs]
    places = {**_in_region(graph, config, inputs, Region.INPUT), **_in_region(graph, config, outputs, Region.OUTPUT)}
    kept = [
        replace(life, first=max(life.first - early, 0))
        for name, life in lives.items()
        if life.reads and name not in spilled
    ]
    starts = fit(kept, config.act_depth, config.act_banks)
    scratch = [life for name, life in lives.items() if name not in starts and name not in places]
    placed, scratch_bytes = _scratch(scratch, config.array)
    places |= placed
    for name, start in starts.items():
        memory = places.get(name, Place(None, None))
        places[name] = Place(start, memory.region, memory.offset)
    alive: list[list[tuple[int, int]]] = [[] for _ in graph.layers]
    for name, start in starts.items():
        for index in range(max(lives[name].first - early, 0), lives[name].last + 1):
            alive[index].append((start, start + lives[name].words))
    gaps = [_gaps(sorted(taken), config.act_depth) for taken in alive]
    holes = tuple(max(found, key=lambda gap: gap[1]) for found in gaps)
    taken = tuple(config.act_depth - sum(size for _, size in found) for found in gaps)
    return Placement(places, lives, scratch_bytes, holes, taken)


def aligned(size: int) -> int:
    """The next multiple of the alignment of tensors in memory."""
    return -(-size // ALIGN) * ALIGN


def _in_region(graph: Graph, config: Config, names: list[str], region: Region) -> dict[str, Place]:
    places, offset = {}, 0
    for name in dict.fromkeys(names):
        places[name] = Place(None, region, offset)
        offset += aligned(words_of(graph, name, config.array) * config.array)
    return places


def _gaps(taken: list[tuple[int, int]], depth: int) -> list[tuple[int, int]]:
    """(first word, words) between the sorted [start, end) of `taken`; some may be equal."""
    gaps, end = [], 0
    for start, stop in [*taken, (depth, depth)]:
        gaps.append((end, max(start - end, 0)))
        end = max(end, stop)
    return gaps


def _scratch(lives: Sequence[Lifetime], array: int) -> tuple[dict[str, Place], int]:
    """First fit over time: tensors that do not live at the same time may share bytes."""
    placed: list[tuple[Lifetime, int, int]] = []
    for life in lives:
        size, start = aligned(life.words * array), 0
        for low, high in sorted((low, high) for other, low, high in placed if life.meets(other)):
            if low - start >= size:
                break
            start = max(start, high)
        placed.append((life, start, start + size))
    places = {life.name: Place(None, Region.SCRATCH, start) for life, start, _ in placed}
    return places, max((end for _, _, end in placed), default=0)
