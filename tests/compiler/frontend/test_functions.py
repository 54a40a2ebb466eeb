"""Functions of one quantized tensor: tables that ONNX Runtime fills, and that equal it on whole models."""

import numpy as np
import pytest

from systolith.compiler.frontend.importer import import_model
from systolith.compiler.ir.graph import SfuOp
from systolith.errors import UnsupportedError
from systolith.sim.stimulus.model_writer import ModelWriter
from tests.support.against_onnxruntime import agree, finish, output, value

RNG = np.random.default_rng(0)
SHAPE = (2, 7, 3, 5)


def op(name: str, *constants, **attributes):
    """The operator with constants behind its input."""
    return lambda w, x: w.node(name, [x, *(w.constant(np.float32(c)) for c in constants)], **attributes)


def on_left(name: str, constant):
    return lambda w, x: w.node(name, [w.constant(np.float32(constant)), x])


def chain(*functions):
    """One after the other."""

    def build(w, x):
        for function in functions:
            x = function(w, x)
        return x

    return build


def times(function):
    """x * function(x), as Silu and Mish are exported."""
    return lambda w, x: w.node("Mul", [x, function(w, x)])


def where(w, x):
    """LeakyRelu as a choice: types other than float32 in between."""
    return w.node("Where", [w.node("Greater", [x, w.constant(np.float32(0))]), x, op("Mul", 0.1)(w, x)])


def reshaped(w, x):
    first, second = (w.constant(np.array(shape, np.int64)) for shape in ((2, -1), SHAPE))
    return w.node("Reshape", [w.node("Sigmoid", [w.node("Reshape", [x, first])]), second])


ERF = chain(op("Div", 1.41421356), op("Erf"), op("Add", 1))
FUNCTIONS = {
    "Sigmoid": op("Sigmoid"), "Tanh": op("Tanh"), "LeakyRelu": op("LeakyRelu", alpha=0.2), "HardSwish": op("HardSwish"),
    "HardSigmoid": op("HardSigmoid", alpha=0.3, beta=0.4), "Elu": op("Elu"), "Selu": op("Selu"), "Exp": op("Exp"),
    "Celu": op("Celu", alpha=2.0), "Softplus": op("Softplus"), "Softsign": op("Softsign"), "Abs": op("Abs"),
    "Neg": op("Neg"), "Erf": op("Erf"), "Sign": op("Sign"), "Round": op("Round"), "Floor": op("Floor"),
    "Ceil": op("Ceil"), "ThresholdedRelu": op("ThresholdedRelu", alpha=0.5), "Shrink": op("Shrink", lambd=0.5),
    "Sin": op("Sin"), "Relu": op("Relu"), "Clip": op("Clip", -0.7, 1.3), "PRelu": op("PRelu", [0.25]),
    "Pow": op("Pow", 3), "Add": on_left("Add", [[0.7]]), "Mul": op("Mul", -1.7), "Sub": on_left("Sub", 1),
    "Max": op("Max", 0.1, 0.3), "Min": on_left("Min", 0.1), "Gelu": op("Gelu"), "Mish": op("Mish"),
    "Gelu of tanh": op("Gelu", approximate="tanh"),
    "Gelu of com.microsoft": op("Gelu", domain="com.microsoft"), "FastGelu": op("FastGelu", domain="com.microsoft"),
    "QuickGelu": op("QuickGelu", domain="com.microsoft", alpha=1.5),
    "Gelu of Erf": chain(times(ERF), op("Mul", 0.5)), "Silu": times(op("Sigmoid")),
    "Mish of Tanh": times(chain(op("Softplus"), op("Tanh"))),
    "HardSwish of Clip": times(chain(op("Add", 3), op("Clip", 0, 6), op("Div", 6))),
    "Reciprocal": chain(op("Abs"), op("Add", [1]), op("Reciprocal")),
    "Log": chain(op("Abs"), op("Add", 0.1), op("Log")),
    "Sqrt": chain(op("Abs"), op("Sqrt")), "Div": chain(op("Add", 20), on_left("Div", 1)), "Where": where,
    "x + x": lambda w, x: w.node("Add", [x, x]), "Reshape": reshaped, "none": lambda w, x: x,
}  # fmt: skip
NEW = {"Gelu": 20, "Mish": 18, "Gelu of tanh": 20}


