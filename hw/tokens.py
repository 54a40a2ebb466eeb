"""Token counters: the only thing that orders units against each other.

Between the units: a unit that retires an instruction gives tokens, a unit that starts one takes them.
"""

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from systolith.config import Config
from systolith.hw.interfaces import INDEX_BITS, UNITS, TokenPort
from systolith.isa import Unit

__all__ = ["QUEUED", "TAKERS", "Tokens"]

QUEUED = (Unit.LOAD_W, Unit.LOAD_A, Unit.EXECUTE, Unit.SFU, Unit.STORE)
"""The units that exist, in the order of their numbers; each has a queue."""

TAKERS = (
    ("load_weights", Unit.LOAD_W),
    ("load_activations", Unit.LOAD_A),
    ("execute_weights", Unit.EXECUTE),
    ("execute", Unit.EXECUTE),
    ("sfu", Unit.SFU),
    ("store", Unit.STORE),
)
"""Token ports and their units: EXECUTE has one for each of its stages."""


class Tokens(wiring.Component):
    """A counter of `token_bits` for each ordered pair (giver, taker) of units, zero at reset.

    Parameters
    ----------
    config : Config
        `token_bits`.

    Members
    -------
    load_weights, load_activations, execute_weights, execute, sfu, store : In(TokenPort())
        `ready` is combinational from `need` and the counters. `execute_weights` takes tokens of LOAD_W, `execute`
        those of the other units: the two never want the same counter.
    give : In(5 masks)
        give[g]: the units that get a token from unit g now. Usable from the next cycle on.
    overflow : Out(5)
        Bit g: unit g gave a token to a full counter, in this cycle. The counter stays full.
    missing, missing_index : Out(5 masks), Out(5 indices)
        For each unit: the units whose token it needs and does not have, and the instruction that needs them (of
        EXECUTE, that of the row stage if it waits too, for it is the older one).

    Give and take in one cycle leave a counter as it is. A need that names a unit without a counter is never ready.
    """

    def __init__(self, config: Config):
        self.bits = config.token_bits
        super().__init__({
            **{name: In(TokenPort()) for name, _ in TAKERS},
            "give": In(data.ArrayLayout(UNITS, len(QUEUED))),
            "overflow": Out(len(QUEUED)),
            "missing": Out(data.ArrayLayout(UNITS, len(QUEUED))),
            "missing_index": Out(data.ArrayLayout(INDEX_BITS, len(QUEUED))),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        overflows = {giver: [] for giver in QUEUED}
        for taker in QUEUED:
            ports = [getattr(self, name) for name, unit in TAKERS if unit == taker]
            available = Signal(UNITS, name=f"available_{taker.name.lower()}")
            taken = Signal(UNITS, name=f"taken_{taker.name.lower()}")
            m.d.comb += [port.ready.eq((port.need & ~available) == 0) for port in ports]
            m.d.comb += taken.eq(reduce(or_, (Mux(port.take & port.ready, port.need, 0) for port in ports)))
            self._report_missing(m, taker, ports, available)

            for giver in QUEUED:
                count = Signal(self.bits, name=f"{giver.name.lower()}_to_{taker.name.lower()}")
                give, take = self.give[giver][taker], taken[giver]
                full = count.all()
                m.d.comb += available[giver].eq(count.any())
                with m.If(give & ~take & ~full):
                    m.d.sync += count.eq(count + 1)
                with m.Elif(take & ~give):
                    m.d.sync += count.eq(count - 1)
                overflows[giver].append(give & ~take & full)
        for giver, signals in overflows.items():
            m.d.comb += self.overflow[giver].eq(Cat(signals).any())
        return m

    def _report_missing(self, m: Module, taker: Unit, ports: list, available: Signal):
        index = ports[0].index
        for port in ports[1:]:
            index = Mux(port.ready, index, port.index)
        missing = reduce(or_, (port.need for port in ports)) & ~available
        m.d.comb += [self.missing[taker].eq(missing), self.missing_index[taker].eq(index)]
