"""Whole networks: the four MLPerf Tiny topologies on the accelerator's RTL, ImageNet topologies on its instructions."""

from math import prod

import numpy as np
import onnx
import pytest

from systolith import PRESETS
from systolith.benchmarks import suite
from systolith.benchmarks.networks import SUITES, quantized, tiny, zoo
from systolith.compiler.network import compile_network
from systolith.compiler.order.timeline import estimate
from systolith.config import Config
from systolith.errors import SystolithError
from systolith.isa import decode_program
from systolith.network import Network

EDGE = PRESETS["edge16"]
MACS = {"resnet8": 12_501_632, "ds_cnn": 2_656_768, "mobilenet": 7_489_664, "autoencoder": 264_192}
"""As the benchmark's reference models have them."""
CYCLES = {
    "edge16": {"resnet8": 52_140, "ds_cnn": 30_020, "mobilenet": 98_832, "autoencoder": 18_270},
    "edge16_dw": {"ds_cnn": 11_390, "mobilenet": 44_465},
}
"""Of the RTL with the standard memory, at most."""


def check_cycles(model: bytes, cycles: int, most: int, config: Config) -> None:
    """Not slower than it was, and what the compiler's timeline says."""
    assert cycles <= 1.005 * most
    network = compile_network(model, config)
    programs = network.programs if isinstance(network, Network) else (network,)
    found = sum(estimate(list(decode_program(program.code)), config).cycles for program in programs)
    assert abs(found / cycles - 1) < 0.03, found


@pytest.mark.rtl
@pytest.mark.parametrize("name", SUITES["tiny"])
def test_tiny_networks_on_the_rtl(name):
    """No bit differs, all of the work is the accelerator's, and no activation leaves it between layers."""
    result = suite.measure(name, quantized("tiny", name), EDGE, "rtl")
    assert (result.found.golden, result.found.onnxruntime, result.found.rounding) == (0, 0, 0)
    assert result.share == 1
    assert result.report["macs"] == MACS[name]
    traffic = result.traffic
    assert traffic.scratch == 0
    assert result.report["dram_bytes"]["written"] == traffic.outputs
    # Beyond instructions, weights, input and output: rows of the input that two tiles need, and beats not filled.
    assert 0 <= traffic.rest < 0.1 * traffic.moved
    check_cycles(quantized("tiny", name), result.report["cycles"], CYCLES["edge16"][name], EDGE)


@pytest.mark.rtl
@pytest.mark.parametrize("name", CYCLES["edge16_dw"])
def test_depthwise_layers_beside_the_array(name):
    config = PRESETS["edge16_dw"]
    result = suite.measure(name, quantized("tiny", name), config, "rtl")
    assert result.found.passed
    check_cycles(quantized("tiny", name), result.report["cycles"], CYCLES["edge16_dw"][name], config)


@pytest.mark.rtl
def test_imagenet_network_on_the_rtl():
    """Above 90 %: the maxima over windows that overlap are made on the way out of the accumulators."""
    model = quantized("zoo", "squeezenet")
    result = suite.measure("squeezenet", model, EDGE, "rtl")
    assert (result.found.golden, result.found.onnxruntime, result.share) == (0, 0, 1)
    check_cycles(model, result.report["cycles"], 1_481_725, EDGE)
    assert result.report["utilization"] > 0.9


@pytest.mark.slow
def test_imagenet_network_on_its_instructions():
    result = suite.measure("shufflenet", quantized("zoo", "shufflenet"), EDGE, "isa")
    assert (result.found.golden, result.found.onnxruntime, result.share) == (0, 0, 1)


def test_all_nine_topologies_are_there():
    assert len(SUITES["zoo"]) == 9
    assert set(SUITES["tiny"]) == set(tiny.NETWORKS)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet50", "densenet121", "inception_v2"])
def test_weights_keep_activations_alive(name):
    """Random weights, but the outputs of 1000 classes differ, and normalizations have the variance of their inputs."""
    model = zoo.float_model(name)
    variances = {n.input[4] for n in model.graph.node if n.op_type == "BatchNormalization"}
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer if t.name in variances}
    assert stored and all((values > 0).all() and np.isfinite(values).all() for values in stored.values())
    assert not any(np.allclose(values, 1) for values in stored.values())


def test_the_same_bits_each_time():
    first, second = (tiny.float_model("ds_cnn") for _ in range(2))
    assert first.SerializeToString() == second.SerializeToString()
    samples = tiny.calibration(first)[first.graph.input[0].name]
    assert prod(samples.shape[1:]) == 49 * 10


def test_suite_prints_tables(capsys):
    assert suite.main("tiny", EDGE, "isa", ["autoencoder"])
    out = capsys.readouterr().out
    assert "autoencoder" in out and "264,192" in out and "0 / 0 / 0" in out and "scratch" in out


def test_unknown_names_are_refused():
    with pytest.raises(SystolithError, match="Suite must be one of layers, tiny, zoo, not 'large'"):
        suite.main("large", EDGE, "isa")
    with pytest.raises(SystolithError, match=r"Network must be one of resnet8, .*, not 'lenet'"):
        suite.main("tiny", EDGE, "isa", ["lenet"])


def test_a_difference_is_shown(monkeypatch, capsys):
    """A wrong bit in the outputs makes the suite fail."""
    original = suite.run

    def wrong(*arguments):
        outputs, report = original(*arguments)
        return {name: -values - 1 for name, values in outputs.items()}, report

    monkeypatch.setattr(suite, "run", wrong)
    assert not suite.main("tiny", EDGE, "isa", ["autoencoder"])
    assert "640 / " in capsys.readouterr().out