@pytest.mark.parametrize("types", [(np.int8, np.int8), (np.uint8, np.uint8), (np.int8, np.uint8)])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name, types):
    """Every function as one map with a table, whatever nodes it is made of; opset 15 unless it is a new one."""
    dtypes = [np.dtype(kind) for kind in types]
    writer = ModelWriter(NEW.get(name, 15))
    x = writer.dequantize(writer.input("x", dtypes[0], SHAPE), RNG.uniform(0.01, 0.05), value(RNG, dtypes[0]))
    y = FUNCTIONS[name](writer, x)
    graph = agree(finish(writer, y, RNG.uniform(0.005, 0.05), value(RNG, dtypes[1])), RNG)
    (layer,) = graph.layers
    assert isinstance(layer, SfuOp)
    assert layer.table is not None
    assert layer.table.dtype == np.int8


def rounded(function, scale=0.02, zero_point=-100):
    """The function, and QuantizeLinear and DequantizeLinear behind it."""

    def build(w, x):
        return w.dequantize(w.quantize(function(w, x), scale, np.int8(zero_point)), scale, np.int8(zero_point))

    return build


ROUNDED = {
    "Silu": times(rounded(op("Sigmoid"), 1 / 256, -128)),
    "Mish": times(rounded(chain(rounded(op("Softplus")), op("Tanh")))),
    "HardSwish": chain(times(rounded(op("HardSigmoid"), 1 / 255, -128)), op("Mul", 2.0)),
    "LeakyRelu": lambda w, x: w.node(
        "Where", [w.node("Greater", [x, w.constant(np.float32(0))]), x, rounded(op("Mul", 0.1), 0.01, 40)(w, x)]
    ),
    "of two functions": lambda w, x: w.node(
        "Sub", [rounded(chain(rounded(op("Exp")), op("Tanh")))(w, x), rounded(op("Sigmoid"), 0.004, -128)(w, x)]
    ),
    "Div": lambda w, x: w.node("Div", [x, rounded(chain(op("Abs"), op("Add", 1)))(w, x)]),
}  # fmt: skip
"""Functions of one tensor that are quantized on the way."""


@pytest.mark.parametrize("name", ROUNDED)
def test_functions_quantized_on_the_way(name):
    """One table: what is quantized between is a function of the same tensor, and needs no layer if nothing else reads
    it. Bit-equal to ONNX Runtime, because it fills the table from the same nodes."""
    (layer,) = agree(function_of(ROUNDED[name], 3, (0.01, -20)), RNG).layers
    assert isinstance(layer, SfuOp)
    assert layer.multiply is None
    assert layer.table is not None


def test_a_function_quantized_on_the_way_that_others_read():
    """Its layer stays; the product is a table all the same."""
    writer = ModelWriter()
    x = writer.dequantize(writer.input("x", np.uint8, SHAPE), 0.03, np.uint8(99))
    gate = writer.quantize(writer.node("Sigmoid", [x]), 1 / 256, np.uint8(0))
    y = writer.quantize(writer.node("Mul", [x, writer.dequantize(gate, 1 / 256, np.uint8(0))]), 0.03, np.uint8(20))
    output(writer, gate, np.dtype(np.uint8))
    graph = agree(output(writer, y, np.dtype(np.uint8)), RNG)
    assert [layer.inputs for layer in graph.layers] == [("x",), ("x",)]


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul"])
@pytest.mark.parametrize("gated", [False, True])
def test_another_view_of_the_same_elements(gated, op):
    """As a second operand, broadcast, where it does not lie like the first."""
    writer = ModelWriter(17)
    x = writer.dequantize(writer.input("x", np.uint8, SHAPE), 0.03, np.uint8(99))
    gate = writer.dequantize(writer.quantize(writer.node("Sigmoid", [x]), 0.03, np.uint8(9)), 0.03, np.uint8(9))
    other = writer.node("Unsqueeze", [gate if gated else x, writer.constant(np.array([0]))])
    agree(finish(writer, writer.node(op, [x, other]), 0.03, np.uint8(20), len(SHAPE) + 1), RNG, steps=1)


