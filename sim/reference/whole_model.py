"""A whole ONNX model, as its author wrote it, under ONNX Runtime: what every part of a network is held to.

Tensors inside become outputs, so that a part is compared on the inputs that it has in the model, not on those that
other parts gave it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, ValueInfoProto, numpy_helper

from systolith.compiler.frontend.values.constants import is_random
from systolith.errors import SystolithError
from systolith.network import HostPart
from systolith.runtime import Value
from systolith.sim.reference import reference
from systolith.sim.reference.host_part import described, run_host
from systolith.stored_models import DOMAINS, Port, graphs, nodes, with_sizes

__all__ = ["different", "draws", "elements", "host_differences", "reading_differences", "run_whole", "with_outputs"]


def with_outputs(model: bytes, inputs: Iterable[Port], names: Iterable[str]) -> bytes:
    """The model with inputs of these sizes, and these tensors as outputs, too."""
    proto = with_sizes(onnx.load_model_from_string(model), inputs)
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


def reading_differences(given: bytes, read: bytes, inputs: Mapping[str, Value]) -> tuple[int, list[str]]:
    """Elements of outputs that differ between a model as it is given and as the front end reads it, both unoptimized;
    and what there is to say."""
    model = onnx.load_model_from_string(given)
    imported = [opset for owner in (model, *model.functions) for opset in owner.opset_import]
    versions = {opset.version for opset in imported if opset.domain in DOMAINS[:2]}
    if len(versions) > 1:
        return 0, ["ONNX Runtime runs functions of another opset in the model's: the file as given is not compared"]
    if _draws(model):
        return 0, ["the model draws random numbers: the file as given is not compared"]
    try:
        expected, found = reference.run(given, inputs, "none"), reference.run(read, inputs, "none")
    except SystolithError as error:
        return 0, [f"{error}: the file as given is not compared"]
    wrong = {name: different(found.get(name), values) for name, values in expected.items()}
    return sum(wrong.values()), [f"reading the model changes {count} elements of '{name}'"
                                 for name, count in wrong.items() if count]  # fmt: skip


def draws(part: HostPart) -> bool:
    """Whether a part may draw random numbers, so that it gives others each time."""
    return _draws(onnx.load_model_from_string(part.model))


def _draws(model: ModelProto) -> bool:
    found = [node for node in nodes(model) if is_random(node)]
    modes = {node.input[2] for node in found if node.op_type == "Dropout"}
    stored = {tensor.name: tensor for graph in graphs(model) for tensor in graph.initializer if tensor.name in modes}
    stored |= {node.output[0]: attribute.t for node in nodes(model) if modes.intersection(node.output)
               and node.op_type == "Constant" for attribute in node.attribute if attribute.name == "value"}  # fmt: skip
    off = {name for name, tensor in stored.items() if not numpy_helper.to_array(tensor).any()}
    return any(node.op_type != "Dropout" or node.input[2] not in off for node in found)


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
