"""Random programs for the SFU's testbench: every mode, all legal, `drain` where one reads what was just written."""

import random

import numpy as np

from systolith.config import Config
from systolith.isa import ADDRESS_BITS, Instruction, make
from systolith.sim.testbench.support.sfu_model import (
    ACCUMULATORS,
    ACTIVATIONS,
    ADD,
    DEPTHWISE,
    MAXIMUM,
    MULTIPLY,
    NONE,
    SUM,
    Constants,
    Memories,
    job_of,
    run,
)

__all__ = ["Programs"]

NEUTRAL: dict[str, dict[str, int]] = {
    "output": {"zero_point": 0, "clamp_min": -128, "clamp_max": 127, "row_stride": 0, "col_stride": 1, "lookup": 0},
    "input": {"height": 4096, "width": 4096, "row_stride": 0, "y0": 0, "x0": 0, "pad": 0},
    "window": {"kernel_y": 1, "kernel_x": 1, "stride_y": 1, "stride_x": 1, "dilation_y": 1, "dilation_x": 1},
    "operand": {"row_stride": 0, "col_step": 0, "zero_a": 0, "zero_b": 0},
    "add": {"multiplier_a": 1, "multiplier_b": 1, "shift": 1, "zero_point": 0, "clamp_min": -128, "clamp_max": 127},
}
"""A CONFIG of each group that does as little as possible."""


