"""A vector reshaped to an image, as decoders begin: bit-equal to ONNX Runtime, and on the accelerator."""

import numpy as np
import pytest

from systolith.compiler.pipeline import compile_model
from systolith.config import PRESETS
from systolith.sim.golden import golden
from systolith.sim.run import run
from systolith.sim.stimulus.model_writer import ModelWriter
from tests.support.against_onnxruntime import agree, any_of, output
from tests.support.small_models import refused

UINT8 = np.dtype(np.uint8)
SCALE, ZERO = np.float32(0.2), np.uint8(120)


def decoder(shape: tuple[int, ...], perm: tuple[int, ...] | None, channels: int, op: str = "Conv") -> bytes:
    """A Gemm whose result has that shape, transposed by `perm`, and a layer with so many input channels."""
    writer, rng = ModelWriter(17), np.random.default_rng(0)

    def weights(*sizes: int) -> str:
        return writer.dequantize(writer.constant(any_of(rng, np.dtype(np.int8), sizes)), 0.01, np.int8(0))

    x = writer.dequantize(writer.input("x", np.uint8, (2, 10, 1, 1)), 0.04, np.uint8(99))
    x = writer.node("Flatten", [writer.node("MaxPool", [x], kernel_shape=[1, 1])])
    x = writer.dequantize(writer.quantize(x, 0.04, np.uint8(99)), 0.04, np.uint8(99))
    y = writer.node("Gemm", [x, weights(10, int(np.prod(shape)))])
    y = writer.dequantize(writer.quantize(y, SCALE, ZERO), SCALE, ZERO)
    y = writer.node("Reshape", [y, writer.constant(np.array([2, *shape], np.int64))])
    y = y if perm is None else writer.node("Transpose", [y], perm=perm)
    y = writer.dequantize(writer.quantize(y, SCALE, ZERO), SCALE, ZERO)
    rank = 1 + len(shape)
    if op == "MaxPool":
        y = writer.node("MaxPool", [y], "reader", kernel_shape=[2] * (rank - 2))
    else:
        y = writer.node("Conv", [y, weights(6, channels, *(2,) * (rank - 2))], "reader")
    return output(writer, writer.quantize(y, 0.7 if op == "Conv" else SCALE, ZERO), UINT8, rank)


DECODERS = [
    decoder((5, 3, 4), None, 5), decoder((3, 4, 5), (0, 3, 1, 2), 5), decoder((1, 2, 6), None, 1),
    decoder((7, 6), None, 7), decoder((6, 7), (0, 2, 1), 7), decoder((5, 3, 3), None, 5, "MaxPool"),
]  # fmt: skip


@pytest.mark.parametrize("data", DECODERS)
def test_vectors_as_images(data):
    rng, config = np.random.default_rng(1), PRESETS["tiny4"]
    graph = agree(data, rng)
    inputs = {"x": any_of(rng, UINT8, (2, 10, 1, 1))}
    outputs, _ = run(compile_model(data, config), inputs, config, "isa")
    for name, expected in golden.run(graph, inputs).items():
        assert (outputs[name] == expected).all()


def test_larger_images_are_for_the_host():
    error = refused(decoder((2, 9, 9), None, 2))
    assert "Conv 'reader': input must have batch, channels, height and width" in str(error)
