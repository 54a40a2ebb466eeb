"""Outputs of a run against the references: the golden model, and ONNX Runtime on the same ONNX file, unpartitioned.

What is compared with what:

- the run with golden, on the same parts: no bit may differ, but in outputs that depend on random numbers;
- each layer of the accelerator with ONNX Runtime's integer kernels, on the inputs that it has there: no bit may
  differ where they compute in integers, one step where they compute in float32. Where a kernel of ONNX Runtime is
  farther away (some overflow), its own unoptimized run decides;
- each part of the host with ONNX Runtime's unoptimized run of the whole model, on the inputs that it has there;
- that model, which is what the front end reads, with the file as it is given, both unoptimized: no bit may differ.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from systolith.compiler.ir.graph import Graph
from systolith.errors import SystolithError
from systolith.network import HostPart, Network
from systolith.program import Program
from systolith.sim.golden import golden
from systolith.sim.host.tensors import inputs_of
from systolith.sim.reference import reference
from systolith.sim.reference.host_part import run_host
from systolith.sim.reference.layerwise import Exposed, LayerCheck, compare, exposed, float_tensors, graph_of
from systolith.sim.reference.whole_model import (
    different,
    draws,
    elements,
    host_differences,
    reading_differences,
    run_whole,
    with_outputs,
)

__all__ = ["Check", "check", "run_golden"]

Arrays = Mapping[str, NDArray]


@dataclass(frozen=True)
class Check:
    """Elements that differ from golden and from ONNX Runtime, of all outputs together, those of host parts, and those
    that `read`ing the file changed.

    Where ONNX Runtime computes operators in float32 its rounding is not ours: golden is compared with it operator by
    operator then, `onnxruntime` counts what must not differ, and `rounding` what may: by one step, in such an operator.
    `onnxruntime` is None where it is no reference, as `notes` say.
    """

    golden: int
    onnxruntime: int | None
    rounding: int = 0
    notes: tuple[str, ...] = ()
    host: int = 0
    read: int = 0

    @property
    def passed(self) -> bool:
        return self.golden == 0 and not self.onnxruntime and self.host == 0 and self.read == 0


@dataclass(frozen=True)
class _Layers:
    """Layers of all programs, compared: those that are wrong, and elements that differ by rounding."""

    failed: int
    rounding: int
    notes: list[str]


def check(network: Program | Network, inputs: Arrays, outputs: Arrays, given: bytes | None = None) -> Check:
    """Compare outputs of a run, element by element, with the golden model and with ONNX Runtime. `given`: the ONNX file
    that the network was compiled from."""
    found = _check(network, inputs, outputs)
    if given is None:
        return found
    read, notes = reading_differences(given, network.model, inputs)
    return replace(found, read=read, notes=(*found.notes, *notes))


def _check(network: Program | Network, inputs: Arrays, outputs: Arrays) -> Check:
    values: dict[str, Any] = {}
    programs = list(_golden_parts(network, inputs, values))
    drawn = _drawn(network)
    wrong = _differences(outputs, {port.name: values[port.name] for port in network.outputs if port.name not in drawn})
    hosts = [part for part in network.parts if isinstance(part, HostPart)]
    host, notes = _hosts(network, hosts, inputs)
    if reference.saturates() and any(t.quantized == "uint8" for program, _ in programs for t in program.inputs):
        note = "ONNX Runtime's 8-bit kernels saturate on this processor: compared with golden only"
        return Check(wrong, None, 0, (note, *notes), host)
    ends = 0
    try:
        if not hosts and not reference.float_operators(network.model):
            ends = _differences(outputs, reference.run(network.model, inputs))
            if ends == 0:
                return Check(wrong, 0)
    except SystolithError:
        pass  # Unoptimized it may run.
    try:
        parts = [exposed(program.model, graph) for program, graph in programs]
        layers = _layers(network, parts, inputs, outputs)
    except SystolithError as error:
        return Check(wrong, None, 0, (f"{error}: compared with golden only", *notes), host)
    failed = max(layers.failed, ends if wrong else 0)  # Layers are golden's: they do not show what the run did.
    return Check(wrong, failed, layers.rounding, (*layers.notes, *notes), host)


def run_golden(network: Program | Network, inputs: Arrays) -> dict[str, NDArray]:
    """The outputs by the golden model, with ONNX Runtime for what is the host's."""
    values: dict[str, Any] = {}
    for _ in _golden_parts(network, inputs, values):
        pass
    return {port.name: values[port.name] for port in network.outputs}


