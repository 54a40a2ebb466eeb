"""The check sees what is wrong around the accelerator, and calls nothing wrong that is right."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from systolith import PRESETS, SystolithError
from systolith.compiler.network import compile_network
from systolith.network import HostPart, Network
from systolith.program import Program
from systolith.sim.compare import outputs as checks
from systolith.sim.compare.outputs import Check, check
from systolith.sim.reference import reference
from systolith.sim.run import run
from systolith.sim.stimulus.inputs import random_inputs
from tests.support.split_models import IMAGE, Net

pytestmark = pytest.mark.skipif(reference.saturates(), reason="ONNX Runtime saturates at 16 bits on this processor")

TINY = PRESETS["tiny4"]


def mixed() -> bytes:
    """Convolutions around an InstanceNormalization, and a Softmax at the end: A H A H."""
    net = Net()
    x = net.real(net.conv(net.conv(net.image())))
    scale, bias = (net.constant(np.array(v, np.float32), "norm") for v in ([1, 2, 0.5, 1], [0.1, 0, 0.2, 0]))
    y = net.conv(net.small(net.node("InstanceNormalization", [x, scale, bias])))
    net.output(net.node("Softmax", [net.real(net.conv(y))], axis=1), np.float32, IMAGE)
    net.output(net.real(y), np.float32, IMAGE)
    return net.model()


def checked(network: Program | Network, seed: int = 1) -> Check:
    """Of a network that is run as it is, wrong or right."""
    inputs = random_inputs(network, seed)
    outputs, _ = run(network, inputs, TINY, "isa")
    return check(network, inputs, outputs)


def altered(network: Program | Network, index: int, change: Callable[[ModelProto], None]) -> Network:
    """The network with another model in the host's part `index`."""
    assert isinstance(network, Network)
    hosts = [part for part in network.parts if isinstance(part, HostPart)]
    model = ModelProto.FromString(hosts[index].model)
    change(model)
    other = replace(hosts[index], model=model.SerializeToString())
    return replace(network, parts=tuple(other if part is hosts[index] else part for part in network.parts))


def constant_changed(model: ModelProto) -> None:
    tensor = next(tensor for tensor in model.graph.initializer if "norm" in tensor.name)
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + np.float32(0.3), tensor.name))


def attribute_dropped(model: ModelProto) -> None:
    node = next(node for node in model.graph.node if node.op_type == "Softmax")
    del node.attribute[:]


def operator_changed(model: ModelProto) -> None:
    next(node for node in model.graph.node if node.op_type == "Softmax").op_type = "LogSoftmax"


@pytest.mark.parametrize(("part", "change"), [(0, constant_changed), (1, attribute_dropped), (1, operator_changed)])
def test_a_wrong_host_part_is_seen(part, change):
    network = compile_network(mixed(), TINY)
    right = checked(network)
    assert (right.passed, right.host) == (True, 0)
    found = checked(altered(network, part, change))
    assert found.host > 0
    assert not found.passed
    assert any("differ from the whole model's" in note for note in found.notes)


def test_a_host_part_that_does_not_run_is_seen():
    network = compile_network(mixed(), TINY)
    inputs = random_inputs(network, 1)
    outputs, _ = run(network, inputs, TINY, "isa")

    def nothing(model: ModelProto) -> None:
        del model.graph.node[-1].input[:]

    # Golden refuses it as well, in its own way.
    with pytest.raises(ValueError, match="ONNX Runtime refuses the model"):
        check(altered(network, 1, nothing), inputs, outputs)


def test_a_part_that_is_wired_wrong_is_seen():
    """The second program reads what the first one makes, not what the host makes of it."""
    network = compile_network(mixed(), TINY)
    assert isinstance(network, Network)
    first, second = network.programs
    other = replace(second, inputs=(replace(second.inputs[0], name=first.outputs[0].name),))
    model = ModelProto.FromString(second.model)
    for node in model.graph.node:
        node.input[:] = [first.outputs[0].name if n == second.inputs[0].name else n for n in node.input]
    model.graph.input[0].name = first.outputs[0].name
    other = replace(other, model=model.SerializeToString())
    found = checked(replace(network, parts=tuple(other if part is second else part for part in network.parts)))
    assert not found.passed
    assert found.onnxruntime


def test_an_output_dequantized_wrong_is_seen():
    network = compile_network(mixed(), TINY)
    assert isinstance(network, Network)
    second = network.programs[1]
    outputs = tuple(replace(port, scale=0.06) if port.dtype == "float32" else port for port in second.outputs)
    assert outputs != second.outputs
    other = replace(second, outputs=outputs)
    found = checked(replace(network, parts=tuple(other if part is second else part for part in network.parts)))
    assert not found.passed


