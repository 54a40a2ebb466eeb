"""The accelerator: connects the blocks and does nothing else.

Ports carry the names that vendor tools know: `aclk`, `aresetn` (synchronous), `irq`, `m_axi_*` (AXI4, to memory) and
`s_axil_*` (AXI4-Lite, registers). Everything runs on `aclk`, in two reset domains: `sync` (registers and control; reset
by `aresetn`) and `core` (units, memories, memory port; reset by a soft reset, too).

For simulation the top keeps, by name, `retire_<unit>_valid` and `retire_<unit>_index` for the units load_w, load_a,
execute, sfu, store and depthwise (where it exists): in a cycle with `valid`, the instruction `index` of the program
retires.
"""

from amaranth.hdl import Cat, ClockDomain, DomainRenamer, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from systolith.config import Config
from systolith.hw.array.accumulators import Accumulators
from systolith.hw.array.array import SystolicArray
from systolith.hw.control.control import Control
from systolith.hw.control.registers import Axi4Lite, Registers
from systolith.hw.depthwise.unit import DepthwiseUnit
from systolith.hw.dma.axi import Axi4
from systolith.hw.dma.axi_master import AxiMaster
from systolith.hw.dma.load_activations import LoadActivations
from systolith.hw.dma.load_weights import LoadWeights
from systolith.hw.dma.store import Store
from systolith.hw.execute.unit import ExecuteUnit
from systolith.hw.interfaces import INDEX_BITS
from systolith.hw.memory.activations import ActivationSram
from systolith.hw.memory.parameters import ParameterSram
from systolith.hw.memory.weights import WeightSram
from systolith.hw.sfu.unit import SpecialFunctionUnit

__all__ = ["Accelerator"]


