"""One protocol for all backends, `run(network, inputs, config, backend) -> (outputs, report)`.

Inputs and outputs are arrays as the network's user sees them, by ONNX names. A program carries its ONNX model, so that
`golden` needs nothing else.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from systolith.config import Config
from systolith.errors import SystolithError
from systolith.network import HostPart, Network
from systolith.program import Program, Tensor
from systolith.sim import report
from systolith.sim.compare.outputs import run_golden
from systolith.sim.host import memory_image
from systolith.sim.host.memory_image import Image
from systolith.sim.host.memory_model import STANDARD, MemoryModel
from systolith.sim.host.tensors import check_inputs, from_device, inputs_of, to_device
from systolith.sim.isa import simulator as isa_sim
from systolith.sim.reference.host_part import run_host
from systolith.sim.rtl import native_backend

__all__ = ["BACKENDS", "Options", "check_backend", "run"]

Arrays = Mapping[str, NDArray]
Report = dict[str, Any]


@dataclass(frozen=True)
class Options:
    """What a run may be told. `memory`, `watchdog`, `max_cycles` and `waves` (a .vcd or .fst file) are for the RTL;
    `seed` puts regions at random addresses and, in `isa`, units in random order."""

    memory: MemoryModel = STANDARD
    seed: int | None = None
    watchdog: int = native_backend.WATCHDOG
    max_cycles: int = native_backend.MAX_CYCLES
    waves: Path | None = None


def run(network: Program | Network, inputs: Arrays, config: Config, backend: str = "rtl",
        options: Options | None = None) -> tuple[dict[str, NDArray], Report]:  # fmt: skip
    """Outputs and report of a network on a backend. Raises SystolithError for wrong inputs and for a HardwareFault."""
    options = options or Options()
    check_backend(backend, options.waves)
    if options.waves and len(network.programs) > 1:
        raise SystolithError(f"Waves must be of one program, not of {len(network.programs)} parts")
    network.require(config)
    check_inputs(network.inputs, inputs)
    if isinstance(network, Program):
        return BACKENDS[backend](network, inputs, config, options)
    return _run_parts(network, inputs, config, backend, options)


def check_backend(backend: str, waves: Path | None = None) -> None:
    """Raises SystolithError for a backend that does not exist, or that cannot write these waves."""
    if backend not in BACKENDS:
        raise SystolithError(f"Backend must be one of {', '.join(BACKENDS)}, not {backend!r}")
    if waves and backend != "rtl":
        raise SystolithError(f"Waves must come from backend rtl, not {backend}")
    if waves:
        native_backend.check_waves(waves)


def _run_parts(network: Network, inputs: Arrays, config: Config, backend: str,
               options: Options) -> tuple[dict[str, NDArray], Report]:  # fmt: skip
    """Parts one after the other; those of the host under ONNX Runtime, whatever the backend."""
    values: dict[str, Any] = dict(inputs)
    reports = []
    for part in network.parts:
        mine = inputs_of(part, values)
        if isinstance(part, HostPart):
            values |= run_host(part, mine)
        else:
            outputs, found = BACKENDS[backend](part, mine, config, options)
            values |= outputs
            reports.append(found)
    return {port.name: values[port.name] for port in network.outputs}, report.together(network, reports, config)


def _golden(program: Program, inputs: Arrays, config: Config, _: Options) -> tuple[dict[str, NDArray], Report]:
    return run_golden(program, inputs), report.unmeasured(program, config, "golden", None, None)


def _isa(program: Program, inputs: Arrays, config: Config, options: Options) -> tuple[dict[str, NDArray], Report]:
    memory = prepare(program, inputs, options.seed)
    simulator = isa_sim.simulate(program.code, config, memory, options.seed)
    state = simulator.state
    outputs = collect(program, memory, before=None)
    return outputs, report.unmeasured(program, config, "isa", state.bytes_read, state.bytes_written)


def _rtl(program: Program, inputs: Arrays, config: Config, options: Options) -> tuple[dict[str, NDArray], Report]:
    memory = prepare(program, inputs, options.seed)
    before = memory.copy()
    measurement = native_backend.simulate(
        program.code, config, memory, options.memory, options.watchdog, options.max_cycles, options.waves
    )
    return collect(program, memory, before), report.measured(program, config, "rtl", measurement)


def _cocotb(program: Program, inputs: Arrays, config: Config, options: Options) -> tuple[dict[str, NDArray], Report]:
    from systolith.sim.rtl import cocotb_backend

    memory = prepare(program, inputs, options.seed)
    before = memory.copy()
    measurement = cocotb_backend.simulate(program.code, config, memory, options.memory, options.watchdog)
    return collect(program, memory, before), report.measured(program, config, "cocotb", measurement)


BACKENDS: dict[str, Callable[[Program, Arrays, Config, Options], tuple[dict[str, NDArray], Report]]] = {
    "golden": _golden,
    "isa": _isa,
    "rtl": _rtl,
    "cocotb": _cocotb,
}


def prepare(program: Program, inputs: Arrays, seed: int | None = None) -> Image:
    """Memory with the program and its quantized inputs in place."""
    values = {t.name: to_device(np.asarray(inputs[t.name]), t, t.scale, _zero_point(t), t.dims) for t in program.inputs}
    return memory_image.build(program, values, seed)


def collect(program: Program, memory: Image, before: Image | None) -> dict[str, NDArray]:
    """Outputs from memory after a run. `before` is the memory before it: writes outside of outputs are an error."""
    if before and (stray := memory.stray_writes(before)):
        raise native_backend.ProtocolError(f"The accelerator wrote outside its regions, at 0x{stray[0]:x}")
    return {t.name: from_device(memory.output(t, program.array), t, t.scale, _zero_point(t)) for t in program.outputs}


def _zero_point(tensor: Tensor) -> int:
    """In the int8 domain."""
    return tensor.zero_point - (128 if tensor.quantized == "uint8" else 0)
