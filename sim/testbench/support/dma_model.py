"""Random DMA instructions and what each must do: writes to SRAM, one word after the other; bytes in memory."""

from collections.abc import Iterator
from dataclasses import dataclass

from systolith.isa import Instruction, LoadTarget, make
from systolith.sim.testbench.support.dma import Dma

__all__ = [
    "LoadSource",
    "StoreModel",
    "expect_load_activations",
    "expect_load_weights",
    "random_load_activations",
    "random_load_weights",
    "random_source",
]

WRAP = 1 << 32
LOADED, STORED = (0, 1, 2, 3), (4, 5, 6)
"""Regions that are read, and those that are written."""


def tokens(dma: Dma) -> dict[str, int]:
    """Random masks."""
    return {mask: dma.bench.rng.choice((0, dma.bench.rng.getrandbits(6))) for mask in ("wait", "signal")}


def place(dma: Dma, low: int, high: int) -> tuple[int, int]:
    """Region and offset such that bytes [offset + low, offset + high) lie in it; often at its very end or begin."""
    rng = dma.bench.rng
    if rng.random() < 0.2:
        return 7, rng.randrange(-low, dma.regions[4][0] - high) % WRAP
    region = rng.choice(LOADED)
    first, last = -low, dma.regions[region][1] - high
    return region, rng.choice((first, last, rng.randint(first, last), rng.randint(first, last))) % WRAP


