"""What surrounds EXECUTE in its testbench: see UnitHost; and a monitor of why there is no row."""

from collections.abc import Sequence

from systolith.isa import Instruction
from systolith.sim.testbench.support.unit_host import LOAD_W, UnitHost

__all__ = ["ExecuteHost"]

COUNTS = ("fed", "wait_weights", "wait_tokens", "idle")


class ExecuteHost(UnitHost):
    """EXECUTE with array and accumulators."""

    def __init__(self, dut):
        super().__init__(dut, {"weight_tokens": LOAD_W, "unit__tokens": 0x3F & ~LOAD_W})
        self.trace: list[str] = []

    def monitor(self) -> None:
        """Notes, too, that each cycle has exactly one reason."""
        super().monitor()
        word = int(self.dut.counts.value)
        assert word.bit_count() == 1, f"counts must be one of {COUNTS}, not {word:04b}"
        self.trace.append(COUNTS[word.bit_length() - 1])

    async def run(self, instructions: Sequence[Instruction]):
        self.trace.clear()
        await super().run(instructions)
