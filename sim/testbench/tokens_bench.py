"""Token counters against a table of integers: random needs, takes and gives, every cycle checked."""

from collections import Counter

import cocotb
from cocotb.triggers import FallingEdge, RisingEdge, Timer

from systolith.config import Config
from systolith.isa import Unit
from systolith.sim.testbench.support.environment import Environment

NAME = "tokens"
BITS = 6
LOAD_W = 1 << Unit.LOAD_W


def units(config: Config) -> int:
    """How many units there are."""
    return 6 if config.dw_taps else 5


def ports(config: Config) -> dict[str, tuple[int, int]]:
    """Each port's unit, and the units it may need tokens of."""
    everyone = (1 << units(config)) - 1
    found = {
        "load_weights": (Unit.LOAD_W, everyone),
        "load_activations": (Unit.LOAD_A, everyone),
        "execute_weights": (Unit.EXECUTE, LOAD_W),
        "execute": (Unit.EXECUTE, everyone & ~LOAD_W),
        "sfu": (Unit.SFU, everyone),
        "store": (Unit.STORE, everyone),
        "depthwise": (Unit.DEPTHWISE, everyone),
    }
    return {name: port for name, port in found.items() if port[0] < units(config)}


def component(config: Config):
    from systolith.hw.control.tokens import Tokens

    return Tokens(config)


class Model:
    """The counters, as `tokens[giver, taker]`."""

    def __init__(self, config: Config):
        self.most = (1 << config.token_bits) - 1
        self.units, self.ports = units(config), ports(config)
        self.tokens: Counter[tuple[int, int]] = Counter()

    def missing(self, taker: int, need: int) -> int:
        return sum(1 << g for g in range(BITS) if need >> g & 1 and not self.tokens[g, taker])

    def step(self, gives: list[int], takes: dict[str, int]) -> int:
        """A cycle. Returns the mask of givers that overflow a counter."""
        taken = {(g, self.ports[port][0]) for port, need in takes.items() for g in range(self.units) if need >> g & 1}
        overflow = 0
        for giver in range(self.units):
            for taker in range(self.units):
                pair = (giver, taker)
                change = (gives[giver] >> taker & 1) - (pair in taken)
                if change == 1 and self.tokens[pair] == self.most:
                    overflow |= 1 << giver
                else:
                    self.tokens[pair] += change
        return overflow


def fields(value: int, bits: int, count: int) -> list[int]:
    return [value >> i * bits & (1 << bits) - 1 for i in range(count)]


@cocotb.test()
async def random_traffic(dut):
    bench = Environment(dut)
    rng, model = bench.rng, Model(bench.config)
    count = model.units
    for name in model.ports:
        for member in ("need", "take", "index"):
            getattr(dut, f"{name}__{member}").value = 0
    dut.give.value = 0
    await bench.reset()
    for cycle in range(3000):
        # Phases in which tokens are rare, balanced, and so many that counters fill up.
        generosity = (0.05, 0.3, 0.8)[cycle // 500 % 3]
        needs, indices, takes = {}, {}, {}
        for name, (_, allowed) in model.ports.items():
            needs[name] = allowed & rng.choice((0, 1 << rng.randrange(count), rng.getrandbits(count)))
            if count < BITS and rng.random() < 0.01 and name != "execute_weights":
                needs[name] |= 1 << count
                bench.cover("need of a unit that does not exist")
            indices[name] = rng.getrandbits(24)
            getattr(dut, f"{name}__need").value = needs[name]
            getattr(dut, f"{name}__index").value = indices[name]
            getattr(dut, f"{name}__take").value = 0
        gives = [sum((rng.random() < generosity) << taker for taker in range(count)) for _ in range(count)]
        dut.give.value = sum(mask << BITS * giver for giver, mask in enumerate(gives))
        await FallingEdge(dut.clk)

        check_ports(bench, model, needs, indices)
        for name, need in needs.items():
            if not model.missing(model.ports[name][0], need) and rng.random() < 0.7:
                getattr(dut, f"{name}__take").value = 1
                takes[name] = need
                both = any(need >> g & 1 and gives[g] >> model.ports[name][0] & 1 for g in range(count))
                bench.cover("take", bool(need))
                bench.cover("give and take together", both)
        await Timer(2, "ns")
        overflow = model.step(gives, takes)
        assert int(dut.overflow.value) == overflow, f"cycle {cycle}"
        bench.cover("overflow", bool(overflow))
        await RisingEdge(dut.clk)
    absent = ("need of a unit that does not exist",) if count < BITS else ()
    bench.finish(require=("take", "give and take together", "overflow", "wait", "both stages wait", *absent))


def check_ports(bench: Environment, model: Model, needs: dict[str, int], indices: dict[str, int]) -> None:
    """What the counters say about this cycle's needs."""
    dut = bench.dut
    missing, first = [0] * model.units, [None] * model.units
    for name in sorted(needs, key=lambda name: name == "execute_weights"):
        taker = model.ports[name][0]
        lack = model.missing(taker, needs[name])
        assert int(getattr(dut, f"{name}__ready").value) == (lack == 0), name
        if lack and first[taker] is None:
            first[taker] = indices[name]
        bench.cover("both stages wait", bool(lack and missing[taker]))
        bench.cover("wait", bool(lack))
        missing[taker] = missing[taker] or lack
    assert fields(int(dut.missing.value), BITS, model.units) == missing
    found = fields(int(dut.missing_index.value), 24, model.units)
    assert all(index is None or index == found[taker] for taker, index in enumerate(first))
