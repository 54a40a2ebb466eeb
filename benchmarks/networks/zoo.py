"""The ImageNet topologies that the `onnx` package carries for its tests, with weights and statistics of their own.

The package's files hold shapes instead of weights; `weights.py` makes weights and statistics.
"""

from importlib.resources import files

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper, version_converter

from systolith.benchmarks.networks.weights import fill

__all__ = ["NETWORKS", "calibration", "float_model"]

NETWORKS = {
    "resnet50": "resnet50",
    "squeezenet": "squeezenet",
    "alexnet": "bvlc_alexnet",
    "zfnet": "zfnet512",
    "vgg19": "vgg19",
    "inception_v1": "inception_v1",
    "inception_v2": "inception_v2",
    "shufflenet": "shufflenet",
    "densenet121": "densenet121",
}
"""Names, and those of the package's files."""
OPSET = 17
SEED = 20
SAMPLES = 2
IMAGE = (3, 224, 224)


def float_model(name: str) -> ModelProto:
    """The float32 network `name`, with weights. The same bits each time."""
    path = files("onnx") / "backend" / "test" / "data" / "light" / f"light_{NETWORKS[name]}.onnx"
    model = onnx.load_from_string(path.read_bytes())
    model.ir_version = max(model.ir_version, 8)
    _only_data_input(model)
    model = version_converter.convert_version(_with_constants(model), OPSET)
    _sums_to_adds(model)
    _norms_with_scales(model)
    one = {name: images[:1] for name, images in calibration(model).items()}
    return fill(model, one, SEED)


def calibration(model: ModelProto) -> dict[str, NDArray[np.float32]]:
    """Images for quantization: noise of several sizes, as natural images have details of several sizes."""
    rng = np.random.default_rng(SEED)
    image = np.zeros((SAMPLES, *IMAGE), np.float32)
    for size in (7, 28, 112, 224):
        noise = rng.normal(size=(SAMPLES, IMAGE[0], size, size)).astype(np.float32)
        image += np.kron(noise, np.ones((1, 1, IMAGE[1] // size, IMAGE[2] // size), np.float32)) / 2
    return {model.graph.input[0].name: image}


def _only_data_input(model: ModelProto) -> None:
    """Inputs that are initializers, or unused, are not inputs."""
    stored = {tensor.name for tensor in model.graph.initializer}
    data = [port for port in model.graph.input if port.name not in stored]
    del model.graph.input[:]
    model.graph.input.extend(data)


def _with_constants(model: ModelProto) -> ModelProto:
    """ConstantOfShape of a stored shape becomes an initializer of zeros, to be filled later."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    kept = []
    for node in model.graph.node:
        if node.op_type == "ConstantOfShape" and node.input[0] in stored:
            shape = numpy_helper.to_array(stored[node.input[0]])
            model.graph.initializer.append(numpy_helper.from_array(np.zeros(shape, np.float32), node.output[0]))
        else:
            kept.append(node)
    del model.graph.node[:]
    model.graph.node.extend(kept)
    used = {name for node in kept for name in node.input}
    tensors = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(tensors)
    return model


def _sums_to_adds(model: ModelProto) -> None:
    """Sum of two tensors is Add, which quantizers know."""
    for node in model.graph.node:
        if node.op_type == "Sum" and len(node.input) == 2:
            node.op_type = "Add"


def _norms_with_scales(model: ModelProto) -> None:
    """Scale and shift of each channel behind a batch normalization (Caffe's Scale) are its own."""
    readers = {name: node for node in model.graph.node for name in node.input[:1]}
    for node in model.graph.node:
        if node.op_type == "BatchNormalization":
            product = readers.get(node.output[0])
            total = readers.get(product.output[0]) if product and product.op_type == "Mul" else None
            if product and total and total.op_type == "Add":
                node.output[0], product.output[0], total.output[0] = total.output[0], "", ""
    _drop_unused(model)


def _drop_unused(model: ModelProto) -> None:
    """Keep the nodes and initializers that an output needs."""
    needed = {port.name for port in model.graph.output}
    kept = []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.insert(0, NodeProto.FromString(node.SerializeToString()))
    tensors = [TensorProto.FromString(t.SerializeToString()) for t in model.graph.initializer if t.name in needed]
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(kept)
    model.graph.initializer.extend(tensors)
