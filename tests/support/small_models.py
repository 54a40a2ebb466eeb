"""Small models of one operator between DequantizeLinear and QuantizeLinear, for tests of the front end."""

import numpy as np
import pytest
from onnx import helper

from systolith.compiler.frontend.importer import import_model
from systolith.compiler.ir.graph import Graph
from systolith.errors import UnsupportedError
from systolith.sim.golden import golden
from systolith.sim.reference import reference
from systolith.sim.stimulus.model_writer import ModelWriter

RNG = np.random.default_rng(3)
SCALE, ZERO = 0.05, np.uint8(117)


def same(model: bytes, within: int = 0, batch: int = 1) -> Graph:
    """Import; hold golden to ONNX Runtime for random bytes; give the graph."""
    graph = import_model(model, batch=batch)
    inputs = {}
    for port in graph.inputs:
        values = RNG.integers(0, 256, port.shape).astype(np.uint8)
        inputs[port.name] = values.view(port.dtype) if port.dtype != "float32" else (values / 50).astype(np.float32)
    mine, theirs = golden.run(graph, inputs), reference.run(model, inputs)
    assert mine.keys() == theirs.keys()
    for name, expected in theirs.items():
        assert (mine[name].shape, mine[name].dtype) == (expected.shape, expected.dtype)
        if not reference.saturates():
            np.testing.assert_allclose(mine[name].astype(float), expected.astype(float), atol=within, rtol=0)
    return graph


def image(writer: ModelWriter, *shape: int | str, name="x", scale=SCALE, zero_point=ZERO) -> str:
    return writer.dequantize(writer.input(name, zero_point.dtype, shape), scale, zero_point)


def finish(writer: ModelWriter, y: str, rank: int, scale=SCALE, zero_point=ZERO) -> bytes:
    q = writer.quantize(y, scale, zero_point)
    writer.output(q, zero_point.dtype, [f"d{i}" for i in range(rank)])
    return writer.model()


def several(writer: ModelWriter, op: str, inputs: list[str], count: int, **attributes) -> list[str]:
    """A node with several outputs."""
    names = [f"{op}_{len(writer.nodes)}_{i}" for i in range(count)]
    writer.nodes.append(helper.make_node(op, inputs, names, f"{op}_{len(writer.nodes)}", **attributes))
    return names


def ints(writer: ModelWriter, *numbers: int) -> str:
    return writer.constant(np.array(numbers, np.int64))


def refused(model: bytes) -> UnsupportedError:
    """The refusal of something that only a host can run."""
    with pytest.raises(UnsupportedError) as error:
        import_model(model)
    assert "\n" not in str(error.value)
    return error.value


def weights(writer: ModelWriter, *shape: int) -> str:
    return writer.dequantize(writer.constant(RNG.integers(-128, 128, shape).astype(np.int8)), 0.01, np.int8(0))
