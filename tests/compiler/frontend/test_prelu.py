"""PRelu with a slope for each channel: within one step of ONNX Runtime, which computes it in float32; mostly equal."""

import numpy as np
import pytest

from systolith.compiler.frontend.importer import import_model
from systolith.compiler.pipeline import compile_model
from systolith.config import PRESETS
from systolith.errors import UnsupportedError
from systolith.sim.golden import golden
from systolith.sim.run import run
from systolith.sim.stimulus.model_writer import ModelWriter
from tests.support.against_onnxruntime import any_of, differences, finish, value
from tests.support.seeds import seeds

TYPES = np.dtype(np.int8), np.dtype(np.uint8)


def model(rng: np.random.Generator, slopes: np.ndarray, shape=(2, 6, 4, 5), leading=1) -> bytes:
    """Random scales and zero points; the slopes have `leading` axes of 1 before their own."""
    dtype = TYPES[rng.integers(2)]
    writer = ModelWriter(17)
    zero_points = value(rng, dtype), value(rng, dtype)
    x = writer.dequantize(writer.input("x", dtype, shape), rng.uniform(0.02, 0.05), zero_points[0])
    axes = (1,) * leading + (len(slopes),) + (1,) * (len(shape) - 2)
    y = writer.node("PRelu", [x, writer.constant(slopes.astype(np.float32).reshape(axes))], "prelu")
    return finish(writer, y, rng.uniform(0.02, 0.05), zero_points[1], len(shape))


@seeds(12)
def test_random_slopes(seed):
    rng = np.random.default_rng(seed)
    slopes = rng.choice([rng.uniform(0, 0.5), rng.uniform(-2, 3), 0, 1, 0.25], 6) * rng.uniform(0.9, 1.1, 6)
    shape = [(2, 6, 4, 5), (3, 6), (2, 6, 7)][seed % 3]
    graph, off = differences(model(rng, slopes, shape, seed % 2), rng)
    assert off.max() <= 1
    assert (off > 0).mean() < 0.02
    assert [layer.op for layer in graph.layers] == ["PRelu"] * 3


def test_as_the_accelerator_runs_it():
    rng = np.random.default_rng(1)
    data, config = model(rng, rng.uniform(-0.1, 0.5, 6)), PRESETS["tiny4"]
    graph = import_model(data)
    inputs = {port.name: any_of(rng, np.dtype(port.dtype), port.shape) for port in graph.inputs}
    outputs, _ = run(compile_model(data, config), inputs, config, "isa")
    for name, expected in golden.run(graph, inputs).items():
        assert (outputs[name] == expected).all()


def test_slopes_that_no_weights_can_hold():
    with pytest.raises(UnsupportedError, match="PRelu 'prelu': slopes must be from -126 to 128, not 300"):
        import_model(model(np.random.default_rng(0), np.array([0.1, 300.0])[[0, 1, 0, 0, 0, 0]]))
