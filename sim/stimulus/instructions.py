"""Random valid instructions, each after the CONFIGs that it needs, with what it reads and writes.

For sim/stimulus/program.py; those of the SFU are in sfu.py. Extents are small, so that edges are met often.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from systolith.config import Config
from systolith.isa import ADDRESS_BITS, OFFSET_BITS, Instruction, LoadTarget, Region, make
from systolith.sim.isa.windows import PADDING, window_words
from systolith.sim.stimulus.program_order import Access

__all__ = ["Draw", "Drawn", "words_of"]

OUTPUTS, TAPS = 48, 20
"""Most outputs of an instruction and most positions of a window, as a rule."""
ADDRESSES = 1 << ADDRESS_BITS
OFFSETS = 1 << OFFSET_BITS

Drawn = Iterator[tuple[Instruction, Access]]
Values = dict[str, int]


def words_of(first: int, rows: int, row_stride: int, cols: int, step: int = 1) -> NDArray[np.int64]:
    """A word for each row and column."""
    oy, ox = np.ogrid[:rows, :cols]
    return first + oy * row_stride + ox * step


class Draw:
    """Draws instructions for a configuration; remembers the constants that CONFIG set.

    `input_words` and `output_words`: words of `config.array` bytes in the regions INPUT and OUTPUT.
    """

    def __init__(self, rng: np.random.Generator, config: Config, input_words: int, output_words: int):
        self.rng, self.config = rng, config
        self.input_words, self.output_words = input_words, output_words
        self.constants: dict[str, Values] = {}

    def instruction(self, kind: str) -> Drawn:
        """An instruction of a kind other than SFU."""
        match kind:
            case "LOAD.W":
                return self.load_weights()
            case "LOAD.A":
                return self.load_activations()
            case "EXECUTE":
                return self.execute()
            case "DEPTHWISE":
                return self.depthwise()
            case _:
                return self.store()

    # Numbers

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def between(self, low: int, high: int) -> int:
        """Uniform, both ends included; the ends more often than the rest."""
        return int(self.rng.choice([low, high])) if self.chance(0.1) else int(self.rng.integers(low, high + 1))

    def byte(self) -> int:
        return self.between(-128, 127)

    def area(self, limit: int) -> tuple[int, int]:
        """Rows and columns, at most `limit` together."""
        rows = self.between(1, min(limit, 9))
        return rows, self.between(1, min(limit // rows, 12))

    def configure(self, unit: str, **groups: Values) -> Drawn:
        """CONFIGs of the groups that change, and now and then of one that does not, in any order."""
        for group in self.rng.permutation(list(groups)):
            name = f"CONFIG.{unit}.{group}"
            if self.constants.get(name) != groups[group] or self.chance(0.1):
                self.constants[name] = groups[group]
                yield make(name, **groups[group]), Access()

    def row_stride(self, rows: int, cols: int) -> int:
        """Words from row to row of something that fits into activation SRAM."""
        return self.between(0, min((self.config.act_depth - cols) // rows, 20))

    def kept(self, name: str) -> Values | None:
        """Often the constants that a CONFIG left, where there are some."""
        return self.constants.get(f"CONFIG.{name}") if self.chance(0.4) else None

    # Windows: EXECUTE, DEPTHWISE and SFU

    def window(self) -> Values:
        """Sometimes of one position, as most are in networks; strides and dilations may be 0, too."""
        names = "stride_y", "stride_x", "dilation_y", "dilation_x"
        if self.chance(0.3):
            return {"kernel_y": 1, "kernel_x": 1, **dict.fromkeys(names, 1)}
        kernel_y = self.between(1, 5)
        kernel_x = self.between(1, TAPS // kernel_y if self.chance(0.2) else min(TAPS // kernel_y, 5))
        return {"kernel_y": kernel_y, "kernel_x": kernel_x, **{name: self.between(0, 3) for name in names}}

    def extents(self) -> tuple[Values, int, int]:
        """Height, width and row stride of an input, and where its first window begins."""
        height, width = self.between(1, 9), self.between(1, 9)
        if self.chance(0.02):
            height = 0
        row_stride = width + self.between(0, 3) if self.chance(0.8) else self.between(0, 20)
        y0, x0 = (self.between(-3, 2) if self.chance(0.9) else self.between(-8192, 8191) for _ in range(2))
        return {"height": height, "width": width, "row_stride": row_stride}, y0, x0

    def origin(self, reach: NDArray[np.int64], low: int, high: int) -> int | None:
        """An address of position (0, 0) that brings what windows reach from there into [low, high), if there is one."""
        if not reach.size:
            return self.between(low, high - 1)
        first, last = low - int(reach.min()), high - 1 - int(reach.max())
        return self.between(first, last) if first <= last else None

    def reach(self, source: Values, window: Values, y0: int, x0: int, rows: int, cols: int) -> NDArray[np.int64]:
        """Words inside the input that windows meet, relative to that of position (0, 0)."""
        words = window_words(source, window, (0, y0, x0), range(rows), cols)
        words = np.unique(words[words != PADDING])
        return np.where(words >= ADDRESSES // 2, words - ADDRESSES, words)

    # Units

    def load_weights(self) -> Drawn:
        """To weight SRAM from anywhere; parameters only from where there are some (scales are positive and normal)."""
        n, depth = self.config.array, 8 * self.config.param_depth
        if self.chance(0.6):
            words = self.between(1, min(self.config.weight_depth, 40))
            sram = self.between(0, self.config.weight_depth - words)
            offset = self.between(0, (depth + self.config.weight_depth - words) * n)
            access = Access(writes={"weight": np.arange(sram, sram + words)})
            yield (
                make("LOAD.W", region=Region.WEIGHTS, offset=offset, sram=sram, words=words, target=LoadTarget.WEIGHTS),
                access,
            )
            return
        words = self.between(1, min(depth, 40))
        sram = self.between(0, depth - words)
        chunk = self.rng.choice(np.arange(sram % 8, depth - words + 1, 8))
        access = Access(writes={"param": np.arange(sram // 8, (sram + words - 1) // 8 + 1)})
        yield (
            make(
                "LOAD.W",
                region=Region.WEIGHTS,
                offset=int(chunk) * n,
                sram=sram,
                words=words,
                target=LoadTarget.PARAMETERS,
            ),
            access,
        )

    def load_activations(self) -> Drawn:
        n, size = self.config.array, self.input_words * self.config.array
        rows, cols = self.area(OUTPUTS)
        length = self.between(1, n)
        window = {"step": self.between(1, 2 * n), "length": length, "lane": self.between(0, n - length),
                  "zero_point": self.byte(), "row_stride": self.row_stride(rows, cols)}  # fmt: skip
        # Up to 9 rows, 9 bytes apart, and one more fit.
        row_bytes, height = self.between(0, min((size - 81) // 10, 200)), self.between(0, 9)
        pitch, row_step, y0 = row_bytes + self.between(0, 9), self.between(0, 3), self.between(-4, 4)
        first = self.between(0, size - (height * pitch + row_bytes))
        source = {"row_pitch": pitch * row_step, "height": height, "row_step": row_step, "row_bytes": row_bytes}
        span = (rows - 1) * window["row_stride"] + cols
        sram = self.between(0, self.config.act_depth - span)
        yield from self.configure("LOAD_A", source=source, window=window)
        access = Access(writes={"act": words_of(sram, rows, window["row_stride"], cols)})
        yield make("LOAD.A", region=Region.INPUT, offset=(first + y0 * pitch) % OFFSETS, sram=sram, rows=rows,
                   cols=cols, x0=self.between(-2 * n, row_bytes), y0=y0), access  # fmt: skip

    def execute(self) -> Drawn:
        config, n = self.config, self.config.array
        while True:
            source, y0, x0 = self.extents()
            kernel = self.kept("EXECUTE.kernel") or {**self.window(), "blocks": self.between(1, 3)}
            rows, cols = self.area(min(OUTPUTS, config.acc_half))
            steps = self.between(0, 20) * np.arange(kernel["blocks"])
            reach = (self.reach(source, kernel, y0, x0, rows, cols)[:, None] + steps).reshape(-1)
            act = self.origin(reach, 0, config.act_depth)
            tiles = kernel["kernel_y"] * kernel["kernel_x"] * kernel["blocks"]
            if act is not None and tiles * n <= config.weight_depth:
                break
        weight = self.between(0, config.weight_depth - tiles * n)
        half = self.between(0, 1)
        source |= {"block_stride": int(steps[-1] // max(len(steps) - 1, 1)), "zero_point": self.byte()}
        yield from self.configure("EXECUTE", input=source, kernel=kernel)
        reads = {"act": reach + act, "weight": np.arange(weight, weight + tiles * n)}
        yield make("EXECUTE", act=act % ADDRESSES, weight=weight, y0=y0, x0=x0, rows=rows, cols=cols,
                   acc=half * config.acc_half + self.between(0, config.acc_half - rows * cols),
                   accumulate=self.between(0, 1)), Access(reads, {"acc": np.array([half])})  # fmt: skip

    def depthwise(self) -> Drawn:
        config = self.config
        while True:
            source, y0, x0 = self.extents()
            kernel = self.kept("DEPTHWISE.kernel") or self.window()
            rows, cols = self.area(min(OUTPUTS, config.dw_half))
            reach = self.reach(source, kernel, y0, x0, rows, cols)
            act = self.origin(reach, 0, config.act_depth)
            taps = kernel["kernel_y"] * kernel["kernel_x"]
            if act is not None and taps <= config.weight_depth:
                break
        weight, half = self.between(0, config.weight_depth - taps), self.between(0, 1)
        yield from self.configure("DEPTHWISE", input={**source, "zero_point": self.byte()}, kernel=kernel)
        reads = {"act": reach + act, "weight": np.arange(weight, weight + taps)}
        yield make("DEPTHWISE", act=act % ADDRESSES, weight=weight, y0=y0, x0=x0, rows=rows, cols=cols,
                   acc=half * config.dw_half + self.between(0, config.dw_half - rows * cols)), Access(
            reads, {"dw_acc": np.array([half])})  # fmt: skip

    def store(self) -> Drawn:
        config, n = self.config, self.config.array
        rows, cols = self.area(OUTPUTS)
        row_stride, pitch = self.row_stride(rows, cols), cols * n + self.between(0, 9)
        sram = self.between(0, config.act_depth - ((rows - 1) * row_stride + cols))
        offset = self.between(0, self.output_words * n - rows * pitch)
        yield from self.configure("STORE", target={"row_pitch": pitch, "row_stride": row_stride})
        yield make("STORE", region=Region.OUTPUT, offset=offset, sram=sram, rows=rows, cols=cols), Access(
            {"act": words_of(sram, rows, row_stride, cols)})  # fmt: skip