def test_values_that_were_changed_on_the_way_are_seen(monkeypatch):
    """What is wrong in the run alone: golden has other values."""
    network = compile_network(mixed(), TINY)
    inputs = random_inputs(network, 1)
    outputs, _ = run(network, {"x": -inputs["x"]}, TINY, "isa")
    found = check(network, inputs, outputs)
    assert found.golden > 0
    assert found.host == 0
    assert not found.passed


def test_a_product_that_onnxruntime_makes_a_float_of():
    """A MatMul and a float32 Sub behind it: it rounds MatMulIntegerToFloat, and may be a step off."""
    net = Net(3)
    x = net.dequantize(net.quantize(net.input("x", np.float32, [4, 64, 8]), 0.05, np.int8(0)), 0.05, np.int8(0))
    weights = net.constant(net.rng.integers(-127, 128, (8, 8)).astype(np.int8), "weights")
    scales = np.linspace(0.004, 0.02, 8).astype(np.float32)
    y = net.node("MatMul", [x, net.dequantize(weights, scales, np.zeros(8, np.int8), axis=1)])
    bias = net.constant(net.rng.normal(size=8).astype(np.float32))
    y = net.dequantize(net.quantize(net.node("Sub", [y, bias]), 0.2, np.int8(0)), 0.2, np.int8(0))
    net.output(y, np.float32, [4, 64, 8])
    network = compile_network(net.model(), TINY)
    assert reference.float_operators(net.model()) == ["MatMulIntegerToFloat", "Sub"]
    found = [checked(network, seed) for seed in range(12)]
    assert all(each.passed for each in found)
    assert sum(each.rounding for each in found)


def test_a_fused_kernel_that_overflows():
    """QLinearMul of scales whose quotient is large: ONNX Runtime's own unoptimized run agrees with ours."""
    net = Net()
    a, b = (
        net.dequantize(net.quantize(net.input(n, np.float32, IMAGE), 1.0, np.int8(0)), 1.0, np.int8(0)) for n in "ab"
    )
    net.output(net.quantize(net.node("Mul", [a, b]), 1e-9, np.int8(0)), np.int8, IMAGE)
    found = checked(compile_network(net.model(), TINY))
    assert found.passed
    assert any("its own unoptimized run agrees" in note for note in found.notes)


def test_a_model_that_the_fused_kernels_refuse():
    """An input with a scale for each channel, which ONNX allows: only unoptimized ONNX Runtime runs it."""
    net = Net()
    x = net.conv(net.image())
    scales = net.constant(np.array([0.05, 0.06, 0.07, 0.08], np.float32), "scales")
    zeros = net.constant(np.zeros(4, np.int8), "zeros")
    small = net.node("QuantizeLinear", [net.real(x), scales, zeros], axis=1)
    real = net.node("DequantizeLinear", [small, scales, zeros], axis=1)
    weights = net.dequantize(net.constant(np.full((4, 4, 1, 1), 9, np.int8), "weights"), 0.01, np.int8(0))
    net.floats(net.conv(net.small(net.node("Conv", [real, weights]))), IMAGE)
    model = net.model()
    network = compile_network(model, TINY)
    assert checked(network).passed
    with pytest.raises(ValueError, match="ONNX Runtime refuses the model"):
        reference.run(model, random_inputs(network, 1))


def test_a_pool_that_the_fused_kernels_do_not_know():
    """QLinearAveragePool has no dilations: ONNX Runtime refuses its own fusion."""
    net = Net(opset=19)
    pool = {"kernel_shape": [2, 2], "dilations": [2, 2]}
    net.floats(net.small(net.node("AveragePool", [net.real(net.conv(net.image()))], **pool)), [1, 4, 4, 4])
    model = net.model()
    network = compile_network(model, TINY)
    with pytest.raises(ValueError, match="ONNX Runtime refuses the model"):
        reference.run(model, random_inputs(network, 1))
    found = checked(network)
    assert (found.passed, found.onnxruntime) == (True, 0)


def test_sequences_are_compared():
    net = Net()
    x = net.real(net.conv(net.image()))
    pieces = net.node("SplitToSequence", [x, net.constant(np.array([1, 3], np.int64))], axis=1)
    net.outputs.append(helper.make_tensor_sequence_value_info(pieces, TensorProto.FLOAT, None))
    network = compile_network(net.model(), TINY)
    inputs = random_inputs(network, 1)
    outputs, _ = run(network, inputs, TINY, "isa")
    assert check(network, inputs, outputs).passed
    assert [y.shape for y in outputs[pieces]] == [(1, 1, 6, 6), (1, 3, 6, 6)]
    for wrong in (outputs[pieces][::-1], [outputs[pieces][0], outputs[pieces][1] + 1]):
        assert not check(network, inputs, {pieces: wrong}).passed


