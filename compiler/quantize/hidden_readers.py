"""Readers of a tensor that ONNX Runtime's quantizer does not count: the network's outputs, and graphs inside nodes.

A Relu or Clip that it takes for the only reader of a tensor gives the tensor its own range, and may take it in.
"""

from collections import Counter

from onnx import ModelProto, NodeProto, helper

from systolith.compiler.partition.nodes import reads
from systolith.compiler.quantize.fold_norms import new_name

__all__ = ["show_readers"]

CLAMPS = ("Clip", "Relu")


def show_readers(model: ModelProto) -> ModelProto:
    """The model, changed in place: where a Relu or Clip is the one node that reads a tensor, an Identity is another
    one, which makes it, by its name, for outputs and graphs inside nodes, if these read it."""
    nodes = model.graph.node
    counted = Counter(name for node in nodes for name in node.input)
    hidden = {port.name for port in model.graph.output}
    hidden |= {name for node in nodes for name in set(reads(node)).difference(node.input)}
    clamped = {node.input[0] for node in nodes if node.op_type in CLAMPS}
    wanted = {name for name in clamped & hidden if counted[name] == 1}
    renamed: dict[str, str] = {}
    found: list[NodeProto] = []
    for node in nodes:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        found.append(node)
        for place, name in enumerate(node.output):
            if name in wanted:
                node.output[place] = renamed[name] = new_name(model, f"{name}/result")
                found.append(helper.make_node("Identity", [renamed[name]], [name]))
    copies = [NodeProto.FromString(node.SerializeToString()) for node in found]
    del nodes[:]
    nodes.extend(copies)
    return model
