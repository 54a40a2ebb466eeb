"""The hardware under test of the DMA testbenches: the three DMA units behind one AXI master."""

from systolith.config import Config

__all__ = ["dma_top"]


def dma_top(config: Config):
    """LoadWeights, LoadActivations and Store on an AxiMaster; ports `<unit>_unit`, SRAM ports, `fetch`, `axi`."""
    from amaranth.hdl import Module
    from amaranth.lib import wiring
    from amaranth.lib.wiring import In, Out, connect, flipped

    from systolith.hw.dma.axi import Axi4
    from systolith.hw.dma.axi_master import AxiCounts, AxiMaster
    from systolith.hw.dma.load_activations import LoadActivations
    from systolith.hw.dma.load_weights import LoadWeights
    from systolith.hw.dma.store import Store
    from systolith.hw.interfaces import ReadBus, Regions

    units = {"load_weights": LoadWeights(config), "load_activations": LoadActivations(config), "store": Store(config)}
    outside = {
        f"{name}_{port}": member
        for name, unit in units.items()
        for port, member in unit.signature.members.items()
        if port not in ("bus", "regions")
    }

    class DmaTop(wiring.Component):
        def __init__(self):
            super().__init__(
                {
                    **outside,
                    "regions": Out(Regions(config)),
                    "fetch": In(ReadBus(config)),
                    "axi": Out(Axi4(config)),
                    "quiet": Out(1),
                    "halt": In(1),
                    "counts": Out(AxiCounts),
                }
            )

        def elaborate(self, platform):
            m = Module()
            m.submodules.master = master = AxiMaster(config)
            connect(m, flipped(self.fetch), master.fetch)
            connect(m, master.axi, flipped(self.axi))
            m.d.comb += [self.quiet.eq(master.quiet), self.counts.eq(master.counts), master.halt.eq(self.halt)]
            for name, unit in units.items():
                m.submodules[name] = unit
                connect(m, unit.bus, getattr(master, name))
                connect(m, unit.regions, flipped(self.regions))
                for port in unit.signature.members:
                    if port not in ("bus", "regions"):
                        connect(m, getattr(unit, port), flipped(getattr(self, f"{name}_{port}")))
            return m

    return DmaTop()
