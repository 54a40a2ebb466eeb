"""One protocol for all backends, `run(program, inputs, config, backend) -> (outputs, report)`, and `check` of outputs.

Inputs and outputs are arrays as the network's user sees them, by ONNX names. A program carries its ONNX model, so that
both `golden` and `check` need nothing else.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from systolith.compiler.onnx_import import import_model
from systolith.config import Config
from systolith.errors import SystolithError
from systolith.program import Program, Tensor
from systolith.sim import golden, image, isa_sim, reference, report, rtl
from systolith.sim.host import check_inputs, from_device, to_device
from systolith.sim.image import Image
from systolith.sim.memory_model import STANDARD, MemoryModel

__all__ = ["BACKENDS", "Check", "Options", "check", "run"]

Arrays = Mapping[str, NDArray]
Report = dict[str, Any]


@dataclass(frozen=True)
class Options:
    """What a run may be told. `memory`, `watchdog`, `max_cycles` and `waves` (a .vcd or .fst file) are for the RTL;
    `seed` puts regions at random addresses and, in `isa`, units in random order."""

    memory: MemoryModel = STANDARD
    seed: int | None = None
    watchdog: int = rtl.WATCHDOG
    max_cycles: int = rtl.MAX_CYCLES
    waves: Path | None = None


@dataclass(frozen=True)
class Check:
    """Elements that differ, of all outputs together. `onnxruntime` is None where it is no reference, as `notes` say."""

    golden: int
    onnxruntime: int | None
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return self.golden == 0 and not self.onnxruntime


def run(program: Program, inputs: Arrays, config: Config, backend: str = "rtl",
        options: Options | None = None) -> tuple[dict[str, NDArray], Report]:  # fmt: skip
    """Outputs and report of a program on a backend. Raises SystolithError for wrong inputs and for a HardwareFault."""
    if backend not in BACKENDS:
        raise SystolithError(f"Backend must be one of {', '.join(BACKENDS)}, not {backend!r}")
    options = options or Options()
    if options.waves and backend != "rtl":
        raise SystolithError(f"Waves must come from backend rtl, not {backend}")
    program.require(config)
    check_inputs(program.inputs, inputs)
    return BACKENDS[backend](program, inputs, config, options)


def check(program: Program, inputs: Arrays, outputs: Arrays) -> Check:
    """Compare outputs of a run, element by element, with the golden model and with ONNX Runtime."""
    graph = import_model(program.model, "the program's model", _batch(program))
    wrong = _differences(outputs, golden.run(graph, inputs))
    if reference.saturates() and any(t.quantized == "uint8" for t in program.inputs):
        note = "ONNX Runtime's 8-bit kernels saturate on this processor: compared with golden only"
        return Check(wrong, None, (note,))
    expected = reference.run(program.model, inputs)
    if floats := sorted(set(reference.float_operators(program.model))):
        note = f"ONNX Runtime computes {', '.join(floats)} in float32: outputs one step apart count as equal"
        steps = {t.name: _step(t) for t in program.outputs}
        return Check(wrong, _differences(outputs, expected, steps), (note,))
    return Check(wrong, _differences(outputs, expected))


def _golden(program: Program, inputs: Arrays, config: Config, _: Options) -> tuple[dict[str, NDArray], Report]:
    graph = import_model(program.model, "the program's model", _batch(program))
    return golden.run(graph, inputs), report.unmeasured(program, config, "golden", None, None)


def _isa(program: Program, inputs: Arrays, config: Config, options: Options) -> tuple[dict[str, NDArray], Report]:
    memory = prepare(program, inputs, options.seed)
    simulator = isa_sim.simulate(program.code, config, memory, options.seed)
    state = simulator.state
    outputs = collect(program, memory, before=None)
    return outputs, report.unmeasured(program, config, "isa", state.bytes_read, state.bytes_written)


def _rtl(program: Program, inputs: Arrays, config: Config, options: Options) -> tuple[dict[str, NDArray], Report]:
    memory = prepare(program, inputs, options.seed)
    before = memory.copy()
    measurement = rtl.simulate(program.code, config, memory, options.memory, options.watchdog, options.max_cycles,
                               options.waves)  # fmt: skip
    return collect(program, memory, before), report.measured(program, config, "rtl", measurement)


def _cocotb(program: Program, inputs: Arrays, config: Config, options: Options) -> tuple[dict[str, NDArray], Report]:
    from systolith.sim import cocotb_backend

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
    return image.build(program, values, seed)


def collect(program: Program, memory: Image, before: Image | None) -> dict[str, NDArray]:
    """Outputs from memory after a run. `before` is the memory before it: writes outside of outputs are an error."""
    if before and (stray := memory.stray_writes(before)):
        raise rtl.ProtocolError(f"The accelerator wrote outside its regions, at 0x{stray[0]:x}")
    return {t.name: from_device(memory.output(t, program.array), t, t.scale, _zero_point(t)) for t in program.outputs}


def _zero_point(tensor: Tensor) -> int:
    """In the int8 domain."""
    return tensor.zero_point - (128 if tensor.quantized == "uint8" else 0)


def _batch(program: Program) -> int:
    return program.inputs[0].shape[0] if program.inputs and program.inputs[0].shape else 1


def _step(tensor: Tensor) -> float:
    """The difference of neighbouring values of an output, with room for the rounding of its float32."""
    return tensor.scale * 1.001 if tensor.dtype == "float32" else 1


def _differences(outputs: Arrays, expected: Arrays, steps: Mapping[str, float] | None = None) -> int:
    """Elements of all outputs that differ, by more than one of `steps` if given; all of an output of another shape."""
    count = 0
    for name, values in expected.items():
        got = outputs[name]
        if got.shape != values.shape or got.dtype != values.dtype:
            count += max(values.size, 1)
        elif steps is None:
            count += int((got != values).sum())
        else:
            count += int((np.abs(got.astype(np.float64) - values.astype(np.float64)) > steps[name]).sum())
    return count
