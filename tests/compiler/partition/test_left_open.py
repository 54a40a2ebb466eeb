"""Inputs that only the host reads: their first dimension is no batch, and what runs may have any size there."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from systolith import PRESETS, SystolithError
from systolith.compiler import network as compiler
from systolith.compiler.network import compile_network
from systolith.errors import UnsupportedError
from systolith.network import Network, load, save
from systolith.program import Program
from systolith.sim.compare import whole_network
from systolith.sim.compare.outputs import check
from systolith.sim.run import run
from systolith.sim.stimulus.inputs import random_inputs
from tests.support.split_models import IMAGE, Net

TINY = PRESETS["tiny4"]


def beside(dims: list, x_dims: list | None = None, kind: int = TensorProto.FLOAT) -> Net:
    """Convolutions of x; the host negates u, and tells its shape."""
    net = Net()
    x = net.conv(net.small(net.input("x", np.float32, x_dims or IMAGE)))
    net.floats(net.conv(x), None)
    net.inputs.append(helper.make_tensor_value_info("u", kind, dims))
    net.output(net.node("Identity" if kind == TensorProto.STRING else "Neg", ["u"], name="neg"), kind_of(kind), None)
    net.output(net.node("Shape", ["u"], name="shape"), np.int64, None)
    return net


def kind_of(kind: int) -> type:
    return {TensorProto.FLOAT: np.float32, TensorProto.INT64: np.int64, TensorProto.STRING: object}[kind]


def shapes(network: Program | Network) -> dict[str, Any]:
    return {port.name: port.shape for port in network.inputs}


def passes(network: Program | Network, **given: np.ndarray) -> dict[str, np.ndarray]:
    """Outputs of a run with some inputs given, the others random; checked, and judged as a whole."""
    inputs = {**random_inputs(network, 1), **given}
    outputs, _ = run(network, inputs, TINY, "isa")
    assert check(network, inputs, outputs).passed
    assert whole_network.judge(network, inputs, outputs).passed
    golden, _ = run(network, inputs, TINY, "golden")
    assert all(np.array_equal(golden[name], values) for name, values in outputs.items())
    return outputs


@pytest.mark.parametrize("dims", [["a", "b"], ["k"], [None, 4], [-1, 4], ["a", 4, "a"]])
def test_any_size_at_run_time(dims, tmp_path: Path):
    """Also of a network that was stored."""
    network = compile_network(beside(dims).model(), TINY)
    save(network, tmp_path / "net.slp")
    for found in (network, load(tmp_path / "net.slp")):
        assert shapes(found)["u"][0] is None
        for size in (3, 1, 0):
            shape = [size, *(dim if isinstance(dim, int) else size for dim in dims[1:])]
            outputs = passes(found, u=np.ones(shape, np.float32))
            assert [values.tolist() for values in outputs.values()][-1] == shape


@pytest.mark.parametrize("kind", [TensorProto.INT64, TensorProto.STRING])
def test_of_any_type(kind):
    network = compile_network(beside(["k"], kind=kind).model(), TINY)
    passes(network, u=np.array([7, 8, 9]).astype("U" if kind == TensorProto.STRING else np.int64).astype(kind_of(kind)))


def test_an_input_that_nothing_reads():
    net = Net()
    net.floats(net.conv(net.image()), None)
    net.input("u", np.float32, ["n", 4])
    passes(compile_network(net.model(), TINY), u=np.ones((3, 4), np.float32))


def test_the_batch_is_of_what_the_accelerator_reads():
    """An input whose first dimension has the name of the batch has that size; one that has another name, or none, has
    any."""
    for name, size in (("n", 3), ("m", None), (None, None)):
        network = compile_network(beside([name, 4], ["n", *IMAGE[1:]]).model(), TINY, batch=3)
        assert shapes(network) == {"x": (3, *IMAGE[1:]), "u": (size, 4)}
        passes(network, u=np.ones((size or 5, 4), np.float32))


def test_an_accelerator_input_beside_one_of_a_fixed_size():
    """The accelerator reads both: the first dimension that is open is the batch."""
    net = Net()
    net.floats(net.conv(net.image()), None)
    net.floats(net.matmul(net.small(net.input("u", np.float32, ["n", 6])), 6), None)
    for batch in (1, 3):
        network = compile_network(net.model(), TINY, batch=batch)
        assert isinstance(network, Program) and shapes(network) == {"x": tuple(IMAGE), "u": (batch, 6)}
        passes(network)


def with_tokens() -> Net:
    """The accelerator multiplies rows that the host looks up."""
    net = beside(["k"])
    net.inputs.append(helper.make_tensor_value_info("tokens", TensorProto.INT64, ["n", 2]))
    rows = net.constant(net.rng.normal(size=(10, 6)).astype(np.float32))
    x = net.node("Reshape", [net.node("Gather", [rows, "tokens"]), net.constant(np.array([-1, 12]))])
    net.floats(net.matmul(net.small(x), 12), None)
    return net


def test_an_input_on_which_the_accelerator_depends():
    """It has the batch, so that no more nodes run on the host; another one is left open all the same."""
    network = compile_network(with_tokens().model(), TINY, batch=3)
    assert shapes(network) == {"x": tuple(IMAGE), "tokens": (3, 2), "u": (None,)}
    assert not {"MatMul", "Conv"}.intersection(node.op for node in network.host_nodes)
    passes(network, u=np.ones(5, np.float32))


def test_values_on_which_the_accelerator_depends():
    """Its shapes do not: the first dimension stays open."""
    net = Net()
    net.input("u", np.float32, ["k"])
    scaled = net.node("Mul", [net.input("x", np.float32, IMAGE), net.node("ReduceMax", ["u"], keepdims=0)])
    net.floats(net.conv(net.small(scaled)), None)
    network = compile_network(net.model(), TINY)
    assert shapes(network)["u"] == (None,)
    passes(network, u=np.array([0.5, 2, 1], np.float32))


def test_parts_are_compiled_once(monkeypatch):
    """Also if the back end refuses layers of them."""
    levels, models = compiler.compile_levels, []

    def picky(graph, config, model=b""):
        models.append(model)
        for layer in graph.layers[1:2]:
            raise UnsupportedError(f"layer '{layer.name}' is too large", layer.output)
        return levels(graph, config, model)

    monkeypatch.setattr(compiler, "compile_levels", picky)
    network = compile_network(beside(["a", 4]).model(), TINY)
    assert shapes(network)["u"] == (None, 4)
    assert len(models) == len(set(models)) == 2
    passes(network, u=np.ones((3, 4), np.float32))


def test_a_batch_that_the_model_does_not_take():
    """Nothing can be 1 here; the input that only the host can read has no batch then."""
    net = beside(["k"], kind=TensorProto.INT64)
    net.output(net.node("MatMulInteger", [net.node("Cast", ["u"], to=TensorProto.INT8),
                                          net.constant(np.ones((5, 2), np.int8))]), np.int32, None)  # fmt: skip
    network = compile_network(net.model(), TINY)
    assert shapes(network)["u"] == (None,)
    passes(network, u=np.arange(5))


def test_a_batch_that_nothing_takes():
    with pytest.raises(SystolithError) as error:
        compile_network(beside(["k"], kind=TensorProto.INT64).model(), TINY, batch=3)
    assert str(error.value) == ("model: batch must be 1, as the accelerator reads no input that leaves it open, not 3")


def test_random_inputs_have_the_batch():
    network = compile_network(beside(["m", 4], ["n", *IMAGE[1:]]).model(), TINY, batch=3)
    assert {name: values.shape for name, values in random_inputs(network, 1).items()} == {
        "x": (3, *IMAGE[1:]), "u": (3, 4)
    }  # fmt: skip


def test_random_inputs_that_are_too_large():
    network = compile_network(beside(["m", 1 << 24], ["n", *IMAGE[1:]], TensorProto.INT64).model(), TINY, batch=3)
    with pytest.raises(SystolithError) as error:
        random_inputs(network, 1)
    assert str(error.value) == (
        f"Inputs must have at most {1 << 25} elements together to be drawn at random, not {3 * (1 << 24) + 3 * 144}"
    )