def _golden_parts(
    network: Program | Network, inputs: Arrays, values: dict[str, Any]
) -> Iterator[tuple[Program, Graph]]:
    """Run the golden model, tensors into `values`; programs on the way, with their graphs."""
    values |= inputs
    for part in network.parts:
        mine = inputs_of(part, values)
        if isinstance(part, HostPart):
            values |= run_host(part, mine)
        else:
            graph = graph_of(part)
            values |= golden.run(graph, mine)
            yield part, graph


def _drawn(network: Program | Network) -> set[str]:
    """Tensors that depend on random numbers of a host part, other ones in each run."""
    found: set[str] = set()
    for part in network.parts:
        if any(port.name in found for port in part.inputs) or (isinstance(part, HostPart) and draws(part)):
            found.update(port.name for port in part.outputs)
    return found


def _hosts(network: Program | Network, hosts: Sequence[HostPart], inputs: Arrays) -> tuple[int, list[str]]:
    """Elements of the host's parts that differ from the whole model's, and what there is to say."""
    if not hosts:
        return 0, []
    names = [port.name for part in hosts for port in (*part.inputs, *part.outputs)]
    try:
        expected = run_whole(with_outputs(network.model, network.inputs, names), inputs, "none")
    except SystolithError as error:
        return 0, [f"{error}: the host's parts are not compared"]
    return host_differences(hosts, expected)


def _layers(network: Program | Network, parts: list[Exposed], inputs: Arrays, outputs: Arrays) -> _Layers:
    """Compare the layers of all programs. Raises SystolithError if ONNX Runtime runs the model in no way."""
    whole = with_outputs(network.model, network.inputs, [name for part in parts for name in part.names])
    notes = []
    try:
        theirs = run_whole(whole, inputs, "all")
        floats = sorted(set(reference.float_operators(whole)))
        inexact = float_tensors(whole)
        layers = [layer for part in parts for layer in compare(part, theirs, inexact)]
        if floats:
            notes.append(
                f"ONNX Runtime computes {', '.join(floats)} in float32, so it is compared operator by operator"
            )
        ends = _differences(outputs, {name: theirs[name] for name in outputs})
        count = sum(map(elements, outputs.values()))
        notes.append(f"its outputs, end to end: {ends} of {count} elements differ")
    except SystolithError as error:
        layers, theirs = _unoptimized(whole, parts, inputs), None
        notes.append(f"{error}: its unoptimized run, in float32, is compared operator by operator")
    failed = [layer for layer in layers if not layer.passed]
    if theirs is not None and failed:
        try:
            second = {layer.output: layer for layer in _unoptimized(whole, parts, inputs)}
        except SystolithError as error:
            second = {}
            notes.append(f"{error}: its unoptimized run decides nothing")
        excused = [layer for layer in failed if _is_its_kernel(layer, second.get(layer.output))]
        failed = [layer for layer in failed if layer not in excused]
        layers = [layer for layer in layers if layer not in excused]
        notes += [f"{_described(layer)}; its own unoptimized run agrees" for layer in excused]
    rounding = sum(layer.differing for layer in layers if layer.passed)
    if rounding:
        notes.append(f"{rounding} of {sum(layer.elements for layer in layers)} elements differ by one step, where it "
                     "computes in float32")  # fmt: skip
    return _Layers(sum(layer.differing for layer in failed), rounding, [*notes, *map(_described, failed)])


def _is_its_kernel(layer: LayerCheck, unoptimized: LayerCheck | None) -> bool:
    """Whether what is wrong is ONNX Runtime's kernel: its unoptimized run agrees within a step. A single step of an
    integer kernel only if that run has far fewer, which are its own rounding."""
    if unoptimized is None or not unoptimized.passed:
        return False
    return not layer.promised or layer.largest > 1 or 2 * unoptimized.differing < layer.differing


def _unoptimized(whole: bytes, parts: list[Exposed], inputs: Arrays) -> list[LayerCheck]:
    """The layers, compared with ONNX Runtime's float32 operators."""
    theirs = run_whole(whole, inputs, "none")
    inexact = set(theirs)
    return [layer for part in parts for layer in compare(part, theirs, inexact)]


def _differences(outputs: Arrays, expected: Arrays) -> int:
    """Elements of all outputs that differ; all of an output that has another shape or type."""
    return sum(different(outputs[name], values) for name, values in expected.items())


def _described(layer: LayerCheck) -> str:
    steps = f"by up to {layer.largest} steps"
    return f"{layer.op} '{layer.name}': {layer.differing} of {layer.elements} elements differ, {steps}"
