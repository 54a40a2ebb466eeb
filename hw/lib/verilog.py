"""Verilog from components. Modules that repeat many times are converted once and instantiated by name.

Amaranth emits a module for every submodule object, so a 256 x 256 array of submodules would take hours. A component
whose `elaborate` instantiates others by name lists them in `parts`, a dict of module name -> Component; here they are
collected and converted once each.
"""

from pathlib import Path

from amaranth.back import verilog
from amaranth.hdl import ClockSignal, Instance, ResetSignal
from amaranth.lib.wiring import Component, In

__all__ = ["WAIVERS", "emit", "instantiate"]

WAIVERS = (Path(__file__).parent / "waivers.vlt").read_text(encoding="utf-8")
"""Verilator's configuration for what `emit` writes: the lint rules it does not keep, and why."""


def instantiate(name: str, component: Component, **ports) -> Instance:
    """An instance, by module name, of a component that `emit` converts separately.

    `ports` maps every port of the component's signature (nested ones as `stream__payload`) to a value of its shape.
    """
    connections = {}
    for path, member, _ in component.signature.flatten(component):
        port = "__".join(str(part) for part in path)
        connections[("i_" if member.flow == In else "o_") + port] = ports.pop(port)
    if ports:
        raise ValueError(f"Ports of {name} must be those of its signature, not also {sorted(ports)}")
    return Instance(name, i_clk=ClockSignal(), i_rst=ResetSignal(), **connections)


def emit(component: Component, name: str) -> str:
    """Verilog of the component as module `name`, and once of each part it instantiates by name, at any depth."""
    parts = _collect(component, {})
    # Without source locations: they would name the folders of this machine.
    texts = [
        verilog.convert(part, name=part_name, emit_src=False, strip_internal_attrs=True)
        for part_name, part in parts.items()
    ]
    texts.append(verilog.convert(component, name=name, emit_src=False, strip_internal_attrs=True))
    return "\n".join(texts)


def _collect(component: Component, found: dict[str, Component]) -> dict[str, Component]:
    for name, part in getattr(component, "parts", {}).items():
        if name not in found:
            found[name] = part
            _collect(part, found)
    return found
