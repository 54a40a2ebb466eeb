"""The golden model's layers beside convolution sums: against loops, against ONNX Runtime, and values inside others."""

from itertools import product

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from systolith.compiler.ir.graph import (
    Add,
    Concat,
    Conv,
    Dims,
    Graph,
    Inside,
    Layer,
    Multiply,
    Port,
    Select,
    SfuOp,
    Value,
    Window,
)
from systolith.compiler.ir.verify import verify
from systolith.numerics import add, add_constants, average_scale, look_up, requantize
from systolith.sim.golden import golden
from systolith.sim.golden.pooling import reduce_windows

WINDOWS = [
    Window((2, 3), (1, 2), (2, 1), (1, 0, 2, 1)),
    Window((3, 3), (2, 2), (1, 1), (1, 1, 1, 1)),
    Window((1, 1), (2, 1), (1, 1), (-1, -2, -1, 0)),
    Window((6, 7), (1, 1), (1, 1), (0, 0, 0, 0)),
    Window((1, 1), (1, 1), (1, 1), (2, 1, 0, 3)),
]


def positions(window: Window, row: int, column: int):
    """Input positions that a window covers."""
    for ky, kx in product(range(window.kernel[0]), range(window.kernel[1])):
        yield (
            row * window.stride[0] - window.pads[0] + ky * window.dilation[0],
            column * window.stride[1] - window.pads[1] + kx * window.dilation[1],
        )


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("reduce", ["max", "sum"])
def test_windows_equal_loops(window: Window, reduce: str):
    x = np.random.default_rng(1).integers(-128, 128, (2, 3, 6, 7)).astype(np.int8)
    found = reduce_windows(x, window, reduce, -3)
    rows, columns = window.output_size(6, 7)
    assert found.shape == (2, 3, rows, columns)
    for b, c, row, column in product(range(2), range(3), range(rows), range(columns)):
        covered = [int(x[b, c, y, z]) if 0 <= y < 6 and 0 <= z < 7 else -3 for y, z in positions(window, row, column)]
        assert found[b, c, row, column] == (max(covered) if reduce == "max" else sum(covered))


def graph_of(layers: tuple[Layer, ...], values: dict[str, Value], inputs: dict[str, Dims]) -> Graph:
    """A verified graph whose inputs and output ("y") are int8."""
    values |= {name: Value(name, dims, 1.0, 0) for name, dims in inputs.items()}
    ports = tuple(Port(name, dims, "int8", name, (0, 1, 2, 3), "int8") for name, dims in inputs.items())
    output = Port("y", values["y"].dims, "int8", "y", (0, 1, 2, 3), "int8")
    return verify(Graph("g", values, layers, ports, (output,)))


def run(layer: Layer, dims: Dims, **arrays: np.ndarray) -> np.ndarray:
    """The output of a graph of one layer."""
    graph = graph_of((layer,), {"y": Value("y", dims, 1.0, 0)}, {name: array.shape for name, array in arrays.items()})
    return golden.run(graph, arrays)["y"]


def random(*dims: int, seed: int = 3) -> np.ndarray:
    return np.random.default_rng([seed, *dims]).integers(-128, 128, dims).astype(np.int8)


@pytest.mark.parametrize("counted", [None, (0, 0, 0, 0), (1, 1, 1, 1), (2, 1, 0, 3)])
@pytest.mark.parametrize("window", [Window((3, 3), (2, 2), (1, 1), (1, 1, 1, 1)),
                                    Window((2, 3), (1, 1), (1, 1), (1, 0, 0, 2))])  # fmt: skip
