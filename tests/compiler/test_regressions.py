"""What random networks found (sim/stimulus/network.py), each as small as it gets."""

import numpy as np
import pytest

from systolith.compiler.frontend.importer import import_model
from systolith.compiler.network import compile_network
from systolith.config import PRESETS
from systolith.errors import UnsupportedError
from systolith.sim.compare.outputs import check
from systolith.sim.run import run
from systolith.sim.stimulus.inputs import random_inputs
from systolith.sim.stimulus.model_writer import ModelWriter
from tests.support.against_onnxruntime import agree, finish, output, value

SCALE, ZERO = np.float32(0.05), np.int8(-9)


def pool(op: str, shape: tuple[int, ...], y_scale: float = 0.05, **attributes) -> bytes:
    writer = ModelWriter(17)
    x = writer.dequantize(writer.input("x", np.int8, shape), SCALE, ZERO)
    return finish(writer, writer.node(op, [x], **attributes), y_scale, ZERO)


def test_batches_of_inputs_differ():
    writer = ModelWriter(17)
    for name, batch in (("a", 2), ("b", 1)):
        x = writer.dequantize(writer.input(name, np.int8, (batch, 3, 4, 4)), SCALE, ZERO)
        writer.output(writer.quantize(writer.node("Tanh", [x]), 0.01, ZERO), np.int8, (batch, 3, 4, 4))
    program = compile_network(writer.model(), PRESETS["tiny4"], strict=True)
    inputs = random_inputs(program, 0)
    outputs, _ = run(program, inputs, PRESETS["tiny4"], "isa")
    assert check(program, inputs, outputs).passed


def test_nothing_but_views_is_for_the_host():
    writer = ModelWriter(17)
    x = writer.dequantize(writer.input("x", np.uint8, (3, 6, 7, 8)), SCALE, np.uint8(3))
    rows = writer.node("Transpose", [x], perm=[0, 2, 3, 1])
    y = writer.node("Reshape", [rows, writer.constant(np.array([3, -1]))])
    writer.output(writer.quantize(y, SCALE, np.uint8(3)), np.uint8, (3, 336))
    with pytest.raises(UnsupportedError, match="nothing of it can run on the accelerator"):
        compile_network(writer.model(), PRESETS["tiny4"])


@pytest.mark.parametrize("op", ["AveragePool", "MaxPool"])
@pytest.mark.parametrize("pad", ["SAME_LOWER", "SAME_UPPER"])
def test_same_pools_that_skip(op, pad):
    """ONNX Runtime's pads are negative there."""
    with pytest.raises(UnsupportedError, match="auto_pad SAME must not skip rows or columns"):
        import_model(pool(op, (1, 3, 8, 8), auto_pad=pad, kernel_shape=[2, 1], strides=[1, 4]))
    model = pool(op, (1, 3, 8, 8), auto_pad=pad, kernel_shape=[2, 2], strides=[1, 3])
    agree(model, np.random.default_rng(0), steps=int(op == "AveragePool"))


def test_maximum_of_pads_alone():
    """In float32 it is the lowest there is, in int8 -128: not the same after a QuantizeLinear of another scale."""
    window = {"kernel_shape": [2, 1], "dilations": [2, 1], "pads": [1, 0, 1, 0]}
    with pytest.raises(UnsupportedError, match="windows must not lie in the pads alone"):
        import_model(pool("MaxPool", (1, 3, 1, 4), 0.9, **window))


def test_a_window_larger_than_the_input_with_ceil_mode():
    agree(pool("MaxPool", (1, 3, 1, 4), kernel_shape=[2, 1], strides=[2, 2], ceil_mode=1), np.random.default_rng(0))


@pytest.mark.parametrize("batch", [1, 3])
def test_normalization_of_one_channel(batch):
    rng = np.random.default_rng(batch)
    writer = ModelWriter(17)
    x = writer.dequantize(writer.input("x", np.int8, (batch, 1, 5, 6)), SCALE, value(rng, np.dtype(np.int8)))
    stored = [writer.constant(np.float32([number])) for number in (1.5, 0.9, 0.4, 2.3)]
    agree(finish(writer, writer.node("BatchNormalization", [x, *stored]), 0.03, ZERO), rng, steps=1)


def test_no_room_is_for_the_host():
    """A layer too large for the SRAM leaves the rest on the accelerator."""
    writer = ModelWriter(17)
    x = writer.dequantize(writer.input("x", np.int8, (1, 4, 40, 40)), SCALE, ZERO)
    y = writer.quantize(writer.node("Tanh", [x]), 0.01, ZERO)
    mean = writer.node("GlobalAveragePool", [writer.dequantize(y, 0.01, ZERO)])
    network = compile_network(finish(writer, mean, 0.01, ZERO), PRESETS["tiny4"])
    assert [node.op for node in network.host_nodes if node.op == "GlobalAveragePool"]
    assert any("must have room for one pixel" in node.reason for node in network.host_nodes)


@pytest.mark.parametrize(("x_scale", "whole"), [(0.05, True), (8.0, False)])
def test_bias_of_a_normalization_that_is_too_coarse(x_scale, whole):
    """It is rounded to x_scale * w_scale, which may be many steps of the output; ONNX Runtime does not round it."""
    rng = np.random.default_rng(0)
    writer = ModelWriter(17)
    x = writer.dequantize(writer.input("x", np.int8, (1, 4, 3, 3)), np.float32(x_scale), ZERO)
    w = writer.constant(rng.integers(-100, 100, (6, 4, 1, 1)).astype(np.int8))
    y = writer.node("Conv", [x, writer.dequantize(w, np.float32(0.02), np.int8(0))])
    stored = [rng.uniform(low, 2, 6).astype(np.float32) for low in (0.3, -1, -1, 0.3)]
    model = finish(writer, writer.node("BatchNormalization", [y, *map(writer.constant, stored)]), 0.008, ZERO)
    if whole:
        agree(model, rng, steps=1)
    else:
        with pytest.raises(UnsupportedError, match="bias must be within half a step of the output when it is rounded"):
            import_model(model)


def test_two_scales_one_after_the_other():
    """ONNX Runtime's optimizer makes one of them, with other results; as a reference it does not."""
    rng = np.random.default_rng(0)
    writer = ModelWriter(17)
    x = writer.dequantize(writer.input("x", np.uint8, (1, 3, 4, 5)), np.float32(0.01), np.uint8(99))
    y = writer.node("Tanh", [x])
    for scale, zero_point in ((0.004, 0), (0.006, 100), (0.005, 3)):
        pair = np.float32(scale), np.uint8(zero_point)
        x = writer.quantize(y, *pair)
        y = writer.dequantize(x, *pair)
    agree(output(writer, x, np.dtype(np.uint8)), rng)
