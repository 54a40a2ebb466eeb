"""One lane of the SFU's reduction: random windows with bubbles, back to back, and products, against Python integers."""

from collections import deque

import cocotb
from cocotb.triggers import RisingEdge

from systolith.config import Config
from systolith.sim.testbench.support.environment import Environment

NAME = "sfu_reduce"
WINDOWS = 4000
LATENCY, FOLD_AFTER, OPERAND_AFTER, MULTIPLY_AFTER = 4, 1, 2, 3
"""Of systolith.hw.sfu.reduce, which would bring Amaranth into the simulator; a wrong one fails."""
ENDS = (-(1 << 31), (1 << 31) - 1, -(1 << 31) + 1, 0, -1, 1)
BYTES = (-128, 127, 0, -1)


def component(config: Config):
    from systolith.hw.sfu.reduce import Reduce

    return Reduce()


class Windows:
    """Makes cycles, and what must come out of the last one of each window."""

    def __init__(self, bench: Environment):
        self.bench, self.rng = bench, bench.rng
        self.cycles: deque[dict] = deque()

    def byte(self) -> int:
        return self.rng.choice((self.rng.choice(BYTES), self.rng.randint(-128, 127)))

    def noise(self) -> dict:
        """A cycle that must change nothing."""
        rng = self.rng
        return {"accumulator": rng.getrandbits(32), "activation": rng.getrandbits(8), "select": rng.getrandbits(10),
                "fold": rng.getrandbits(2) << 1, "zero_a": rng.getrandbits(8), "zero_b": rng.getrandbits(8),
                "multiply": rng.getrandbits(1)}  # fmt: skip

    def window(self) -> None:
        rng, bench = self.rng, self.bench
        is_sum, operand, values = rng.getrandbits(1), 0, []
        from_activations = rng.getrandbits(1)
        for n in range(rng.choice((1, 1, 2, 3, 9))):
            while rng.random() < 0.2:
                self.cycles.append(self.noise())
            accumulator, activation, pad = (
                rng.choice((rng.choice(ENDS), rng.randint(*ENDS[:2]))),
                self.byte(),
                self.byte(),
            )
            inside = rng.random() < 0.7
            values.append(pad if not inside else activation if from_activations else accumulator)
            self.cycles.append(self.noise() | {
                "accumulator": accumulator & 0xFFFFFFFF, "activation": activation & 255,
                "select": from_activations | inside << 1 | (pad & 255) << 2, "fold": 1 | (n == 0) << 1 | is_sum << 2,
                "multiply": 0})  # fmt: skip
            operand = activation
        if separate := rng.getrandbits(1):
            operand = self.byte()
            self.cycles.append(self.noise() | {"activation": operand & 255, "multiply": 0})
        total = (sum(values) if is_sum else max(values)) + (1 << 31)
        bench.cover("wrapped", not 0 <= total < 1 << 32)
        total = total % (1 << 32) - (1 << 31)
        last = self.cycles[-1]
        if separate and not is_sum and from_activations and rng.getrandbits(1):
            zero_a, zero_b = (rng.choice((self.byte(), -128 if v >= 0 else 127)) for v in (total, operand))
            last |= {"multiply": 1, "zero_a": zero_a & 255, "zero_b": zero_b & 255}
            total = (total - zero_a) * (operand - zero_b)
            bench.cover("product")
            bench.cover("large product", abs(total) > 250 * 250)
        last["expected"] = total, operand


@cocotb.test()
async def random_windows(dut):
    bench = Environment(dut)
    await bench.reset()
    windows = Windows(bench)
    for _ in range(WINDOWS):
        windows.window()
    cycles = [*windows.cycles, *(windows.noise() for _ in range(LATENCY))]
    delays = {"fold": FOLD_AFTER, "zero_a": OPERAND_AFTER, "zero_b": OPERAND_AFTER, "multiply": MULTIPLY_AFTER}
    for cycle in range(len(cycles)):
        for name in ("accumulator", "activation", "select", "fold", "zero_a", "zero_b", "multiply"):
            if (at := cycle - delays.get(name, 0)) >= 0:
                getattr(dut, name).value = cycles[at][name]
        await RisingEdge(dut.clk)
        if cycle >= OPERAND_AFTER and "expected" in (now := cycles[cycle - OPERAND_AFTER]):
            assert dut.operand.value.to_signed() == now["expected"][1], cycle
        if cycle >= LATENCY and "expected" in (now := cycles[cycle - LATENCY]):
            found = dut.output.value.to_signed()
            assert found == now["expected"][0], f"cycle {cycle}: {found}, not {now['expected'][0]}"
            bench.cover("window")
    bench.finish(require=("window", "wrapped", "product", "large product"))
