"""DepthToSpace and SpaceToDepth: bit-equal to ONNX Runtime, and on the accelerator."""

import numpy as np
import pytest

from systolith.compiler.pipeline import compile_model
from systolith.config import PRESETS
from systolith.errors import SystolithError
from systolith.sim.golden import golden
from systolith.sim.run import run
from systolith.sim.stimulus.model_writer import ModelWriter
from tests.support.against_onnxruntime import agree, any_of, output
from tests.support.small_models import refused

RNG = np.random.default_rng(0)
SCALE, ZERO = np.float32(0.04), np.uint8(77)


def alone(op: str, shape, **attributes) -> bytes:
    writer = ModelWriter(17)
    x = writer.dequantize(writer.input("x", np.uint8, shape), SCALE, ZERO)
    return output(writer, writer.quantize(writer.node(op, [x], op, **attributes), SCALE, ZERO), np.dtype(np.uint8))


@pytest.mark.parametrize("attributes", [{}, {"mode": "DCR"}, {"mode": "CRD"}])
@pytest.mark.parametrize(("shape", "size"), [((2, 12, 3, 4), 2), ((1, 18, 2, 1), 3), ((1, 5, 3, 3), 1)])
def test_depth_to_space(shape, size, attributes):
    agree(alone("DepthToSpace", shape, blocksize=size, **attributes), RNG)


@pytest.mark.parametrize(("shape", "size"), [((2, 3, 4, 6), 2), ((1, 2, 3, 9), 3), ((1, 5, 3, 3), 1)])
def test_space_to_depth(shape, size):
    agree(alone("SpaceToDepth", shape, blocksize=size), RNG)


def test_pixel_shuffle_between_convolutions():
    """Super-resolution: what runs on the accelerator is golden's, for channels that fill a block or do not."""
    writer, rng = ModelWriter(17), np.random.default_rng(1)

    def conv(x: str, outputs: int, inputs: int) -> str:
        weights = writer.dequantize(writer.constant(any_of(rng, np.dtype(np.int8), (outputs, inputs, 3, 3))), 0.01,
                                    np.int8(0))  # fmt: skip
        return writer.dequantize(writer.quantize(writer.node("Conv", [x, weights], pads=[1] * 4), 0.5, ZERO), 0.5, ZERO)

    x = conv(writer.dequantize(writer.input("x", np.uint8, (1, 3, 5, 6)), SCALE, ZERO), 20, 3)
    x = writer.quantize(writer.node("DepthToSpace", [x], blocksize=2, mode="CRD"), 0.5, ZERO)
    x = conv(writer.dequantize(x, 0.5, ZERO), 6, 5)
    x = writer.node("SpaceToDepth", [x], blocksize=2)
    data, config = output(writer, writer.quantize(x, 0.5, ZERO), np.dtype(np.uint8)), PRESETS["tiny4"]
    graph = agree(data, rng)
    inputs = {"x": any_of(rng, np.dtype(np.uint8), (1, 3, 5, 6))}
    outputs, _ = run(compile_model(data, config), inputs, config, "isa")
    for name, expected in golden.run(graph, inputs).items():
        assert (outputs[name] == expected).all()


@pytest.mark.parametrize(("op", "attributes", "message"), [
    ("DepthToSpace", {"blocksize": 3}, "'blocksize' must be positive, and its square divide 8, not 3"),
    ("DepthToSpace", {"blocksize": 2, "mode": "XYZ"}, "'mode' must be DCR or CRD, not 'XYZ'"),
    ("SpaceToDepth", {"blocksize": 4}, "'blocksize' must divide height 4 and width 6, not 4"),
])  # fmt: skip
def test_bad_attributes(op, attributes, message):
    with pytest.raises(SystolithError) as error:
        agree(alone(op, (1, 8, 4, 6), **attributes), RNG)
    assert f"{op} '{op}': attribute {message}" in str(error.value)


def test_axes_in_another_order():
    """Behind a Transpose the channels are not where these operators have them."""
    writer = ModelWriter(17)
    x = writer.dequantize(writer.input("x", np.uint8, (1, 4, 4, 4)), SCALE, ZERO)
    pooled = writer.quantize(writer.node("GlobalAveragePool", [x]), SCALE, ZERO)
    output(writer, pooled, np.dtype(np.uint8))
    turned = writer.node("DepthToSpace", [writer.node("Transpose", [x], perm=[0, 2, 3, 1])], "d", blocksize=2)
    error = refused(output(writer, writer.quantize(turned, SCALE, ZERO), np.dtype(np.uint8)))
    assert "DepthToSpace 'd': axes must be batch, channels, height and width of the tensor before it" in str(error)