def random_load_weights(dma: Dma) -> Instruction:
    rng, config = dma.bench.rng, dma.bench.config
    target = LoadTarget.PARAMETERS if rng.random() < 0.3 else LoadTarget.WEIGHTS
    depth = 8 * config.param_depth if target == LoadTarget.PARAMETERS else config.weight_depth
    words = rng.choice((1, 2, rng.randint(1, 60), rng.randint(1, 6000 // config.array)))
    words = min(words, depth)
    region, offset = place(dma, 0, words * config.array)
    sram = rng.choice((0, depth - words, rng.randint(0, depth - words)))
    dma.bench.cover("LOAD.W to parameters" if target == LoadTarget.PARAMETERS else "LOAD.W to weights")
    return make("LOAD.W", region=region, offset=offset, sram=sram, words=words, target=target, **tokens(dma))


def expect_load_weights(dma: Dma, instruction: Instruction) -> None:
    n = dma.bench.config.array
    port = dma.parameters if instruction["target"] == LoadTarget.PARAMETERS else dma.weights
    address = dma.regions[instruction["region"]][0] + instruction["offset"]
    for i in range(instruction["words"]):
        data = int.from_bytes(dma.memory[address + i * n : address + (i + 1) * n], "little")
        port.expected.append((instruction["sram"] + i, (1 << n) - 1, data))


@dataclass(frozen=True)
class LoadSource:
    """The two CONFIGs that LOAD.A works with."""

    source: Instruction
    window: Instruction


def random_source(dma: Dma) -> LoadSource:
    rng, bench, n = dma.bench.rng, dma.bench, dma.bench.config.array
    kind = rng.choice(("plain", "gather", "skip"))
    length = n if kind == "plain" else rng.choice((1, n, rng.randint(1, n)))
    step = {"plain": n, "gather": rng.randint(1, n), "skip": rng.choice((n + 1, rng.randint(n, 600)))}[kind]
    bench.cover(f"{kind} windows")
    lane = rng.choice((0, n - length, rng.randint(0, n - length)))
    bench.cover("lane offset", lane > 0)
    most = (1 << 14) - 1
    return LoadSource(
        make("CONFIG.LOAD_A.source", row_pitch=rng.choice((rng.randint(0, 900), WRAP - rng.randint(1, 300))),
             height=rng.choice((0, 1, 5, 12, 12, 30, 30, most, most, most)), row_step=rng.choice((0, 1, 1, 2, 3)),
             row_bytes=rng.choice((rng.randint(0, 50), rng.randint(1, 700), 5000, 5000, (1 << 24) - 1)), **tokens(dma)),
        make("CONFIG.LOAD_A.window", step=step, length=length, lane=lane, zero_point=rng.randint(-128, 127),
             row_stride=rng.randint(0, min(40, bench.config.act_depth // 12)), **tokens(dma)),
    )  # fmt: skip


def random_load_activations(dma: Dma, c: LoadSource) -> Instruction:
    rng, bench = dma.bench.rng, dma.bench
    depth = bench.config.act_depth
    rows, cols = rng.choice((1, 2, rng.randint(1, 8))), rng.choice((1, 2, rng.randint(1, min(30, depth // 4))))
    if c.window["step"] > bench.config.array:
        cols = min(cols, 6)
    y0 = rng.choice((0, 0, 0, 0, 0, rng.randint(-5, 6), rng.randint(-3, 1), -(1 << 13)))
    shape = {"rows": rows, "cols": cols, "y0": y0,
             "x0": rng.choice((0, 0, 1, rng.randint(-100, 100), rng.randint(-9, 9)))}  # fmt: skip
    spans = [span for r in range(rows) if (span := row_span(c, shape, r)) is not None]
    low, high = (min(s[0] for s in spans), max(s[1] for s in spans)) if spans else (0, 0)
    region, offset = place(dma, low, high)
    used = (rows - 1) * c.window["row_stride"] + cols
    sram = rng.choice((0, depth - used, rng.randint(0, depth - used)))
    bench.cover("row outside the tensor", len(spans) < rows)
    bench.cover("offset before the region", low > 0 and offset >= WRAP // 2)
    end = shape["x0"] + (cols - 1) * c.window["step"] + c.window["length"]
    bench.cover("bytes before the row", shape["x0"] < 0 and bool(spans))
    bench.cover("bytes after the row", end > c.source["row_bytes"] and bool(spans))
    return make("LOAD.A", region=region, offset=offset, sram=sram, **shape, **tokens(dma))


def row_span(c: LoadSource, i, r: int) -> tuple[int, int] | None:
    """Bytes that row `r` reads, counted from `offset`, or None."""
    y = i["y0"] + r * c.source["row_step"]
    first = max(0, i["x0"])
    last = min(c.source["row_bytes"], i["x0"] + (i["cols"] - 1) * c.window["step"] + c.window["length"])
    if not 0 <= y < c.source["height"] or last <= first:
        return None
    pitch = c.source["row_pitch"] - (WRAP if c.source["row_pitch"] >= WRAP // 2 else 0)
    return r * pitch + first, r * pitch + last


def expect_load_activations(dma: Dma, c: LoadSource, i: Instruction) -> None:
    window, base = c.window, dma.regions[i["region"]][0]
    mask = (1 << window["length"]) - 1 << window["lane"]
    for r in range(i["rows"]):
        exists = 0 <= i["y0"] + r * c.source["row_step"] < c.source["height"]
        row = base + (i["offset"] + r * c.source["row_pitch"])
        for x in range(i["cols"]):
            word = 0
            for k in range(window["length"]):
                b = i["x0"] + x * window["step"] + k
                value = window["zero_point"] & 0xFF
                if exists and 0 <= b < c.source["row_bytes"]:
                    value = dma.memory[(base + (row - base + b) % WRAP) % len(dma.memory)]
                word |= value << 8 * (window["lane"] + k)
            dma.activations.expected.append((i["sram"] + r * window["row_stride"] + x, mask, word))


class StoreModel:
    """Random STOREs, and memory as it must be after each of them."""

    def __init__(self, dma: Dma):
        self.dma = dma
        self.target: Instruction | None = None
        self.pieces: dict[int, list[tuple[int, bytes]]] = {}
        self.writer = [-1] * len(dma.memory)
        dma.units[4].on_retire = self.check

    def config(self) -> Instruction:
        """Another CONFIG."""
        rng, config = self.dma.bench.rng, self.dma.bench.config
        pitch = rng.choice((rng.randint(0, 30 * config.array), WRAP - rng.randint(1, 500)))
        stride = rng.randint(0, min(40, config.act_depth // 12))
        self.target = make("CONFIG.STORE.target", row_pitch=pitch, row_stride=stride, **tokens(self.dma))
        return self.target

    def random(self) -> Instruction:
        """A STORE that stays inside its region."""
        rng, config = self.dma.bench.rng, self.dma.bench.config
        longest = min(40, config.act_depth // 4)
        rows, cols = rng.choice((1, 2, rng.randint(1, 6))), rng.choice((1, 2, rng.randint(1, longest)))
        pitch = self.target["row_pitch"]
        pitch -= WRAP if pitch >= WRAP // 2 else 0
        low, high = min(0, (rows - 1) * pitch), max(0, (rows - 1) * pitch) + cols * config.array
        region = rng.choice(STORED)
        first, last = -low, self.dma.regions[region][1] - high
        offset = rng.choice((first, last, rng.randint(first, last), rng.randint(first, last)))
        used = (rows - 1) * self.target["row_stride"] + cols
        sram = rng.choice((0, config.act_depth - used, rng.randint(0, config.act_depth - used)))
        return make("STORE", region=region, offset=offset, sram=sram, rows=rows, cols=cols, **tokens(self.dma))

    def expect(self, i: Instruction, position: int) -> None:
        """The instruction is the one at this position of the program."""
        pieces = self.pieces[position] = list(self._pieces(i))
        for address, data in pieces:
            self.dma.memory[address : address + len(data)] = data
            self.writer[address : address + len(data)] = [position] * len(data)

    def _pieces(self, i: Instruction) -> Iterator[tuple[int, bytes]]:
        n, base = self.dma.bench.config.array, self.dma.regions[i["region"]][0]
        for r in range(i["rows"]):
            first = i["sram"] + r * self.target["row_stride"]
            data = b"".join(word.to_bytes(n, "little") for word in self.dma.words[first : first + i["cols"]])
            yield base + (i["offset"] + r * self.target["row_pitch"]) % WRAP, data

    def check(self, position: int) -> None:
        """At retirement: what this instruction wrote, and no later one, is in memory."""
        for address, data in self.pieces.get(position, ()):
            found = bytes(self.dma.ram.read(address, len(data)))
            for k, (have, _) in enumerate(zip(found, data, strict=True)):
                if self.writer[address + k] == position:
                    want = self.dma.memory[address + k]
                    assert have == want, f"STORE {position}: byte {address + k:#x} is {have:#x}, not {want:#x}"
