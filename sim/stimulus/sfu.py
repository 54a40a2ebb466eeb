"""Random SFU instructions of every mode, for sim/stimulus/program.py.

One that reads what an earlier one wrote has `drain`; none reads what it wrote itself for an earlier output.
"""

import numpy as np
from numpy.typing import NDArray

from systolith.isa import Reduction, SecondOperand, SfuSource, make
from systolith.numerics import ADD_BITS, add_constants
from systolith.sim.isa.windows import PADDING, window_words
from systolith.sim.stimulus.instructions import ADDRESSES, OUTPUTS, Draw, Drawn, Values, words_of
from systolith.sim.stimulus.program_order import Access

__all__ = ["RandomSfu"]

MEMORIES: dict[int, str] = {SfuSource.ACCUMULATORS: "acc", SfuSource.ACTIVATIONS: "act", SfuSource.DEPTHWISE: "dw_acc"}


class RandomSfu:
    """Draws SFU instructions; remembers which words they wrote since one was drained."""

    def __init__(self, draw: Draw):
        self.draw, self.config, self.rng = draw, draw.config, draw.rng
        self.memories = [source for source in SfuSource if source != SfuSource.DEPTHWISE or draw.config.dw_taps]
        self.recent = np.zeros(draw.config.act_depth, np.bool_)

    def table(self, index: int) -> Drawn:
        """Eight entries."""
        self.recent[:] = False
        entries = int.from_bytes(self.rng.bytes(8), "little")
        yield make("CONFIG.SFU.table", index=index, entries=entries), Access()

    def sfu(self) -> Drawn:
        """One instruction, now and then after a change of the table."""
        if self.draw.chance(0.1):
            yield from self.table(self.draw.between(0, 31))
        while (found := self.attempt()) is None:
            pass
        groups, values, access, reads = found
        drain = bool(self.recent[reads].any()) or self.draw.chance(0.1)
        if drain:
            self.recent[:] = False
        self.recent[access.writes["act"]] = True
        yield from self.draw.configure("SFU", **groups)
        yield make("SFU", drain=int(drain), **values), access

    def attempt(self) -> tuple[dict[str, Values], Values, Access, NDArray[np.int64]] | None:
        """Constants, fields, accesses, and words of activation SRAM read; None where they do not fit together."""
        draw, config = self.draw, self.config
        rows, cols = draw.area(OUTPUTS)
        memory = int(self.rng.choice(self.memories))
        reduce, second = list(Reduction)[draw.between(0, 1)], int(self.rng.choice(list(SecondOperand)))
        if second == SecondOperand.MULTIPLY:
            memory, reduce = SfuSource.ACTIVATIONS, Reduction.MAXIMUM
        source, y0, x0 = draw.extents()
        window = draw.kept("SFU.window") or draw.window()
        output, operand = draw.kept("SFU.output") or self.output(), draw.kept("SFU.operand") or self.operand()
        reach = draw.reach(source, window, y0, x0, rows, cols)
        origin, half = self.origin(memory, reach)
        dst = self.first(rows, output["row_stride"], cols, output["col_stride"])
        other = self.first(rows, operand["row_stride"], cols, operand["col_step"])
        if origin is None or dst is None or other is None:
            return None
        if draw.chance(0.1):  # In place.
            other, operand = dst, {**operand, "row_stride": output["row_stride"], "col_step": 1}
        words = window_words(source, window, (origin % ADDRESSES, y0, x0), range(rows), cols).reshape(rows, cols, -1)
        operands = words_of(other, rows, operand["row_stride"], cols, operand["col_step"])[..., None]
        none = np.full((rows, cols, 1), PADDING)
        others = none if second == SecondOperand.NONE else operands
        inputs = np.concatenate([words if memory == SfuSource.ACTIVATIONS else none, others], axis=-1)
        targets = words_of(dst, rows, output["row_stride"], cols, output["col_stride"])
        reads = np.unique(inputs[inputs != PADDING])
        if max(reads.max(initial=0), targets.max()) >= config.act_depth or self.reads_own(inputs, targets):
            return None
        groups = {"output": output, "input": {**source, "y0": y0, "x0": x0, "pad": draw.byte()}, "window": window,
                  "operand": operand, "add": draw.kept("SFU.add") or self.add()}  # fmt: skip
        values = {"memory": memory, "reduce": reduce, "second": second, "source": origin % ADDRESSES, "operand": other,
                  "dst": dst, "rows": rows, "cols": cols, "param": draw.between(0, config.param_depth - 1)}  # fmt: skip
        sources = {"act": reads, "param": np.array([values["param"]])}
        if memory != SfuSource.ACTIVATIONS:
            sources[MEMORIES[memory]] = np.array([half])
        return groups, values, Access(sources, {"act": targets.reshape(-1)}), reads

    def origin(self, memory: int, reach: NDArray[np.int64]) -> tuple[int | None, int]:
        """Address of position (0, 0), and the half of the accumulators it is in, with all that windows reach."""
        if memory == SfuSource.ACTIVATIONS:
            return self.draw.origin(reach, 0, self.config.act_depth), 0
        half = self.draw.between(0, 1)
        size = self.config.acc_half if memory == SfuSource.ACCUMULATORS else self.config.dw_half
        return self.draw.origin(np.append(reach, 0), half * size, (half + 1) * size), half

    def first(self, rows: int, row_stride: int, cols: int, step: int) -> int | None:
        """A first word, so that all of them are there."""
        last = self.config.act_depth - 1 - (rows - 1) * row_stride - (cols - 1) * step
        return self.draw.between(0, last) if last >= 0 else None

    def reads_own(self, inputs: NDArray[np.int64], targets: NDArray[np.int64]) -> bool:
        """Whether some output reads a word that an earlier one wrote."""
        outputs = np.arange(targets.size)
        written = np.full(self.config.act_depth + 1, targets.size)
        np.minimum.at(written, targets.reshape(-1), outputs)
        return bool((written[inputs.reshape(targets.size, -1)] < outputs[:, None]).any())

    def output(self) -> Values:
        draw = self.draw
        low, high = sorted((draw.byte(), draw.byte())) if draw.chance(0.5) else (-128, 127)
        return {"zero_point": draw.byte(), "clamp_min": low, "clamp_max": high, "row_stride": draw.between(0, 24),
                "col_stride": draw.between(1, 3), "lookup": draw.between(0, 1)}  # fmt: skip

    def operand(self) -> Values:
        draw = self.draw
        return {"row_stride": draw.between(0, 20), "col_step": draw.between(0, 1), "zero_a": draw.byte(),
                "zero_b": draw.byte()}  # fmt: skip

    def add(self) -> Values:
        """Mostly ratios of scales as networks have them; ties are likely where they are powers of two."""
        draw = self.draw
        if draw.chance(0.3):
            factors = draw.between(-(1 << ADD_BITS), (1 << ADD_BITS) - 1), draw.between(-(1 << ADD_BITS), 1 << 25)
            constants = *factors, draw.between(0, 63)
        else:
            a, b = np.exp2(self.rng.uniform(-6, 3, 2) if draw.chance(0.7) else self.rng.integers(-6, 3, 2))
            constants = add_constants(a, b, 1.0, int(self.rng.choice([-1, 1])))
        low, high = sorted((draw.byte(), draw.byte())) if draw.chance(0.3) else (-128, 127)
        return {"multiplier_a": constants[0], "multiplier_b": constants[1], "shift": constants[2],
                "zero_point": draw.byte(), "clamp_min": low, "clamp_max": high}  # fmt: skip
