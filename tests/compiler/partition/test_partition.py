"""Networks between accelerator and host: which part runs what, that the parts compute the whole, refusals."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from systolith import PRESETS, SystolithError
from systolith.compiler import network as compiler
from systolith.compiler.network import compile_network
from systolith.compiler.partition import partition as partitions
from systolith.compiler.plan import tiling
from systolith.errors import UnsupportedError
from systolith.network import HostPart, Network
from systolith.program import Program
from systolith.sim.compare.outputs import check
from systolith.sim.reference import reference
from systolith.sim.run import run
from systolith.sim.stimulus.inputs import random_inputs
from tests.support.seeds import each_seed, many
from tests.support.split_models import CHANNELS, IMAGE, MODELS, SIZE, Net, layernorms

TINY = PRESETS["tiny4"]


def sides(network: Program | Network) -> str:
    if isinstance(network, Program):
        return "A"
    return "".join("H" if isinstance(part, HostPart) else "A" for part in network.parts)


@pytest.mark.parametrize("name", MODELS)
def test_parts_compute_the_whole(name):
    make, expected = MODELS[name]
    model = make().model(name)
    network = compile_network(model, TINY)
    assert sides(network) == expected
    for part in network.parts:
        if all(port.shape is not None for port in part.outputs):  # The checker wants a rank.
            onnx.checker.check_model(part.model, full_check=True)
        assert isinstance(part, Program) or part.nodes
    for seed in each_seed(range(many(3))):
        inputs = random_inputs(network, seed)
        outputs, report = run(network, inputs, TINY, "isa")
        theirs = reference.run(model, inputs)
        assert list(outputs) == list(theirs)
        assert [(port.name, port.shape, port.dtype) for port in network.outputs] == [
            (key, _known(name, value), value.dtype.name) for key, value in theirs.items()
        ]
        found = check(network, inputs, outputs)
        assert found.passed, (seed, found)
        assert report["macs"] == sum(layer["macs"] for part in network.programs for layer in part.meta["layers"]) > 0
        assert report["dram_bytes"]["read"] > 0
        assert len(report["host"]) == len(network.host_nodes)


def _known(name: str, value: np.ndarray) -> tuple[int | None, ...] | None:
    """The shape of an output that is known before the network runs."""
    if name in ("loop", "sequence"):
        return None
    return (4, None) if name == "found" and value.dtype == np.int64 else value.shape


@pytest.mark.parametrize("name", ["end", "middle", "passing"])
def test_golden_equals_onnxruntime_where_it_is_exact(name):
    """Nothing here is computed in float32 on the accelerator, so the outputs are ONNX Runtime's to the bit."""
    model = MODELS[name][0]().model(name)
    network = compile_network(model, TINY)
    inputs = random_inputs(network, 5)
    outputs, _ = run(network, inputs, TINY, "golden")
    for key, value in reference.run(model, inputs).items():
        assert np.array_equal(outputs[key], value)


def test_a_wrong_part_is_found():
    """A network whose parts do not compute what the whole does differs from ONNX Runtime."""
    good, other = (compile_network(MODELS["middle"][0]().model(), TINY) for _ in range(2))
    assert isinstance(good, Network)
    assert isinstance(other, Network)
    inputs = random_inputs(good, 1)
    outputs, _ = run(good, inputs, TINY, "isa")
    name, values = next(iter(outputs.items()))
    values.flat[0] += 0.05
    found = check(good, inputs, {name: values})
    assert (found.golden, found.passed) == (1, False)


def test_reasons():
    network = compile_network(MODELS["branches"][0]().model(), TINY)
    assert isinstance(network, Network)
    reasons = {(node.op, node.reason) for node in network.host_nodes}
    assert ("Softmax", "operator Softmax is not supported") in reasons
    assert any(op == "QuantizeLinear" and "which is not quantized, with Softmax" in why for op, why in reasons)


def test_strict_lists_the_nodes_in_one_line():
    with pytest.raises(
        SystolithError, match=r"all nodes must run on the accelerator, and 4 cannot: Softmax '"
    ) as error:
        compile_network(MODELS["middle"][0]().model(), TINY, strict=True)
    assert "\n" not in str(error.value)
    assert isinstance(compile_network(plain(), TINY, strict=True), Program)


def test_strict_refuses_before_it_compiles(monkeypatch):
    def nothing(*_):
        raise AssertionError("no part must be compiled")

    monkeypatch.setattr(compiler, "compile_levels", nothing)
    with pytest.raises(SystolithError, match=r"and 24 cannot: .*; and 16 more$"):
        compile_network(layernorms(12).model(), TINY, strict=True)


def test_without_host_parts_it_is_a_program():
    assert isinstance(compile_network(plain(), TINY), Program)


def test_macs_of_the_host():
    """A Conv without a quantized result runs on the host, and counts there."""
    net = Net()
    x = net.conv(net.image())
    weights = net.dequantize(net.constant(np.ones((2, 4, 1, 1), np.int8)), 0.01, np.int8(0))
    net.output(net.node("Conv", [net.real(x), weights], name="float"), np.float32, [1, 2, 6, 6])
    network = compile_network(net.model(), TINY)
    assert sides(network) == "AH"
    assert [(node.op, node.name, node.macs) for node in network.host_nodes] == [("Conv", "float", 2 * 4 * 36)]


