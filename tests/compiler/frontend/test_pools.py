"""Pools and reductions: every attribute, against ONNX Runtime; and what is refused by name.

ONNX Runtime averages in float32 where a window slides; there a mean halfway between two steps may differ by one.
"""

import numpy as np
import pytest

from systolith.compiler.frontend.importer import import_model
from systolith.compiler.ir.graph import SfuOp, Window
from systolith.compiler.pipeline import compile_model
from systolith.config import PRESETS
from systolith.errors import UnsupportedError
from systolith.sim.golden import golden
from systolith.sim.run import run
from systolith.sim.stimulus.model_writer import ModelWriter
from tests.support.against_onnxruntime import agree, differences, finish, output, unoptimized, value
from tests.support.seeds import seeds

TYPES = np.dtype(np.int8), np.dtype(np.uint8)
RNG = np.random.default_rng(0)


def pool(op: str, shape, opset: int = 17, out=(0.3, 7), rank=None, **attributes):
    """DequantizeLinear -> `op` 'pool' -> QuantizeLinear, uint8."""
    writer = ModelWriter(opset)
    x = writer.dequantize(writer.input("x", np.uint8, shape), 0.2, np.uint8(130))
    y = writer.node(op, [x], "pool", **attributes)
    return finish(writer, y, out[0], np.uint8(out[1]), len(shape) if rank is None else rank)


def only_map(graph) -> SfuOp:
    (layer,) = graph.layers
    assert isinstance(layer, SfuOp)
    return layer


def random_attributes(rng: np.random.Generator, sizes: tuple[int, ...]) -> dict:
    kernel = [int(rng.integers(1, min(5, size + 1))) for size in sizes]
    strides = [
        int(rng.integers(1, min(size, 3) + 1)) for size in kernel
    ]  # ONNX Runtime fails at SAME with larger ones.
    attributes = {"kernel_shape": kernel, "strides": strides}
    choice = rng.random()
    if choice < 0.3:
        attributes["auto_pad"] = str(rng.choice(["SAME_UPPER", "SAME_LOWER", "VALID"]))
    elif choice < 0.9:
        attributes["pads"] = [int(rng.integers(0, size)) for size in kernel * 2]
        attributes["ceil_mode"] = int(rng.integers(2))
    return attributes


def random_pool(rng: np.random.Generator) -> bytes:
    """A random MaxPool, AveragePool, QLinearAveragePool, or one of their global forms."""
    op = str(rng.choice(["MaxPool", "AveragePool", "QLinearAveragePool", "GlobalMaxPool", "GlobalAveragePool",
                         "QLinearGlobalAveragePool"]))  # fmt: skip
    dtype, rank = TYPES[rng.integers(2)], int(rng.choice([3, 4, 4]))
    shape = (int(rng.integers(1, 3)), int(rng.integers(1, 6)), *(int(n) for n in rng.integers(4, 12, rank - 2)))
    last = "QLinear" in op and rank == 4 and rng.random() < 0.5
    attributes = {} if "Global" in op else random_attributes(rng, shape[2:])
    if op == "MaxPool" and "auto_pad" not in attributes:
        attributes["dilations"] = [int(rng.integers(1, 3)) if n > 1 else 1 for n in attributes["kernel_shape"]]
        attributes["kernel_shape"] = [min(n, 3) for n in attributes["kernel_shape"]]
        attributes["dilations"] = [
            step if (n - 1) * step < size else 1
            for n, step, size in zip(attributes["kernel_shape"], attributes["dilations"], shape[2:], strict=True)
        ]
        attributes.pop("pads", None)
        attributes["ceil_mode"] = 0
    if "Average" in op and "Global" not in op and (op.startswith("Q") or not attributes.get("ceil_mode")):
        attributes["count_include_pad"] = int(rng.integers(2))
    writer = ModelWriter(int(rng.integers(12, 23)))
    scales, zeros = rng.uniform(0.01, 0.1, 2), [value(rng, dtype) for _ in range(2)]
    x = writer.input("x", dtype, (shape[0], *shape[2:], shape[1]) if last else shape)
    if not op.startswith("Q"):
        y = writer.node(op, [writer.dequantize(x, scales[0], zeros[0])], **attributes)
        return finish(writer, y, scales[1], zeros[1], rank)
    constants = [writer.constant(c) for pair in zip(np.float32(scales), zeros, strict=True) for c in pair]
    y = writer.node(op, [x, *constants], domain="com.microsoft", channels_last=int(last), **attributes)
    return output(writer, y, dtype, rank)


@seeds(60)
def test_random_pools(seed):
    rng = np.random.default_rng(seed)
    agree(random_pool(rng), rng)  # Random scales: nothing lies halfway.


