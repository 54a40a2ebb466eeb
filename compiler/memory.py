"""Where tensors and staging buffers lie: liveness-based placement, and rings for what passes through an SRAM."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from systolith.compiler.ir import Graph
from systolith.compiler.jobs import blocks_of
from systolith.config import Config
from systolith.errors import SystolithError
from systolith.isa import Region

__all__ = ["ALIGN", "Place", "Ring", "aligned", "largest_hole", "lifetimes", "place_tensors", "words_of"]

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


def words_of(graph: Graph, name: str, array: int) -> int:
    """Words of a tensor in blocked layout."""
    batch, channels, height, width = graph.values[name].dims
    return batch * blocks_of(channels, array) * height * width


def lifetimes(graph: Graph) -> dict[str, tuple[int, int]]:
    """Index of the first and last layer that touches each value; outputs live on in memory, not here."""
    spans: dict[str, tuple[int, int]] = {}
    for index, layer in enumerate(graph.layers):
        for name in (layer.output, layer.input):
            spans[name] = (spans.get(name, (index, index))[0], index)
    return spans


def place_tensors(graph: Graph, config: Config, spilled: frozenset[str]) -> tuple[dict[str, Place], int]:
    """A place for every tensor, and the bytes of scratch memory. Tensors between layers stay in activation SRAM unless
    they are in `spilled` or find no room; network inputs and outputs have a place in memory as well."""
    spans = lifetimes(graph)
    inputs, outputs = [port.value for port in graph.inputs], [port.value for port in graph.outputs]
    places = {**_in_region(graph, config, inputs, Region.INPUT), **_in_region(graph, config, outputs, Region.OUTPUT)}
    live: dict[str, tuple[int, int, int]] = {}
    scratch: list[str] = []
    for index, layer in enumerate(graph.layers):
        live = {name: item for name, item in live.items() if item[2] >= index}
        name, last = layer.output, spans[layer.output][1]
        if last == index:
            if name not in places:
                scratch.append(name)
            continue
        words = words_of(graph, name, config.array)
        start = None if name in spilled else _fit(live, layer.input, words, config)
        if start is not None:
            live[name] = (start, start + words, last)
            memory = places.get(name, Place(None, None))
            places[name] = Place(start, memory.region, memory.offset)
        elif name not in places:
            scratch.append(name)
    placed, scratch_bytes = _scratch(graph, config, scratch, spans)
    return {**places, **placed}, scratch_bytes


def largest_hole(places: Mapping[str, Place], graph: Graph, config: Config, index: int) -> tuple[int, int]:
    """First word and size of the largest part of activation SRAM that no tensor alive at layer `index` takes."""
    taken = sorted(
        (places[name].word, places[name].word + words_of(graph, name, config.array))
        for name, (first, last) in lifetimes(graph).items()
        if first <= index <= last and places[name].sram is not None
    )
    return max(_holes(taken, config.act_depth), key=lambda hole: hole[1])


def aligned(size: int) -> int:
    """The next multiple of the alignment of tensors in memory."""
    return -(-size // ALIGN) * ALIGN


def _in_region(graph: Graph, config: Config, names: list[str], region: Region) -> dict[str, Place]:
    places, offset = {}, 0
    for name in dict.fromkeys(names):
        places[name] = Place(None, region, offset)
        offset += aligned(words_of(graph, name, config.array) * config.array)
    return places


def _fit(live: Mapping[str, tuple[int, int, int]], reads: str, words: int, config: Config) -> int | None:
    """First word of a free place, in banks other than the input's if there is one; low and high ends are tried."""
    holes = [hole for hole in _holes(sorted(item[:2] for item in live.values()), config.act_depth) if hole[1] >= words]
    starts = [start for base, size in holes for start in (base, base + size - words)]
    bank = config.act_depth // config.act_banks
    avoid = range(live[reads][0] // bank, (live[reads][1] - 1) // bank + 1) if reads in live else range(0)

    def shared(start: int) -> int:
        return sum(b in avoid for b in range(start // bank, (start + words - 1) // bank + 1))

    return min(starts, key=shared, default=None)


def _holes(taken: list[tuple[int, int]], depth: int) -> list[tuple[int, int]]:
    """(first word, size) between the sorted [start, end) of `taken`."""
    edges = [(0, 0), *taken, (depth, depth)]
    return [(a[1], b[0] - a[1]) for a, b in pairwise(edges)]


def _scratch(graph: Graph, config: Config, names: list[str], spans) -> tuple[dict[str, Place], int]:
    """First fit over time: tensors that do not live at the same time may share bytes."""
    placed: dict[str, tuple[int, int]] = {}
    for name in names:
        size = aligned(words_of(graph, name, config.array) * config.array)
        others = sorted(
            span
            for other, span in placed.items()
            if spans[other][0] <= spans[name][1] and spans[name][0] <= spans[other][1]
        )
        start = 0
        for low, high in others:
            if low - start >= size:
                break
            start = max(start, high)
        placed[name] = (start, start + size)
    places = {name: Place(None, Region.SCRATCH, start) for name, (start, _) in placed.items()}
    return places, max((end for _, end in placed.values()), default=0)