class Accelerator(wiring.Component):
    """The whole accelerator.

    Parameters
    ----------
    config : Config
        All sizes.

    Members
    -------
    aclk, aresetn : In(1)
        Clock, and active low reset, in step with the clock.
    irq : Out(1)
        Level: done or error, where enabled.
    m_axi_* : AXI4 master, s_axil_* : AXI4-Lite slave
        Flat, one member for each signal.
    """

    def __init__(self, config: Config):
        self.config = config
        self.control, self.registers = Control(config), Registers(config)
        self.core = {
            "load_weights": LoadWeights(config),
            "load_activations": LoadActivations(config),
            "execute": ExecuteUnit(config),
            "sfu": SpecialFunctionUnit(config),
            "store": Store(config),
            "array": SystolicArray(config),
            "accumulators": Accumulators(config),
            "act_sram": ActivationSram(config),
            "weight_sram": WeightSram(config),
            "param_sram": ParameterSram(config),
            "axi_master": AxiMaster(config),
        }
        if config.dw_taps:
            self.core["depthwise"] = DepthwiseUnit(config)
        self.parts = {name: part for block in self.core.values() for name, part in getattr(block, "parts", {}).items()}
        super().__init__(
            {
                "aclk": In(1),
                "aresetn": In(1),
                "irq": Out(1),
                **{f"m_axi_{name}": member for name, member in Axi4(config).members.items()},
                **{f"s_axil_{name}": member.flip() for name, member in Axi4Lite().members.items()},
            }
        )

    def elaborate(self, platform):
        m = Module()
        self._clock(m)
        m.submodules.control, m.submodules.registers = self.control, self.registers
        for name, block in self.core.items():
            m.submodules[name] = DomainRenamer("core")(block)
        self._connect_ports(m)
        self._connect_host(m)
        self._connect_units(m)
        self._connect_data(m)
        self._count(m)
        self._show_retired(m)
        return m

    def _clock(self, m: Module):
        m.domains.sync, m.domains.core = sync, core = ClockDomain("sync"), ClockDomain("core")
        sync.clk = core.clk = self.aclk
        m.d.comb += [sync.rst.eq(~self.aresetn), core.rst.eq(~self.aresetn | self.control.core_reset)]

    def _connect_ports(self, m: Module):
        axi, axil = self.core["axi_master"].axi, self.registers.axil
        for prefix, port in (("m_axi", axi), ("s_axil", axil)):
            for name in port.signature.members:
                outer, inner = getattr(self, f"{prefix}_{name}"), getattr(port, name)
                is_output = self.signature.members[f"{prefix}_{name}"].flow == Out
                m.d.comb += outer.eq(inner) if is_output else inner.eq(outer)
        m.d.comb += self.irq.eq(self.registers.irq)

    def _connect_host(self, m: Module):
        """Registers and control."""
        control, registers = self.control, self.registers
        for name in ("start", "reset", "watchdog"):
            m.d.comb += getattr(control, name).eq(getattr(registers, name))
        for name in ("status", "report", "notify"):
            m.d.comb += getattr(registers, name).eq(getattr(control, name))
        users = (control, *(self.core[name] for name in ("load_weights", "load_activations", "store")))
        m.d.comb += [user.regions.table.eq(registers.regions.table) for user in users]
        m.d.comb += [registers.clear.eq(control.started), registers.counting.eq(control.running)]

    def _connect_units(self, m: Module):
        """Instructions, tokens, faults; the memory port."""
        control, core = self.control, self.core
        for name in control.units.values():
            wiring.connect(m, core[name].unit, getattr(control, name))
        wiring.connect(m, core["execute"].weight_tokens, control.execute_weights)
        master = core["axi_master"]
        wiring.connect(m, control.bus, master.fetch)
        for name in ("load_weights", "load_activations", "store"):
            wiring.connect(m, core[name].bus, getattr(master, name))
        m.d.comb += [master.halt.eq(control.halt), control.quiet.eq(master.quiet)]

    def _connect_data(self, m: Module):
        """Memories, array, accumulators."""
        core = self.core
        execute, sfu, array, accumulators = (core[name] for name in ("execute", "sfu", "array", "accumulators"))
        activations, weights, parameters = (core[name] for name in ("act_sram", "weight_sram", "param_sram"))
        pairs = [
            (execute.activations, activations.execute_read),
            (sfu.activations, activations.sfu_read),
            (core["store"].read, activations.store_read),
            (sfu.write, activations.sfu_write),
            (core["load_activations"].write, activations.load_write),
            (execute.weights, weights.read),
            (core["load_weights"].weights, weights.write),
            (sfu.parameters, parameters.read),
            (core["load_weights"].parameters, parameters.write),
            (sfu.accumulators, accumulators.read),
        ]
        if depthwise := core.get("depthwise"):
            pairs += [
                (depthwise.activations, activations.depthwise_read),
                (depthwise.weights, weights.depthwise_read),
                (sfu.depthwise, depthwise.read),
            ]
        for source, sink in pairs:
            wiring.connect(m, source, sink)
        m.d.comb += [
            array.row.eq(execute.row),
            array.weight.eq(execute.weight),
            accumulators.control.eq(execute.control),
            accumulators.sums.eq(array.sums),
            execute.finished.eq(accumulators.finished),
        ]

    def _count(self, m: Module):
        """Performance counters, and what the watchdog takes for progress."""
        core, counts = self.core, self.registers.counts
        execute, sfu, master = core["execute"].counts, core["sfu"].counts, core["axi_master"].counts
        m.d.comb += [
            counts.cycles.eq(1),
            counts.array_rows.eq(execute.fed),
            counts.array_wait_weights.eq(execute.wait_weights),
            counts.array_wait_tokens.eq(execute.wait_tokens),
            counts.array_idle.eq(execute.idle),
            counts.sfu_busy.eq(sfu.busy),
            counts.sfu_wait_tokens.eq(sfu.wait_tokens),
            counts.bank_conflicts.eq(core["act_sram"].conflicts),
            counts.read_beats.eq(master.read_beat),
            counts.write_beats.eq(master.write_beat),
            counts.read_stalls.eq(master.read_stall),
            counts.write_stalls.eq(master.write_stall),
        ]
        writes = [core["sfu"].write, core["load_activations"].write]
        writes += [core["load_weights"].weights, core["load_weights"].parameters]
        moved = [execute.fed, sfu.busy, master.read_beat, master.write_beat]
        moved += [write.valid & write.ready for write in writes]
        if depthwise := core.get("depthwise"):
            m.d.comb += [
                counts.dw_busy.eq(depthwise.counts.busy),
                counts.dw_wait_tokens.eq(depthwise.counts.wait_tokens),
            ]
            moved.append(depthwise.counts.busy)
        m.d.comb += self.control.progress.eq(Cat(moved).any())

    def _show_retired(self, m: Module):
        for unit in self.control.units:
            valid = Signal(name=f"retire_{unit.name.lower()}_valid", attrs={"keep": True})
            index = Signal(INDEX_BITS, name=f"retire_{unit.name.lower()}_index", attrs={"keep": True})
            m.d.comb += [valid.eq(self.control.retired[unit]), index.eq(self.control.retired_index[unit])]