@pytest.mark.parametrize("more", ["", ":1:0:channels", ".rows0'"])
def test_the_back_end_may_refuse_as_well(more, monkeypatch):
    """A layer that the back end refuses moves to the host, with what shares float32 tensors with it; also if its output
    is something that was made for a node."""
    levels = compiler.compile_levels

    def picky(graph, config, model=b""):
        for layer in graph.layers[1:2]:
            raise UnsupportedError(f"layer '{layer.name}' is too large", layer.output + more)
        return levels(graph, config, model)

    monkeypatch.setattr(compiler, "compile_levels", picky)
    network = compile_network(plain(), TINY)
    assert sides(network) == "AHA"
    assert {node.op for node in network.host_nodes} == {"Conv", "QuantizeLinear"}
    assert any("is too large" in node.reason for node in network.host_nodes)
    inputs = random_inputs(network, 2)
    outputs, _ = run(network, inputs, TINY, "isa")
    assert check(network, inputs, outputs).passed


def test_the_back_end_may_refuse_what_a_pass_made(monkeypatch):
    """The first of two steps of the pool, which a node of the model stands for."""
    net = Net()
    x = net.conv(net.small(net.input("x", np.float32, [1, 4, 33, 31])))
    x = net.small(net.node("MaxPool", [net.real(x)], kernel_shape=[3, 3], strides=[2, 2]))
    net.floats(net.conv(x), [1, 4, 16, 15])
    assert sides(compile_network(net.model(), TINY)) == "A"
    monkeypatch.setattr(tiling, "MAX_STEPS", 20)
    network = compile_network(net.model(), TINY)
    assert sides(network) == "HA"
    assert "MaxPool" in {node.op for node in network.host_nodes}


@pytest.fixture
def calls(monkeypatch) -> list:
    """The imports of the partition."""
    found = []
    imports = partitions.import_model

    def counted(*arguments, **more):
        found.append(arguments)
        return imports(*arguments, **more)

    monkeypatch.setattr(partitions, "import_model", counted)
    return found


def test_imports_do_not_grow_with_the_nodes_on_the_host(calls):
    network = compile_network(layernorms(12).model(), TINY)
    assert sides(network) == "AH" * 12 + "A"
    assert len(calls) <= 2 * 13


def test_imports_do_not_grow_with_the_nodes_that_are_refused(calls):
    """Nodes that the front end knows, and refuses as they are: one walk finds them all."""
    net = Net()
    x = net.image()
    for _ in range(6):
        slopes = net.constant(net.rng.uniform(0.1, 1, (1, CHANNELS, SIZE, SIZE)).astype(np.float32))
        x = net.small(net.node("Mul", [net.real(net.conv(x)), slopes]))
    net.floats(net.conv(x), IMAGE)
    network = compile_network(net.model(), TINY)
    assert sides(network) == "AH" * 6 + "A"
    assert len(calls) == 1 + 7
    inputs = random_inputs(network, 4)
    outputs, _ = run(network, inputs, TINY, "isa")
    assert check(network, inputs, outputs).passed


def test_a_batch_left_open():
    net = Net()
    x = net.conv(net.small(net.input("x", np.float32, ["batch", *IMAGE[1:]])))
    net.output(net.node("Softmax", [net.real(x)], axis=1), np.float32, ["batch", *IMAGE[1:]])
    model = net.model()
    network = compile_network(model, TINY, batch=3)
    assert network.inputs[0].shape == (3, *IMAGE[1:])
    inputs = random_inputs(network, 4)
    outputs, _ = run(network, inputs, TINY, "isa")
    assert check(network, inputs, outputs).passed


def test_input_for_the_host_alone():
    """An input of a type that the accelerator does not know: token numbers."""
    net = Net()
    net.inputs.append(helper.make_tensor_value_info("tokens", TensorProto.INT64, [6]))
    rows = net.constant(net.rng.normal(size=(10, 8)).astype(np.float32))
    x = net.small(net.node("Gather", [rows, "tokens"]))
    net.floats(net.matmul(x, 8), [6, 8])
    network = compile_network(net.model(), TINY)
    assert sides(network) == "HA"
    inputs = random_inputs(network, 3)
    outputs, _ = run(network, inputs, TINY, "isa")
    assert check(network, inputs, outputs).passed


def test_inputs_that_no_array_holds():
    net = Net()
    net.floats(net.conv(net.image()), IMAGE)
    net.inputs.append(helper.make_tensor_value_info("text", TensorProto.UINT2, [1]))
    with pytest.raises(
        SystolithError, match=r"^net.onnx: tensor 'text' must be of integers, bool, float16, .* to be an"
    ):
        partitions.Partition(net.model(), "net.onnx").signatures(["text"])
    with pytest.raises(SystolithError, match="tensor 'text' must be of integers"):
        compile_network(net.model(), TINY)


