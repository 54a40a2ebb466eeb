"""Token counters: the only synchronization between units.

A unit that retires an instruction gives tokens; a unit that starts one takes them.
"""

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from systolith.config import Config
from systolith.hw.interfaces import INDEX_BITS, TokenPort
from systolith.isa import UNITS, Unit

__all__ = ["Tokens", "queued"]

PORTS = {
    Unit.LOAD_W: "load_weights",
    Unit.LOAD_A: "load_activations",
    Unit.EXECUTE: "execute",
    Unit.SFU: "sfu",
    Unit.STORE: "store",
    Unit.DEPTHWISE: "depthwise",
}


def queued(config: Config) -> dict[Unit, str]:
    """The units that exist, each with a queue, in the order of their numbers, and the names of their ports."""
    return {unit: name for unit, name in PORTS.items() if unit != Unit.DEPTHWISE or config.dw_taps}


class Tokens(wiring.Component):
    """A counter of `token_bits` for each ordered pair (giver, taker) of units, zero at reset.

    Parameters
    ----------
    config : Config
        `token_bits`; and whether there is a depthwise unit.

    Members
    -------
    load_weights, load_activations, execute_weights, execute, sfu, store : In(TokenPort())
        `ready` is combinational from `need` and the counters. `execute_weights` takes tokens of LOAD_W, `execute`
        those of the other units: the two never want the same counter.
    depthwise : In(TokenPort())
        Only with `dw_taps`.
    give : In(a mask for each unit)
        give[g]: the units that get a token from unit g now. Usable from the next cycle on.
    overflow : Out(a bit for each unit)
        Bit g: unit g gave a token to a full counter, in this cycle. The counter stays full.
    missing, missing_index : Out(masks), Out(indices)
        For each unit: the units whose token it needs and does not have, and the instruction that needs them. Of
        EXECUTE, those of the row stage if it waits, for its instruction is the older one.

    Give and take in one cycle leave a counter as it is. A need that names a unit without a counter is never ready.
    """

    def __init__(self, config: Config):
        self.bits, self.units = config.token_bits, queued(config)
        count = len(self.units)
        super().__init__(
            {
                **{name: In(TokenPort()) for name in self.units.values()},
                "execute_weights": In(TokenPort()),
                "give": In(data.ArrayLayout(UNITS, count)),
                "overflow": Out(count),
                "missing": Out(data.ArrayLayout(UNITS, count)),
                "missing_index": Out(data.ArrayLayout(INDEX_BITS, count)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        overflows = {giver: [] for giver in self.units}
        for taker, name in self.units.items():
            # EXECUTE has a port for each of its stages.
            ports = [*([self.execute_weights] if taker == Unit.EXECUTE else []), getattr(self, name)]
            available = Signal(UNITS, name=f"available_{taker.name.lower()}")
            taken = Signal(UNITS, name=f"taken_{taker.name.lower()}")
            m.d.comb += [port.ready.eq((port.need & ~available) == 0) for port in ports]
            m.d.comb += taken.eq(reduce(or_, (Mux(port.take & port.ready, port.need, 0) for port in ports)))
            self._report_missing(m, taker, ports, available)

            for giver in self.units:
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
        index, missing = ports[0].index, ports[0].need & ~available
        for port in ports[1:]:
            index, missing = Mux(port.ready, index, port.index), Mux(port.ready, missing, port.need & ~available)
        m.d.comb += [self.missing[taker].eq(missing), self.missing_index[taker].eq(index)]