def function_of(function, zero_point=0, out=(0.1, 0), shape=SHAPE) -> bytes:
    """DequantizeLinear, the function, QuantizeLinear; int8."""
    writer = ModelWriter(17)
    x = writer.dequantize(writer.input("x", np.int8, shape), 0.1, np.int8(zero_point))
    return finish(writer, function(writer, x), out[0], np.int8(out[1]), len(shape))


def refusal(model: bytes) -> UnsupportedError:
    with pytest.raises(UnsupportedError) as error:
        import_model(model)
    return error.value


def test_what_is_no_number():
    error = refusal(function_of(op("Log"), zero_point=5))
    assert "Log 'log_1': must give a number for every quantized input; it gives NaN for 0" in str(error)
    assert error.node == "log_1_out"


def test_relu_that_the_zero_point_absorbs_is_no_layer():
    double = chain(
        op("Relu"), lambda w, x: w.dequantize(w.quantize(x, 0.1, np.int8(-128)), 0.1, np.int8(-128)), op("Exp")
    )
    graph = agree(function_of(double, -128), RNG)
    assert [layer.op for layer in graph.layers] == ["Exp"]


@pytest.mark.parametrize(("function", "limits"), [
    (op("Relu"), (3, 127)), (op("Clip", -0.5, 2.0), (-2, 23)), (op("Min", 0.7), (-128, 10))])  # fmt: skip
def test_limits_need_no_table(function, limits):
    (layer,) = agree(function_of(function, 3, (0.1, 3)), RNG).layers
    assert isinstance(layer, SfuOp)
    assert layer.table is None
    assert (layer.low, layer.high) == limits


def test_functions_of_two_tensors():
    """Sigmoid without a QuantizeLinear times another tensor: float32 in ONNX Runtime."""
    writer = ModelWriter()
    a, b = (writer.dequantize(writer.input(name, np.int8, SHAPE), 0.1, np.int8(0)) for name in "ab")
    y = writer.node("Mul", [writer.node("Sigmoid", [a]), b], "product")
    assert "Mul 'product': inputs that are no constants must be functions of one quantized tensor" in str(
        refusal(finish(writer, y, 0.1, np.int8(0))))  # fmt: skip


def test_functions_of_one_tensor_turned():
    writer = ModelWriter()
    x = writer.dequantize(writer.input("x", np.int8, (1, 2, 3, 3)), 0.1, np.int8(0))
    y = writer.node("Add", [writer.node("Sigmoid", [x]), writer.node("Transpose", [x], perm=[0, 1, 3, 2])], "sum")
    error = refusal(finish(writer, y, 0.1, np.int8(0)))
    assert "Add 'sum': inputs that are no constants must have one shape and order of axes, not [(1, 2" in str(error)


def test_a_layer_and_a_function_without_quantization():
    writer = ModelWriter()
    x = writer.dequantize(writer.input("x", np.int8, (1, 3, 4, 4)), 0.1, np.int8(0))
    w = writer.dequantize(writer.constant(np.ones((2, 3, 1, 1), np.int8)), 0.1, np.int8(0))
    y = writer.node("Sigmoid", [writer.node("Conv", [x, w], "conv")], "sigmoid")
    assert "Sigmoid 'sigmoid': a QuantizeLinear must stand between it and Conv 'conv'" in str(
        refusal(finish(writer, y, 0.1, np.int8(0))))  # fmt: skip