@pytest.mark.parametrize(("kind", "name"), [(TensorProto.INT8, "int8"), (TensorProto.FLOAT16, "float16"), (99, "99")])
def test_an_output_is_of_its_type(kind, name):
    """ONNX Runtime would refuse the whole, but not its parts."""
    net = MODELS["end"][0]()
    net.outputs[0].type.tensor_type.elem_type = kind
    with pytest.raises(
        SystolithError,
        match=rf"^model: .*; no host can run it: output '.*' must be float32, as it is computed, not {name}$",
    ):
        compile_network(net.model(), TINY)


def test_zero_points_of_the_host():
    """As many as the scales: with fewer ONNX Runtime reads what is not there, and may crash."""
    net = Net()
    y = net.dequantize(net.host(net.conv(net.image())), 0.1, np.zeros(0, np.int8))
    net.output(net.node("Softmax", [y], axis=1), np.float32, IMAGE)
    with pytest.raises(
        SystolithError, match=r"DequantizeLinear '.*': zero points must be as many as the scales, 1, not 0"
    ):
        compile_network(net.model(), TINY)


def test_refusals_print_nothing(capfd):
    """An attribute that is no text, in a message of ONNX Runtime."""
    net = Net()
    x = net.node("Softmax", [net.real(net.conv(net.image()))], axis=1)
    sizes = net.constant(np.array([1, 1, 2, 2], np.float32))
    net.output(net.node("Resize", [x, "", sizes], mode=b"\xff"), np.float32, [1, 4, 12, 12])
    model = net.model()
    with pytest.raises(SystolithError, match="ONNX Runtime refuses the model"):
        compile_network(model, TINY)
    with pytest.raises(SystolithError, match="ONNX Runtime refuses the model"):
        reference.session(model)
    assert capfd.readouterr() == ("", "")


def test_nothing_for_the_accelerator_is_refused():
    net = Net()
    net.output(net.node("Softmax", [net.input("x", np.float32, [2, 3])]), np.float32, [2, 3])
    with pytest.raises(SystolithError, match=r"nothing of it can run on the accelerator; Softmax '.*': operator"):
        compile_network(net.model(), TINY)
    net = Net()
    x = net.real(net.input("x", np.int8, [1, 4, 300, 1]))
    net.output(net.small(net.node("GlobalAveragePool", [x])), np.int8, [1, 4, 1, 1])
    with pytest.raises(SystolithError, match=r"QuantizeLinear '.*': Layer '.*' must have a window of up to 255 x 255"):
        compile_network(net.model(), TINY)


def test_bad_input_is_refused_as_before():
    net = Net()
    net.output(net.node("Frobnicate", [net.conv(net.image())], domain="my.domain"), np.float32, IMAGE)
    with pytest.raises(SystolithError, match="Frobnicate"):
        compile_network(net.model(), TINY)


def plain() -> bytes:
    """Three convolutions."""
    net = Net()
    net.floats(net.conv(net.conv(net.conv(net.image()))), IMAGE)
    return net.model()


def test_what_a_configuration_has_no_room_for_runs_on_the_host():
    """A window of more pixels than tiny4's activation SRAM holds; edge16 runs it."""
    net = Net()
    x = net.small(net.input("x", np.float32, [1, 4, 40, 40]))
    x = net.small(net.node("GlobalAveragePool", [net.real(net.conv(x))]))
    net.floats(net.conv(x), [1, 4, 1, 1])
    model = net.model()
    assert sides(compile_network(model, PRESETS["edge16"])) == "A"
    network = compile_network(model, TINY)
    assert sides(network) == "AHA"
    assert [node.op for node in network.host_nodes] == ["GlobalAveragePool", "QuantizeLinear"]
    inputs = random_inputs(network, 1)
    outputs, _ = run(network, inputs, TINY, "isa")
    assert check(network, inputs, outputs).passed
    with pytest.raises(SystolithError, match="all nodes must run on the accelerator, and 2 cannot: GlobalAveragePool"):
        compile_network(model, TINY, strict=True)


def test_an_input_of_any_length_for_the_host_alone():
    """Token numbers, as many as there are: only the rows that they choose are summed."""
    net = Net()
    net.inputs.append(helper.make_tensor_value_info("tokens", TensorProto.INT64, [1, "length"]))
    rows = net.constant(net.rng.normal(size=(10, 8)).astype(np.float32))
    total = net.node("ReduceSum", [net.node("Gather", [rows, "tokens"]), net.constant(np.array([1], np.int64))],
                     keepdims=0)  # fmt: skip
    net.floats(net.matmul(net.small(total), 8), [1, 8])
    network = compile_network(net.model(), TINY)
    assert sides(network) == "HA"
    assert network.inputs[0].shape == (1, None)
    for length in (1, 5):
        inputs = {"tokens": np.arange(length).reshape(1, -1)}
        outputs, _ = run(network, inputs, TINY, "isa")
        assert check(network, inputs, outputs).passed
    with pytest.raises(SystolithError, match=r"Input 'tokens' must have shape \(1, \?\), not \(2, 1\)"):
        run(network, {"tokens": np.zeros((2, 1), np.int64)}, TINY, "isa")
