"""What a cocotb testbench gets from the runner and gives back: configuration, seed, random numbers, coverage.

Runs inside the simulator's process. Used so::

    bench = Environment(dut)            # in the @cocotb.test()
    await bench.reset()
    ... bench.rng.random() ... bench.cover("swap and latch together") ... bench.config.array
    bench.finish(require=("swap", ...)) # asserts that each of these was covered, and writes the report
"""

import json
import os
import random
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge
from cocotb.utils import get_sim_time

from systolith.config import Config

__all__ = ["Environment"]

PERIOD = 10
"""Clock period in ns."""


class Environment:
    """Configuration, seeded random sources, coverage counters and clock of one testbench run."""

    def __init__(self, dut, clock: str = "clk", reset: str = "rst", reset_active: int = 1):
        self.dut = dut
        self.config = Config(**json.loads(os.environ["SYSTOLITH_BENCH_CONFIG"]))
        self.seed = int(os.environ["SYSTOLITH_BENCH_SEED"])
        self.options = json.loads(os.environ.get("SYSTOLITH_BENCH_OPTIONS", "{}"))
        self.rng = random.Random(self.seed)
        self.numpy = np.random.default_rng(self.seed)
        self.coverage: Counter[str] = Counter()
        self.clock = getattr(dut, clock)
        self._reset, self._reset_active = getattr(dut, reset), reset_active
        dut._log.info("seed %d", self.seed)
        Clock(self.clock, PERIOD, "ns").start()

    async def reset(self, cycles: int = 2) -> None:
        """Hold reset for some cycles."""
        self._reset.value = self._reset_active
        await self.cycles(cycles)
        self._reset.value = 1 - self._reset_active
        await self.cycles(1)

    async def cycles(self, count: int) -> None:
        """Wait for rising edges."""
        for _ in range(count):
            await RisingEdge(self.clock)

    def cover(self, point: str, count: int = 1) -> None:
        """Count that `point` was seen."""
        self.coverage[point] += int(count)

    def finish(self, require: Iterable[str] = ()) -> None:
        """Assert that every required point was covered, and add this test to the report."""
        if missing := [point for point in require if not self.coverage[point]]:
            raise AssertionError(f"not covered with seed {self.seed}: {missing}")
        path = Path(os.environ["SYSTOLITH_BENCH_REPORT"])
        reports = json.loads(path.read_text()) if path.exists() else []
        reports.append({"cycles": int(get_sim_time("ns") // PERIOD), "coverage": dict(self.coverage)})
        path.write_text(json.dumps(reports))
