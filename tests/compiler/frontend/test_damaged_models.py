"""Valid models with one field, node or initializer removed, repeated or changed: a refusal in one line, or a network
that computes what ONNX Runtime does; no other exception."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from systolith import PRESETS
from systolith.compiler.frontend.importer import import_model
from systolith.compiler.network import compile_network
from systolith.errors import SystolithError
from systolith.sim.compare.outputs import check
from systolith.sim.fuzz.models import mixed
from systolith.sim.fuzz.protobuf import damage
from systolith.sim.reference import reference
from systolith.sim.run import run
from systolith.sim.stimulus.inputs import random_inputs
from tests.support.seeds import seeds
from tests.support.split_models import MODELS


def model() -> onnx.ModelProto:
    """A small network with most kinds of nodes."""
    return onnx.load_model_from_string(mixed())


def test_the_model_is_good():
    assert len(import_model(model().SerializeToString()).layers) > 15


@seeds(250)
def test_one_damaged_field(seed):
    rng = np.random.default_rng(seed)
    damaged = model()
    print(damage(rng, damaged))
    try:
        import_model(damaged.SerializeToString(), "net.onnx")
    except SystolithError as error:
        print(error)
        assert str(error).startswith("net.onnx: ")
        assert len(str(error)) < 1000


def bypass(rng: np.random.Generator, graph: onnx.GraphProto) -> None:
    """What read a node reads the node's input."""
    node = graph.node[int(rng.integers(len(graph.node)))]
    for reader in graph.node:
        for i, name in enumerate(reader.input):
            if name in node.output and node.input:
                reader.input[i] = node.input[0]
    graph.node.remove(node)


def rewire(rng: np.random.Generator, graph: onnx.GraphProto) -> None:
    """A node reads another tensor."""
    node = graph.node[int(rng.integers(len(graph.node)))]
    names = [name for other in graph.node for name in (*other.input, *other.output) if name]
    if node.input:
        node.input[int(rng.integers(len(node.input)))] = str(rng.choice(names))


def operator(rng: np.random.Generator, graph: onnx.GraphProto) -> None:
    """A node becomes one of another operator."""
    known = ("Relu", "Sigmoid", "Softmax", "Add", "Mul", "Flatten", "Transpose", "Identity", "Neg", "Exp", "ReduceMax")
    graph.node[int(rng.integers(len(graph.node)))].op_type = str(rng.choice(known))


def initializer(rng: np.random.Generator, graph: onnx.GraphProto) -> None:
    """An initializer of another shape, type or value."""
    tensor = graph.initializer[int(rng.integers(len(graph.initializer)))]
    values = np.array(numpy_helper.to_array(tensor))
    changes = [values[None], values.reshape(-1), values.reshape(-1)[:0], np.resize(values, 3), values.T,
               np.concatenate([values.reshape(-1)] * 2), np.zeros_like(values), np.ones_like(values),
               *(values.astype(kind) for kind in (np.int8, np.uint8, np.int32, np.float32, np.float16))]  # fmt: skip
    tensor.CopyFrom(
        numpy_helper.from_array(np.ascontiguousarray(changes[int(rng.integers(len(changes)))]), tensor.name)
    )


def port(rng: np.random.Generator, graph: onnx.GraphProto) -> None:
    """An input or output of another type, or one more output."""
    names = [name for node in graph.node for name in (*node.input, *node.output) if name]
    kind = int(rng.choice([onnx.TensorProto.INT8, onnx.TensorProto.UINT8, onnx.TensorProto.FLOAT]))
    if rng.random() < 0.5:
        ports = [*graph.input, *graph.output]
        ports[int(rng.integers(len(ports)))].type.tensor_type.elem_type = kind
    else:
        rank = int(rng.integers(5))
        graph.output.append(onnx.helper.make_tensor_value_info(str(rng.choice(names)), kind, [None] * rank))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # Of casts that are part of the damage.
@seeds(120, each=30)
def test_changed_networks(seed):
    rng = np.random.default_rng(seed)
    names = list(MODELS)
    name = names[seed % len(names)]
    damaged = onnx.load_model_from_string(MODELS[name][0]().model()) if seed % 3 else model()
    change = [bypass, rewire, operator, initializer, port][int(rng.integers(5))]
    change(rng, damaged.graph)
    try:
        network = compile_network(damaged.SerializeToString(), PRESETS["tiny4"])
    except SystolithError as error:
        assert "\n" not in str(error)
        return
    inputs = random_inputs(network, seed)
    try:
        outputs, _ = run(network, inputs, PRESETS["tiny4"], "isa")
    except SystolithError:  # What only shows when it runs.
        with pytest.raises(SystolithError, match="ONNX Runtime refuses the model"):
            reference.run(network.model, inputs, "none")
        return
    found = check(network, inputs, outputs)
    assert found.passed, (name, change.__name__, found)
    assert found.onnxruntime is not None, found.notes