def test_max_pool_of_integers():
    """Without DequantizeLinear; the scale comes from a reader behind it."""
    writer = ModelWriter()
    y = writer.node("MaxPool", [writer.input("x", np.int8, (1, 3, 7, 8))], kernel_shape=[3, 2], strides=[2, 2])
    y = writer.node("Relu", [writer.dequantize(y, 0.1, np.int8(-5))])
    graph = agree(finish(writer, y, 0.1, np.int8(-5)), RNG)
    assert graph.values["x"].scale == np.float32(0.1)
    assert [layer.op for layer in graph.layers] == ["MaxPool", "Relu"]


def test_max_pool_keeps_scale():
    """Of a dequantized tensor it commutes, so that quantizing again with the same scale is no layer."""
    layer = only_map(agree(pool("MaxPool", (1, 3, 8, 8), out=(0.2, 130), kernel_shape=[2, 2]), RNG))
    assert (layer.reduce, layer.window, layer.pad) == ("max", Window((2, 2)), -128)


def test_average_pool_fields():
    layer = only_map(agree(pool("AveragePool", (2, 3, 8, 8), kernel_shape=[3, 2], pads=[1, 0, 2, 1]), RNG, steps=1))
    assert layer.window == Window((3, 2), pads=(1, 0, 2, 1))
    assert (layer.reduce, layer.pad, layer.counted) == ("average", 0, None)
    assert (layer.x_zero, layer.zero_point) == (2, -121)
    assert (layer.x_scale, layer.y_scale) == (np.float32(0.2), np.float32(0.3))


def test_what_ceil_mode_adds():
    """A pad for what sticks out. It does not count, except to QLinearAveragePool; the pads that are named do."""
    attributes = {"kernel_shape": [4], "strides": [3], "pads": [1, 1], "ceil_mode": 1}
    layer = only_map(agree(pool("AveragePool", (1, 2, 6), **attributes), RNG, steps=1))
    assert layer.window.pads == (0, 1, 0, 3)
    assert layer.counted is None
    model = pool("AveragePool", (1, 2, 6), count_include_pad=1, **attributes)
    layer = only_map(agree(model, np.random.default_rng(1), steps=1, run=unoptimized))
    assert (layer.window.pads, layer.counted) == ((0, 1, 0, 3), (0, 1, 0, 1))
    writer = ModelWriter()
    constants = [writer.constant(c) for c in (np.float32(1), np.uint8(3), np.float32(1), np.uint8(9))]
    y = writer.node("QLinearAveragePool", [writer.input("x", np.uint8, (1, 2, 6)), *constants],
                    domain="com.microsoft", count_include_pad=1, **attributes)  # fmt: skip
    assert only_map(agree(output(writer, y, TYPES[1], 3), RNG, steps=1)).counted == (0, 1, 0, 3)


@seeds(60)
def test_pads_that_count(seed):
    """What sticks out with ceil_mode does not, in any opset; nor does dilation change that."""
    rng = np.random.default_rng(seed)
    opset, rank = int(rng.choice([10, 13, 18, 19, 22])), int(rng.choice([3, 4]))
    sizes = [int(n) for n in rng.integers(5, 12, rank - 2)]
    kernel, strides = ([int(rng.integers(low, 5)) for _ in sizes] for low in (2, 1))
    attributes = {"pads": [int(rng.integers(0, size)) for size in kernel * 2]}
    if seed % 4 == 0:
        attributes = {"auto_pad": str(rng.choice(["SAME_UPPER", "SAME_LOWER", "VALID"]))}
        strides = [min(steps) for steps in zip(strides, kernel, strict=True)]
    elif opset >= 19:
        attributes["dilations"] = [int(rng.integers(1, 3)) if 2 * k - 1 <= n else 1
                                   for k, n in zip(kernel, sizes, strict=True)]  # fmt: skip
    model = pool("AveragePool", (2, 3, *sizes), opset, (0.191, 7), kernel_shape=kernel, strides=strides, ceil_mode=1,
                 count_include_pad=1, **attributes)  # fmt: skip
    _, off = differences(model, rng, run=unoptimized)
    assert off.max() <= 1
    assert (off > 0).mean() < 0.03


def test_averages_of_counted_pads_run_on_the_accelerator():
    """In tiles: each position has its own divisor."""
    model = pool("AveragePool", (1, 5, 33, 21), kernel_shape=[3, 4], strides=[2, 3], pads=[1, 2, 1, 3], ceil_mode=1,
                 count_include_pad=1)  # fmt: skip
    program = compile_model(model, PRESETS["tiny4"])
    inputs = {"x": np.random.default_rng(2).integers(0, 256, (1, 5, 33, 21)).astype(np.uint8)}
    (y,) = run(program, inputs, PRESETS["tiny4"], "isa")[0].values()
    (expected,) = golden.run(import_model(model), inputs).values()
    np.testing.assert_array_equal(y, expected)