class Programs:
    """Makes programs; keeps the constants in force and the words that may still be on their way to activation SRAM."""

    def __init__(self, config: Config, rng: random.Random):
        self.config, self.rng = config, rng
        self.memories = Memories(config, np.random.default_rng(0))  # for dry runs
        self.constants: Constants = {}
        self.pending: set[int] = set()

    def random(self, count: int) -> list[Instruction]:
        """CONFIG of every group first, then a mix of everything."""
        self.pending = set()
        program = [self.config_of(group) for group in NEUTRAL]
        while len(program) < count:
            kind = self.rng.random()
            if kind < 0.03:
                program += self.table(self.rng.randint(1, 4))
            elif kind < 0.35:
                program.append(self.config_of(self.rng.choice(list(NEUTRAL))))
            elif (instruction := self.sfu()) is not None:
                program.append(instruction)
        return program

    def masks(self) -> dict[str, int]:
        rng = self.rng
        return {"wait": rng.choice((0, 0, rng.getrandbits(6))), "signal": rng.choice((0, rng.getrandbits(6)))}

    def neutral(self, group: str, **values: int) -> Instruction:
        """A CONFIG of that group with these values, and else of as little effect as possible."""
        self.constants[group] = {**NEUTRAL[group], **values}
        return make(f"CONFIG.SFU.{group}", **self.constants[group])

    def table(self, count: int) -> list[Instruction]:
        """Some CONFIGs of the table, which wait for all that is on its way."""
        self.pending.clear()
        return [
            make("CONFIG.SFU.table", **self.masks(), index=self.rng.randrange(32), entries=self.rng.getrandbits(64))
            for _ in range(count)
        ]

    def whole_table(self) -> list[Instruction]:
        return [make("CONFIG.SFU.table", index=i, entries=self.rng.getrandbits(64)) for i in range(32)]

    def config_of(self, group: str) -> Instruction:
        values = getattr(self, f"_{group}")()
        self.constants[group] = values
        return make(f"CONFIG.SFU.{group}", **self.masks(), **values)

    def _output(self) -> dict[str, int]:
        rng = self.rng
        row_stride = rng.choice((0, 1, 3, rng.randrange(self.config.act_depth // 8)))
        return {"zero_point": rng.randint(-128, 127), **self._clamp(), "row_stride": row_stride,
                "col_stride": rng.choice((1, 1, 1, 2, 5)), "lookup": rng.getrandbits(1)}  # fmt: skip

    def _input(self) -> dict[str, int]:
        rng = self.rng
        size = {"height": rng.choice((0, 1, 4, 9)), "width": rng.choice((1, 3, 6, 9))}
        return {**size, "row_stride": rng.choice((0, 1, size["width"], 11, (1 << ADDRESS_BITS) - 3)),
                "y0": rng.choice((0, 0, -1, 2, rng.randint(-9, 4))), "x0": rng.choice((0, 0, -1, 1, -3)),
                "pad": rng.choice((0, -128, rng.randint(-128, 127)))}  # fmt: skip

    def _window(self) -> dict[str, int]:
        rng = self.rng
        if rng.random() < 0.3:
            return dict(NEUTRAL["window"])
        names = list(NEUTRAL["window"])
        return {name: rng.choice((1, 1, 2, 3)) if name in names[:2] else rng.choice((0, 1, 1, 2, 3)) for name in names}

    def _operand(self) -> dict[str, int]:
        rng = self.rng
        return {"row_stride": rng.choice((0, 1, 5)), "col_step": rng.getrandbits(1),
                "zero_a": rng.choice((0, -128, 127, rng.randint(-128, 127))),
                "zero_b": rng.choice((0, -128, 127, rng.randint(-128, 127)))}  # fmt: skip

    def _add(self) -> dict[str, int]:
        """Sometimes ratios as the compiler makes them, sometimes such that ties are frequent, sometimes anything."""
        rng = self.rng
        shift = rng.choice((rng.randrange(28), rng.randrange(64)))
        factors = {
            "a": lambda: int(min(2.0**shift * rng.uniform(0.1, 2), (1 << 26) - 1)),
            "b": lambda: rng.choice((1, -1)) << max(min(shift, 26) - rng.choice((1, 2)), 0),
            "c": lambda: rng.randrange(-(1 << 26), 1 << 26),
            "d": lambda: rng.choice((-(1 << 26), (1 << 26) - 1, 0)),
        }
        pick = factors[rng.choice("aabbcd")]
        return {"multiplier_a": pick(), "multiplier_b": pick(), "shift": shift, "zero_point": rng.randint(-128, 127),
                **self._clamp()}  # fmt: skip

    def _clamp(self) -> dict[str, int]:
        low, high = sorted(self.rng.randint(-128, 127) for _ in range(2))
        if self.rng.random() < 0.6:
            low, high = -128, 127
        return {"clamp_min": low, "clamp_max": high}

    def sfu(self) -> Instruction | None:
        """A random SFU instruction that the constants in force allow; None if this try was none."""
        config, rng = self.config, self.rng
        memory = rng.choice((ACCUMULATORS, ACTIVATIONS, DEPTHWISE) if config.dw_taps else (ACCUMULATORS, ACTIVATIONS))
        rows, cols = rng.choice(((1, 1), (1, rng.randint(1, 5)), (rng.randint(1, 4), rng.randint(1, 5))))
        depth = {ACCUMULATORS: config.acc_depth, DEPTHWISE: config.dw_depth}.get(memory, config.act_depth)
        source = rng.choice((0, depth // 2, rng.randrange(depth), depth - 1))
        if memory == ACTIVATIONS and rng.random() < 0.2:
            source = (1 << ADDRESS_BITS) - rng.randint(1, 12)  # position (0, 0) is before the memory
        reduce = (MAXIMUM, SUM)[rng.getrandbits(1)]
        second = rng.choice((NONE, ADD, MULTIPLY) if memory == ACTIVATIONS and reduce == MAXIMUM else (NONE, ADD))
        instruction = make("SFU", **self.masks(), memory=memory, reduce=reduce, second=second, drain=0, source=source,
                           operand=rng.randrange(config.act_depth), dst=rng.randrange(config.act_depth), rows=rows,
                           cols=cols, param=rng.randrange(config.param_depth))  # fmt: skip
        job = job_of(instruction)
        run(config, self.memories, job, self.constants)
        if job.fault or self._reads_itself(job):
            return None
        written = {address for address, _ in job.writes}
        drain = bool(self.pending & {step.activations for step in job.steps}) or rng.random() < 0.03
        self.pending = written if drain else self.pending | written
        return make("SFU", instruction.wait, instruction.signal, **{**instruction.values, "drain": int(drain)})

    def _reads_itself(self, job) -> bool:
        """A word is read for an output after it was written for one before."""
        each, written = len(job.steps) // len(job.writes), set()
        for n, (address, _) in enumerate(job.writes):
            if any(step.activations in written for step in job.steps[n * each : (n + 1) * each]):
                return True
            written.add(address)
        return False
