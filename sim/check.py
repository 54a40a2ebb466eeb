"""Outputs of a run against the two references: the golden model, and ONNX Runtime on the same ONNX file."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from numpy.typing import NDArray

from systolith.compiler.frontend.importer import import_model
from systolith.compiler.ir import Graph
from systolith.errors import SystolithError
from systolith.network import HostPart, Network
from systolith.program import Program
from systolith.sim import golden, reference
from systolith.sim.host import inputs_of
from systolith.sim.layerwise import LayerCheck, batch_of, compare_layers

__all__ = ["Check", "check", "run_golden"]

Arrays = Mapping[str, NDArray]


@dataclass(frozen=True)
class Check:
    """Elements that differ from golden and from ONNX Runtime, of all outputs together.

    Where ONNX Runtime computes operators in float32 its rounding is not ours: golden is compared with it operator by
    operator then, `onnxruntime` counts what must not differ, and `rounding` what may: by one step, in such an operator.
    `onnxruntime` is None where it is no reference, as `notes` say.
    """

    golden: int
    onnxruntime: int | None
    rounding: int = 0
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return self.golden == 0 and not self.onnxruntime


def check(network: Program | Network, inputs: Arrays, outputs: Arrays) -> Check:
    """Compare outputs of a run, element by element, with the golden model and with ONNX Runtime."""
    values: dict[str, NDArray] = {}
    programs = list(_golden_parts(network, inputs, values))
    wrong = _differences(outputs, {port.name: values[port.name] for port in network.outputs})
    if reference.saturates() and any(t.quantized == "uint8" for program, _, _ in programs for t in program.inputs):
        note = "ONNX Runtime's 8-bit kernels saturate on this processor: compared with golden only"
        return Check(wrong, None, 0, (note,))
    try:
        different = _differences(outputs, reference.run(network.model, inputs))
    except SystolithError as error:
        return Check(wrong, None, 0, (f"{error}: compared with golden only",))
    floats = sorted(set(reference.float_operators(network.model)))
    if not floats:
        return Check(wrong, different)
    layers = [layer for program, graph, mine in programs for layer in compare_layers(program.model, graph, mine)]
    failed = [layer for layer in layers if not layer.passed]
    rounding = sum(layer.differing for layer in layers if layer.passed)
    notes = [
        f"ONNX Runtime computes {', '.join(floats)} in float32, so it is compared operator by operator: {rounding} of "
        f"{sum(layer.elements for layer in layers)} elements differ, by one step and where it does",
        f"its outputs, end to end: {different} of {sum(array.size for array in outputs.values())} elements differ",
        *(_described(layer) for layer in failed),
    ]
    return Check(wrong, sum(layer.differing for layer in failed), rounding, tuple(notes))


def run_golden(network: Program | Network, inputs: Arrays) -> dict[str, NDArray]:
    """The outputs by the golden model, with ONNX Runtime for what is the host's."""
    values: dict[str, NDArray] = {}
    for _ in _golden_parts(network, inputs, values):
        pass
    return {port.name: values[port.name] for port in network.outputs}


def _golden_parts(
    network: Program | Network, inputs: Arrays, values: dict[str, NDArray]
) -> Iterator[tuple[Program, Graph, Arrays]]:
    """Run the golden model, tensors into `values`; programs on the way, with their graphs and inputs."""
    values |= inputs
    for part in network.parts if isinstance(network, Network) else (network,):
        mine = inputs_of(part, values)
        if isinstance(part, HostPart):
            values |= reference.run(part.model, mine)
        else:
            graph = import_model(part.model, "the program's model", batch_of(part.model, mine))
            values |= golden.run(graph, mine)
            yield part, graph, mine


def _differences(outputs: Arrays, expected: Arrays) -> int:
    """Elements of all outputs that differ; all of an output that has another shape or type."""
    count = 0
    for name, values in expected.items():
        got = outputs[name]
        if got.shape != values.shape or got.dtype != values.dtype:
            count += max(values.size, 1)
        else:
            count += int((got != values).sum())
    return count


def _described(layer: LayerCheck) -> str:
    steps = f"by up to {layer.largest} steps"
    return f"{layer.op} '{layer.name}': {layer.differing} of {layer.elements} elements differ, {steps}"
