"""The digits example: its files, its accuracy, and the demo itself on a small accelerator."""

import json

import numpy as np
import pytest

from systolith import PRESETS
from systolith.compiler.pipeline import compile_model
from systolith.examples.digits import demo
from systolith.examples.digits.network import plain, residual
from systolith.sim.compare.outputs import check
from systolith.sim.reference import reference
from systolith.sim.run import run


@pytest.fixture(scope="module")
def digits():
    with np.load(demo.HERE / "digits_test.npz") as data:
        return data["image"], data["label"]


@pytest.mark.parametrize("kind", ["float", "int8"])
@pytest.mark.parametrize("name", demo.NETWORKS)
def test_accuracy_of_the_committed_models(digits, name, kind):
    x, labels = digits
    path = demo.HERE / f"{name}_{kind}.onnx"
    logits = reference.run(path.read_bytes(), {"image": x})["logits"]
    assert len(labels) == 360
    assert (logits.argmax(1) == labels).mean() > 0.98
    assert path.stat().st_size < 100_000


@pytest.mark.parametrize("name", demo.NETWORKS)
def test_same_bits_on_the_instruction_simulator(digits, name):
    x = digits[0][:20]
    program = compile_model(demo.HERE / f"{name}_int8.onnx", PRESETS["ecp5_8"], len(x))
    outputs, _ = run(program, {"image": x}, PRESETS["ecp5_8"], "isa")
    assert check(program, {"image": x}, outputs).passed


@pytest.mark.rtl
def test_demo_on_the_rtl(tmp_path, capsys):
    folder = tmp_path / "made"
    assert demo.main(PRESETS["tiny4"], 3, folder)
    out = capsys.readouterr().out
    assert out.count("bit mismatches: golden 0, ONNX Runtime 0") == 2
    assert all(part in out for part in ("int8, RTL", "cycles per image", str(folder), "conv3"))
    for name in demo.NETWORKS:
        report = json.loads((folder / f"{name}.json").read_text())
        assert report["mismatches"]["golden"] == 0
        assert (folder / f"{name}.slp").exists()
    assert (folder / "tiny4" / "tiny4.v").exists()


@pytest.mark.parametrize("build", [plain, residual])
def test_gradients_are_those_of_the_loss(build):
    """Along a random direction in each array of parameters, the loss changes as its gradient says."""
    rng = np.random.default_rng(3)
    network = build(rng)
    for bias in network.parameters()[1::2]:
        bias += rng.normal(0, 0.1, bias.shape)  # Sums of exactly 0 have no gradient.
    x, labels = rng.random((16, 1, 8, 8)).astype(np.float32), rng.integers(0, 10, 16)
    network.step(x, labels)
    for parameter, gradient in zip(network.parameters(), network.gradients(), strict=True):
        direction = gradient / np.linalg.norm(gradient)
        losses = []
        for step in (2e-3, -2e-3):
            parameter += step * direction
            losses.append(network.step(x, labels))
            parameter -= step * direction
        assert (losses[0] - losses[1]) / 4e-3 == pytest.approx(np.linalg.norm(gradient), rel=0.02)