def test_average_equals_loops(window: Window, counted):
    x = random(1, 2, 5, 6)
    layer = SfuOp("m", "AveragePool", "x", "y", window, "average", 0, counted, 17, 0.31, 0.23, zero_point=-9)
    rows, columns = window.output_size(5, 6)
    found = run(layer, (1, 2, rows, columns), x=x)
    top, left, bottom, right = counted or (0, 0, 0, 0)
    for c, row, column in product(range(2), range(rows), range(columns)):
        covered = list(positions(window, row, column))
        inside = [int(x[0, c, y, z]) for y, z in covered if 0 <= y < 5 and 0 <= z < 6]
        divisor = sum(-top <= y < 5 + bottom and -left <= z < 6 + right for y, z in covered)
        total = np.int32(sum(inside) - 17 * len(inside))
        assert found[0, c, row, column] == requantize(total, average_scale(0.31, 0.23, divisor), -9)


@pytest.mark.parametrize("ceil_mode", [0, 1])
@pytest.mark.parametrize("include", [0, 1])
def test_average_equals_onnx_runtime(ceil_mode: int, include: int):
    """QLinearAveragePool. With count_include_pad it divides by the kernel's size even where ceil_mode lets the last
    windows hang over the pads."""
    rng = np.random.default_rng([ceil_mode, include])
    x = rng.integers(0, 256, (1, 5, 10, 11)).astype(np.uint8)
    constants = {"xs": np.float32(0.02), "xz": np.uint8(120), "ys": np.float32(0.017), "yz": np.uint8(131)}
    node = helper.make_node("QLinearAveragePool", ["x", *constants], ["y"], domain="com.microsoft", kernel_shape=[3, 3],
                            strides=[2, 2], pads=[1] * 4, ceil_mode=ceil_mode, count_include_pad=include)  # fmt: skip
    model = helper.make_model(
        helper.make_graph([node], "g", [helper.make_tensor_value_info("x", TensorProto.UINT8, x.shape)],
                          [helper.make_tensor_value_info("y", TensorProto.UINT8, [1, 5, None, None])],
                          [onnx.numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]),
        opset_imports=[helper.make_opsetid("", 13), helper.make_opsetid("com.microsoft", 1)], ir_version=8)  # fmt: skip
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = np.asarray(session.run(None, {"x": x})[0])
    rows, columns = expected.shape[2:]
    bottom, right = (rows - 1) * 2 + 3 - 1 - 10, (columns - 1) * 2 + 3 - 1 - 11
    layer = SfuOp("m", "AveragePool", "x", "y", Window((3, 3), (2, 2), (1, 1), (1, 1, bottom, right)), "average", 0,
                (1, 1, bottom, right) if include else None, 120 - 128, 0.02, 0.017, zero_point=131 - 128)  # fmt: skip
    found = run(layer, expected.shape, x=(x ^ 128).view(np.int8))
    assert np.array_equal(found.view(np.uint8) ^ 128, expected)


@pytest.mark.parametrize("dims", [(2, 3, 4, 5), (2, 3, 1, 1), (2, 3, 1, 5), (2, 3, 4, 1)])
def test_second_operands(dims: Dims):
    """Multiply and add, each with an operand of the same size or repeated, then a table."""
    x, other, table = random(2, 3, 4, 5), random(*dims), random(256)
    layer = SfuOp("m", "Mul", "x", "y", x_scale=0.01, y_scale=0.5, multiply=Multiply("b", (5, -7)), zero_point=3,
                  low=-90, high=100, table=table)  # fmt: skip
    products = (x.astype(np.int32) - 5) * (other.astype(np.int32) + 7)
    wanted = look_up(requantize(products, np.asarray(average_scale(0.01, 0.5, 1)), 3, -90, 100, joint=True), table)
    assert np.array_equal(run(layer, x.shape, x=x, b=other), wanted)
    constants = add_constants(0.3, 0.2, 0.4)
    layer = SfuOp("m", "Add", "x", "y", add=Add("b", (5, -7), constants, 3, -90, 100), table=table)
    wanted = look_up(add(x, np.broadcast_to(other, x.shape), (5, -7), constants, 3, -90, 100), table)
    assert np.array_equal(run(layer, x.shape, x=x, b=other), wanted)


