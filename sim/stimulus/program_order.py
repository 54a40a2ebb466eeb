"""Puts instructions in order by tokens: which memory each one reads and writes decides whom it waits for.

Written apart from the compiler's own (compiler/order/tokens.py), for random programs that hold the simulators to each
other.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from systolith.config import Config
from systolith.isa import Instruction, Unit, make

__all__ = ["Access", "ProgramOrder"]

Words = Mapping[str, NDArray[np.int64]]


@dataclass(frozen=True)
class Access:
    """Words that an instruction reads and writes, by memory: "act", "weight", "param", "acc", "dw_acc", "scratch".

    Of accumulators a word is a half: the SFU must not read the one that is being written.
    """

    reads: Words = field(default_factory=dict)
    writes: Words = field(default_factory=dict)


class ProgramOrder:
    """A program that grows. `add` gives an instruction the tokens it needs, and those before it theirs.

    The k-th token from one unit to another is the k-th that is taken, because dependences that an earlier one covers
    get none. At most as many as a counter holds are between two FENCEs.
    """

    def __init__(self, config: Config):
        self.config = config
        self.listing: list[Instruction] = []
        self.sizes = {"act": config.act_depth, "weight": config.weight_depth, "param": config.param_depth, "acc": 2,
                      "dw_acc": 2, "scratch": 1}  # fmt: skip
        self.most = (1 << config.token_bits) - 1
        self._forget()

    def _forget(self) -> None:
        """Everything up to here is done before anything that follows."""
        shape = {name: (len(Unit), size) for name, size in self.sizes.items()}
        self.read = {name: np.full(sizes, -1) for name, sizes in shape.items()}
        self.wrote = {name: np.full(sizes, -1) for name, sizes in shape.items()}
        self.covered: dict[tuple[Unit, Unit], int] = {}
        self.given: Counter[tuple[Unit, Unit]] = Counter()

    def fence(self) -> None:
        """Append FENCE."""
        self.listing.append(make("FENCE"))
        self._forget()

    def add(self, instruction: Instruction, access: Access | None = None) -> None:
        """Append an instruction."""
        access, unit = access or Access(), instruction.unit
        sources = self._sources(unit, access)
        if any(self.given[source, unit] == self.most for source in sources):
            self.fence()
            sources = {}
        index = len(self.listing)
        for source, giver in sources.items():
            self.listing[giver] = replace(self.listing[giver], signal=self.listing[giver].signal | 1 << unit)
            self.covered[source, unit] = giver
            self.given[source, unit] += 1
        self.listing.append(replace(instruction, wait=sum(1 << source for source in sources)))
        for table, words in ((self.read, access.reads), (self.wrote, access.writes)):
            for name, chosen in words.items():
                table[name][_row(unit), chosen] = index

    def _sources(self, unit: Unit, access: Access) -> dict[Unit, int]:
        """The last instruction of each other unit that must be done first, where no token before says so."""
        sources = {}
        for other in Unit:
            last = -1
            for name, words in access.reads.items():
                last = max(last, self.wrote[name][_row(other), words].max(initial=-1))
            for name, words in access.writes.items():
                for table in (self.read, self.wrote):
                    last = max(last, table[name][_row(other), words].max(initial=-1))
            if other != unit and last > self.covered.get((other, unit), -1):
                sources[other] = int(last)
        return sources


def _row(unit: Unit) -> int:
    return list(Unit).index(unit)