def test_ceil_mode_drops_a_window_that_begins_behind_the_input():
    graph = agree(pool("MaxPool", (1, 1, 6), kernel_shape=[2], strides=[3], pads=[0, 1], ceil_mode=1), RNG)
    assert graph.outputs[0].shape == (1, 1, 2)


@pytest.mark.parametrize(("limits", "expected"), [
    (("Relu", ()), (-28, 127)), (("Clip", (-0.5, 1.0)), (-66, 49)), (("Min", (1.0,)), (-128, 49)),
    (("Max", (-0.5, -0.7)), (-66, 127))])  # fmt: skip
def test_limits_after_an_average(limits, expected):
    writer = ModelWriter()
    x = writer.dequantize(writer.input("x", np.uint8, (1, 3, 8, 8)), 0.02, np.uint8(130))
    y = writer.node("AveragePool", [x], kernel_shape=[2, 2])
    y = writer.node(limits[0], [y, *(writer.constant(np.float32(n)) for n in limits[1])])
    layer = only_map(agree(finish(writer, y, 0.013, np.uint8(100)), np.random.default_rng(6), steps=1))
    assert (layer.low, layer.high) == expected


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize("op", ["ReduceMean", "ReduceMax"])
@pytest.mark.parametrize(("axes", "kernel"), [
    ((2, 3), (5, 7)), ((-1, -2), (5, 7)), ((1, 2), (3, 5)), ((2,), (5, 1)), ((3,), (1, 7))])  # fmt: skip
def test_reductions(op, axes, kernel, keep, opset):
    writer = ModelWriter(opset)
    x = writer.dequantize(writer.input("x", np.int8, (2, 3, 5, 7)), 0.1, np.int8(-7))
    if opset < 18:
        y = writer.node(op, [x], axes=list(axes), keepdims=keep)
    else:
        y = writer.node(op, [x, writer.constant(np.array(axes, np.int64))], keepdims=keep)
    graph = agree(finish(writer, y, 0.1, np.int8(-7), 4 if keep else 4 - len(axes)), RNG)
    assert graph.layers[0].window.kernel == kernel


def test_reduction_behind_a_transpose():
    """Height and width of what a convolution made, in the order of channels last."""
    writer = ModelWriter()
    x = writer.dequantize(writer.input("x", np.int8, (1, 3, 6, 6)), 0.1, np.int8(-7))
    w = writer.dequantize(writer.constant(RNG.integers(-128, 128, (4, 3, 3, 3)).astype(np.int8)), 0.01, np.int8(0))
    y = writer.quantize(writer.node("Conv", [x, w]), 0.2, np.int8(0))
    y = writer.dequantize(writer.node("Transpose", [y], perm=[0, 2, 3, 1]), 0.2, np.int8(0))
    y = writer.node("ReduceMean", [y], axes=[1, 2], keepdims=0)
    graph = agree(finish(writer, y, 0.05, np.int8(0), 2), RNG)
    assert graph.layers[1].window.kernel == (4, 4)


def refusal(model: bytes) -> str:
    with pytest.raises(UnsupportedError) as error:
        import_model(model)
    return str(error.value)


def test_refusals():
    """Sound nodes that only a host can run, named."""
    five = pool("MaxPool", (1, 2, 4, 4, 4), kernel_shape=[2, 2, 2])
    assert "MaxPool 'pool': input must have 3 or 4 dimensions, not shape (1, 2, 4, 4, 4)" in refusal(five)
    same = pool("MaxPool", (1, 2, 8, 8), kernel_shape=[2, 2], dilations=[2, 1], auto_pad="SAME_UPPER")
    assert "attribute 'dilations' must be 1 with auto_pad SAME" in refusal(same)
    channels = pool("ReduceMean", (1, 2, 8, 8), axes=[1], keepdims=1)
    assert "ReduceMean 'pool': axes must be height, width or both" in refusal(channels)
    whole = pool("ReduceMean", (2, 2, 8, 8), rank=0, keepdims=0)
    assert "axes must be height, width or both" in refusal(whole)
    hole = pool("AveragePool", (1, 1, 1, 8), 19, kernel_shape=[2, 1], dilations=[2, 1], pads=[1, 0, 1, 0])
    assert "windows must not lie in the pads alone" in refusal(hole)
