"""A whole ONNX model, as its author wrote it, under ONNX Runtime: what every part of a network is held to.

Tensors inside become outputs, so that a part is compared on the inputs that it has in the model, not on those that
other parts gave it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import ValueInfoProto, numpy_helper

from systolith.compiler.frontend.fold import is_random
from systolith.compiler.frontend.nodes import fixed_batch
from systolith.errors import SystolithError
from systolith.network import HostPart
from systolith.runtime import Value
from systolith.sim import reference
from systolith.sim.host_part import described, run_host
from systolith.stored_models import graphs

__all__ = ["different", "draws", "elements", "host_differences", "run_whole", "with_outputs"]


def with_outputs(model: bytes, names: Iterable[str], batch: int) -> bytes:
    """The model with that batch, and these tensors as outputs, too."""
    proto = fixed_batch(onnx.load_model_from_string(model), batch)
    known = {port.name for port in (*proto.graph.output, *proto.graph.input)}
    more = [name for name in dict.fromkeys(names) if name not in known]
    proto.graph.output.extend(ValueInfoProto(name=name) for name in more)
    return proto.SerializeToString()


def run_whole(extended: bytes, inputs: Mapping[str, Value], level: str) -> dict[str, Any]:
    """Inputs and outputs of a model by name. Raises SystolithError where ONNX Runtime refuses it."""
    return {**inputs, **reference.run(extended, inputs, level)}


def host_differences(hosts: Sequence[HostPart], expected: Mapping[str, Any]) -> tuple[int, list[str]]:
    """Run each part of the host on its inputs among `expected`, the model's tensors. How many elements of outputs
    differ from those there, and a line for each such output."""
    count, notes = 0, []
    for part in hosts:
        nodes = described(part)
        if draws(part):
            notes.append(f"host part of {nodes} draws random numbers: not compared")
            continue
        try:
            found = run_host(part, {port.name: expected[port.name] for port in part.inputs})
        except SystolithError as error:
            count += 1
            notes.append(str(error))
            continue
        for port in part.outputs:
            if wrong := different(found.get(port.name), expected[port.name]):
                count += wrong
                notes.append(f"host part of {nodes}: {wrong} elements of '{port.name}' differ from the whole model's")
    return count, notes


def draws(part: HostPart) -> bool:
    """Whether a part may draw random numbers, so that it gives others each time."""
    found = list(graphs(onnx.load_from_string(part.model)))
    nodes = [node for graph in found for node in graph.node if is_random(node)]
    stored = {tensor.name: tensor for graph in found for tensor in graph.initializer}
    stored |= {node.output[0]: attribute.t for graph in found for node in graph.node if node.op_type == "Constant"
               for attribute in node.attribute if attribute.name == "value"}  # fmt: skip
    off = {name for name, tensor in stored.items() if not numpy_helper.to_array(tensor).any()}
    return any(node.op_type != "Dropout" or node.input[2] not in off for node in nodes)


def elements(value: Value) -> int:
    """Of a tensor; of a sequence, those of all its tensors."""
    if isinstance(value, list):
        return sum(map(elements, value))
    return 0 if value is None else value.size


def different(mine: Value, theirs: Value) -> int:
    """Elements that differ; all of them, and at least one, if types or shapes do. NaN is equal to NaN."""
    if isinstance(mine, list) and isinstance(theirs, list) and len(mine) == len(theirs):
        return sum(different(a, b) for a, b in zip(mine, theirs, strict=True))
    if mine is None or theirs is None or isinstance(mine, list) or isinstance(theirs, list):
        return int(mine is not theirs)
    if mine.shape != theirs.shape or mine.dtype != theirs.dtype:
        return max(theirs.size, 1)
    equal = (mine == theirs) | ((mine != mine) & (theirs != theirs))
    return int(np.size(equal) - np.count_nonzero(equal))