def test_float_inputs():
    writer = ModelWriter()
    y = writer.node("Exp", [writer.input("x", np.float32, SHAPE)], "exp")
    assert "Exp 'exp': inputs must be constants and DequantizeLinear of 8-bit tensors, not network input 'x'" in str(
        refusal(finish(writer, y, 0.1, np.int8(0))))  # fmt: skip


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize(("name", "attributes"), [("QLinearSigmoid", {}), ("QLinearLeakyRelu", {"alpha": 0.3})])
def test_quantized_functions(name, attributes, dtype):
    writer, dtype = ModelWriter(), np.dtype(dtype)
    x = writer.input("x", dtype, SHAPE)
    constants = [np.float32(0.04), value(RNG, dtype), np.float32(0.01), value(RNG, dtype)]
    y = writer.node(name, [x, *map(writer.constant, constants)], domain="com.microsoft", **attributes)
    (layer,) = agree(output(writer, y, dtype), RNG).layers
    assert isinstance(layer, SfuOp)
    assert layer.table is not None


@pytest.mark.parametrize("first", [0, 3])
@pytest.mark.parametrize("name", ["QLinearAdd", "QLinearMul"])
def test_quantized_operators_with_a_constant(name, first):
    """The other operand may be a number: a table, run as the node itself."""
    writer = ModelWriter()
    inputs = [writer.constant(c) for c in
              (np.uint8(77), np.float32(0.04), np.uint8(9), np.uint8(0), np.float32(0.03), np.uint8(3),
               np.float32(0.05), np.uint8(99))]  # fmt: skip
    inputs[first] = writer.input("x", np.uint8, SHAPE)
    if first:
        inputs[0] = writer.constant(np.uint8(77))
    else:
        inputs[3] = writer.constant(np.uint8(200))
    y = writer.node(name, inputs, domain="com.microsoft")
    (layer,) = agree(output(writer, y, np.dtype(np.uint8)), RNG).layers
    assert isinstance(layer, SfuOp)
    assert layer.table is not None


def test_functions_before_the_roles_of_an_input_are_known():
    """The convolution behind a Transpose decides what is batch and channels of the input before the function."""
    writer = ModelWriter()
    x = writer.dequantize(writer.input("x", np.uint8, (2, 6, 7, 3)), 0.02, np.uint8(99))
    y = writer.quantize(writer.node("Sigmoid", [x]), 1 / 256, np.uint8(0))
    y = writer.dequantize(writer.node("Transpose", [y], perm=[0, 3, 1, 2]), 1 / 256, np.uint8(0))
    w = writer.dequantize(writer.constant(RNG.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8)), 0.01, np.int8(0))
    graph = agree(finish(writer, writer.node("Conv", [y, w]), 0.03, np.uint8(128)), RNG)
    assert graph.values["x"].dims == graph.values[graph.layers[0].output].dims == (2, 3, 6, 7)


def writer_of(nodes: int, op: str, quantized: bool) -> ModelWriter:
    """That many nodes one behind the other, each of which reads the one before with all its inputs."""
    w = ModelWriter(17)
    x = w.dequantize(w.input("x", np.int8, (1, 4, 3, 3)), 0.1, np.int8(3))
    for _ in range(nodes):
        x = w.node(op, [x] * (2 if op == "Mul" else 1))
        if quantized:
            x = w.dequantize(w.quantize(x, 0.1, np.int8(3)), 0.1, np.int8(3))
    w.output(x if quantized else w.quantize(x, 0.1, np.int8(3)), np.float32 if quantized else np.int8, (1, 4, 3, 3))
    return w


@pytest.mark.parametrize(("op", "nodes"), [("Relu", 201), ("Relu", 3000), ("Mul", 8), ("Mul", 60)])
def test_functions_that_are_too_long(op, nodes):
    """What is read twice counts twice: 60 products would be 2^60 nodes, were they walked."""
    with pytest.raises(UnsupportedError, match=f"{op} '.*': a function must be of at most 200 nodes"):
        import_model(writer_of(nodes, op, quantized=False).model())
    assert len(import_model(writer_of(200 if op == "Relu" else 7, op, quantized=False).model()).layers) == 1


@pytest.mark.slow
def test_many_functions_in_a_row():
    """Each quantized, so that they are layers: no recursion, however many."""
    assert len(import_model(writer_of(1050, "Sigmoid", quantized=True).model()).layers) == 1050
