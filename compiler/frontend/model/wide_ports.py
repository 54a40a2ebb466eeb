"""Inputs and outputs of types that NumPy does not have: a wider type with a Cast behind it, which keeps all values.

float32 stands for bfloat16 and float8, int8 for int4. The output of ZipMap, a map of scores by class for each row,
becomes the tensor of the scores, in the order of the classes.
"""

from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper

from systolith.compiler.frontend.model.names import rename_apart

__all__ = ["make_ports_wide"]

WIDER: dict[int, int] = {
    TensorProto.BFLOAT16: TensorProto.FLOAT,
    TensorProto.FLOAT8E4M3FN: TensorProto.FLOAT,
    TensorProto.FLOAT8E4M3FNUZ: TensorProto.FLOAT,
    TensorProto.FLOAT8E5M2: TensorProto.FLOAT,
    TensorProto.FLOAT8E5M2FNUZ: TensorProto.FLOAT,
    TensorProto.FLOAT4E2M1: TensorProto.FLOAT,
    TensorProto.INT4: TensorProto.INT8,
    TensorProto.UINT4: TensorProto.UINT8,
}
ZIP_MAP = ("ai.onnx.ml", "ZipMap")


def make_ports_wide(model: ModelProto) -> None:
    """Change the types of inputs and outputs of the model that need it."""
    graph = model.graph
    stored = {tensor.name for tensor in graph.initializer}
    ports = [port for port in (*graph.input, *graph.output)
             if port.type.tensor_type.elem_type in WIDER and port.name not in stored]  # fmt: skip
    renamed = rename_apart(model, dict.fromkeys(port.name for port in ports))
    inputs = {port.name for port in graph.input}
    for port in graph.input:
        if port.name in renamed:
            graph.node.insert(0, _cast(port.name, renamed[port.name], port.type.tensor_type.elem_type))
    for port in graph.output:
        if port.name in renamed and port.name not in inputs:
            graph.node.append(_cast(renamed[port.name], port.name, WIDER[port.type.tensor_type.elem_type]))
    for port in ports:
        port.type.tensor_type.elem_type = WIDER[port.type.tensor_type.elem_type]
    _open_maps(graph)


def _cast(source: str, target: str, element: int) -> NodeProto:
    return helper.make_node("Cast", [source], [target], to=element)


def _open_maps(graph: GraphProto) -> None:
    """An Identity for each ZipMap that makes an output."""
    ports = {port.name: port for port in graph.output}
    for node in graph.node:
        if (node.domain, node.op_type) == ZIP_MAP and node.output[0] in ports:
            port = ports[node.output[0]]
            node.CopyFrom(helper.make_node("Identity", node.input, node.output, node.name))
            port.type.CopyFrom(helper.make_tensor_type_proto(TensorProto.FLOAT, None))