def test_a_host_part_that_ends_onnxruntime_is_named():
    """InstanceNormalization of nothing: the Slice has its bounds from an input."""
    net = Net()
    x = net.real(net.conv(net.image()))
    net.inputs.append(helper.make_tensor_value_info("end", TensorProto.INT64, [1]))
    bounds = [net.constant(np.array([value], np.int64)) for value in (0, 3)]
    y = net.node("Slice", [x, bounds[0], "end", bounds[1]])
    norm = [net.constant(np.full(4, value, np.float32)) for value in (1, 0)]
    net.output(net.node("InstanceNormalization", [y, *norm], name="norm"), np.float32, None)
    network = compile_network(net.model(), TINY)
    inputs = random_inputs(network, 1)
    run(network, {**inputs, "end": np.array([2])}, TINY, "isa")
    with pytest.raises(SystolithError, match=r"^Host part of Slice '.*', Inst.* 'norm': ONNX Runtime .* ends with SIG"):
        run(network, {**inputs, "end": np.array([0])}, TINY, "isa")


def test_a_wrong_layer_is_seen_where_there_is_no_second_opinion(monkeypatch):
    """ONNX Runtime's kernels refute it, and its unoptimized run refuses the model."""
    network = compile_network(mixed(), TINY)
    right = reference.run

    def without(model, inputs, level="all"):
        if level == "none" and len(reference.session(model, "none").outputs) > 4:
            raise SystolithError("ONNX Runtime refuses the model: it is in a bad mood")
        return right(model, inputs, level)

    def wrong(*arguments):
        return [replace(layer, differing=3, largest=2) for layer in compare(*arguments)]

    compare = checks.compare
    monkeypatch.setattr(reference, "run", without)
    assert checked(network).passed
    monkeypatch.setattr(checks, "compare", wrong)
    found = checked(network)
    assert found.onnxruntime
    assert not found.passed
    assert any("decides nothing" in note for note in found.notes)


def test_random_numbers_are_drawn_twice():
    """What the host draws is not compared, wherever the node is; nor is it called wrong. What drops nothing is."""
    for training in (True, False):
        for inside in (False, True):
            net = Net(opset=21)
            x = net.real(net.conv(net.image()))
            ratio, mode = net.constant(np.float32(0.5)), net.constant(np.array(training), "mode")
            if inside:
                mode = net.node("Constant", [], value=numpy_helper.from_array(np.array(training)))
            if inside:
                body = helper.make_node("Dropout", ["inner", ratio, mode], ["dropped"])
                same = helper.make_node("Identity", [x], ["inner"])
                branch = helper.make_graph([same, body], "body", [], [helper.make_empty_tensor_value_info("dropped")])
                yes = net.constant(np.array(True), "yes")
                y = net.node("If", [yes], then_branch=branch, else_branch=branch)
            else:
                y = net.node("Dropout", [net.node("Softplus", [x]), ratio, mode])
            net.output(y, np.float32, IMAGE)
            network = compile_network(net.model(), TINY)
            found = checked(network)
            assert found.passed
            assert any("draws random numbers" in note for note in found.notes) == training


def test_nan_that_only_the_host_reads():
    """It is a number like any other there; the accelerator has none."""
    net = Net()
    x, mask = net.image(), net.input("mask", np.float32, IMAGE)
    y = net.real(net.conv(x))
    net.output(net.node("Where", [net.node("IsNaN", [mask]), y, net.node("Neg", [y])]), np.float32, IMAGE)
    network = compile_network(net.model(), TINY)
    inputs = {**random_inputs(network, 1), "mask": np.full(IMAGE, np.nan, np.float32)}
    outputs, _ = run(network, inputs, TINY, "isa")
    assert check(network, inputs, outputs).passed
    for backend in ("isa", "golden"):
        with pytest.raises(SystolithError, match=r"^Input 'x' must be numbers; it has NaN$"):
            run(network, {**inputs, "x": np.full(IMAGE, np.nan, np.float32)}, TINY, backend)


def test_a_host_part_that_does_not_end(monkeypatch):
    net = Net()
    x = net.real(net.conv(net.image()))
    port = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Tanh", ["state"], ["next"])],
        "body",
        [port("i", TensorProto.INT64, []), port("go", TensorProto.BOOL, []), port("state", TensorProto.FLOAT, IMAGE)],
        [port("on", TensorProto.BOOL, []), port("next", TensorProto.FLOAT, IMAGE)],
    )
    loop = net.node("Loop", [net.constant(np.int64(1 << 40)), net.constant(np.array(True)), x], body=body)
    net.output(loop, np.float32, IMAGE)
    network = compile_network(net.model(), TINY)
    monkeypatch.setattr(reference, "SECONDS", 0.5)
    with pytest.raises(SystolithError, match=r"^Host part of Loop .*: it takes more than 0.5 seconds$"):
        run(network, random_inputs(network, 1), TINY, "isa")