@pytest.mark.parametrize("fused", ["pool", "add", "table"])
def test_fused_steps_of_a_convolution(fused: str):
    """The same as the convolution, and the step in a layer of its own."""
    rng = np.random.default_rng(8)
    x, other, table = random(2, 3, 6, 6), random(2, 4, 6, 6), random(256)
    weights = rng.integers(-128, 128, (4, 3, 3, 3)).astype(np.int8)
    bias = rng.integers(-5000, 5000, 4).astype(np.int32)
    scale = rng.uniform(0.001, 0.01, 4).astype(np.float32)
    window = Window((3, 3), (2, 2), (1, 1), (1, 1, 1, 1))
    step = {"pool": window, "add": Add("b", (1, 2), add_constants(0.3, 0.2, 0.4), -5, -80, 90), "table": table}[fused]

    def conv(**more) -> Conv:
        return Conv("c", "Conv", "x", more.pop("output", "y"), weights, bias, scale, pads=(1, 1, 1, 1), zero_point=11,
                    low=-70, **more)  # fmt: skip

    inputs: dict[str, Dims] = {"x": x.shape, "b": other.shape}
    size = (2, 4, 3, 3) if fused == "pool" else (2, 4, 6, 6)
    y = Value("y", size, 1.0, 0)
    alone = SfuOp("m", "m", "r", "y", **({"window": window} if fused == "pool" else {fused: step}))
    apart = graph_of((conv(output="r"), alone), {"y": y, "r": Value("r", (2, 4, 6, 6), 1.0, 0)}, dict(inputs))
    together = graph_of((conv(**{fused: step}),), {"y": y}, dict(inputs))
    arrays = {"x": x, "b": other}
    assert np.array_equal(golden.run(together, arrays)["y"], golden.run(apart, arrays)["y"])


@pytest.mark.parametrize("axis", range(4))
def test_concat(axis: int):
    a, b = random(2, 3, 4, 5), np.delete(random(2, 3, 4, 5, seed=4), 0, axis)
    wanted = np.concatenate([a, b], axis)
    assert np.array_equal(run(Concat("c", "Concat", ("a", "b"), "y", axis), wanted.shape, a=a, b=b), wanted)


def test_select():
    x = random(2, 3, 4, 5)
    assert np.array_equal(run(Select("s", "Gather", "x", "y", (2, 0, 0, 1)), (2, 4, 4, 5), x=x), x[:, [2, 0, 0, 1]])


def copy(name: str, source: str, target: str) -> SfuOp:
    return SfuOp(name, "Identity", source, target)


def test_values_inside_others():
    """Four layers write every second row and column of a part; another part is an input's; a third one is only read."""
    x = random(1, 2, 6, 6)
    values = {
        "whole": Value("whole", (1, 4, 6, 6), 1.0, 0),
        "upper": Value("upper", (1, 2, 6, 6), 1.0, 0, Inside("whole", 0, 2)),
    }
    layers: list[Layer] = [copy("lower", "x", "lower")]
    values["lower"] = Value("lower", (1, 2, 6, 6), 1.0, 0, Inside("whole"))
    for row, column in product(range(2), range(2)):
        name = f"corner{row}{column}"
        values[name] = Value(name, (1, 2, 3, 3), 1.0, 0, Inside("upper", 0, 0, row, column, 2, 2))
        window = Window(stride=(2, 2), pads=(-row, -column, 0, 0))
        layers.append(SfuOp(name, "Slice", "x", name, window))
    values["middle"] = Value("middle", (1, 3, 2, 4), 1.0, 0, Inside("whole", 0, 1, 3, 2))
    values["y"] = Value("y", (1, 3, 2, 4), 1.0, 0)
    graph = graph_of((*layers, copy("read", "middle", "y")), values, {"x": x.shape})
    found = golden.run_values(graph, {"x": x})
    assert np.array_equal(found["whole"], np.concatenate([x, x], 1))
    assert np.array_equal(found["y"], found["whole"][:, 1:4, 3:5, 2:6])
    assert all(found[name].shape == value.dims for name, value in graph.values.items())
