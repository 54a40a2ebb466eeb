"""The run protocol: backends against each other and ONNX Runtime, checks that find differences, files, wrong inputs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from systolith import PRESETS, SystolithError
from systolith.compiler.pipeline import compile_model
from systolith.program import Program
from systolith.sim.compare.outputs import check
from systolith.sim.host.files import load_inputs, save_outputs
from systolith.sim.report import layer_cycles
from systolith.sim.run import Options, run
from systolith.sim.stimulus.layers import KINDS, random_layer
from tests.support.seeds import each_seed, many

TINY = PRESETS["tiny4"]


def layer(seed: int = 8, kind: str = "qlinearconv") -> tuple[Program, dict[str, np.ndarray]]:
    model, inputs = random_layer(np.random.default_rng(seed), kind)
    return compile_model(model, TINY), inputs


@pytest.mark.parametrize("kind", KINDS)
def test_isa_equals_golden_and_onnxruntime(kind: str):
    for seed in each_seed(range(many(3))):
        program, inputs = layer(seed, kind)
        outputs, report = run(program, inputs, TINY, "isa", Options(seed=seed))
        result = check(program, inputs, outputs)
        assert result.passed, (seed, result)
        assert report["macs"] == sum(entry["macs"] for entry in report["layers"]) > 0
        assert report["dram_bytes"]["read"] >= len(program.code)
        assert report["cycles"] is None


def test_golden_backend_equals_isa():
    program, inputs = layer()
    expected, report = run(program, inputs, TINY, "golden")
    outputs, _ = run(program, inputs, TINY, "isa")
    assert report["backend"] == "golden"
    for name, values in expected.items():
        assert outputs[name].dtype == values.dtype
        assert np.array_equal(outputs[name], values)


def test_check_counts_every_difference():
    program, inputs = layer()
    outputs, _ = run(program, inputs, TINY, "golden")
    name = program.outputs[0].name
    wrong = outputs[name].copy()
    wrong.flat[0] ^= 1
    wrong.flat[-1] ^= 64
    result = check(program, inputs, {name: wrong})
    assert result.golden == 2
    assert result.onnxruntime in (2, None)
    assert not result.passed
    assert check(program, inputs, {name: wrong.astype(np.int32)}).golden == wrong.size


def test_isa_finds_a_changed_weight():
    program, inputs = layer()
    weights = bytearray(program.weights)
    weights[-1] ^= 0x55  # somewhere in the last tile's real channels or its padding
    weights[len(weights) // 2] ^= 0x55
    outputs, _ = run(replace(program, weights=bytes(weights)), inputs, TINY, "isa")
    assert not check(program, inputs, outputs).passed


def test_wrong_uses_are_refused():
    program, inputs = layer()
    name = program.inputs[0].name
    with pytest.raises(SystolithError, match="Backend must be one of golden, isa, rtl, cocotb, not 'fpga'"):
        run(program, inputs, TINY, "fpga")
    with pytest.raises(SystolithError, match="must be compiled for configuration 'ecp5_8'"):
        run(program, inputs, PRESETS["ecp5_8"], "isa")
    with pytest.raises(SystolithError, match="must have shape"):
        run(program, {name: inputs[name][..., :-1]}, TINY, "isa")
    with pytest.raises(SystolithError, match="Waves must come from backend rtl"):
        run(program, inputs, TINY, "isa", Options(waves=Path("x.vcd")))


def test_files_round_trip(tmp_path: Path):
    program, inputs = layer()
    name = program.inputs[0].name
    np.save(tmp_path / "x.npy", inputs[name])
    save_outputs(tmp_path / "x.npz", inputs)
    for file in ("x.npy", "x.npz"):
        loaded = load_inputs(tmp_path / file, program)
        assert np.array_equal(loaded[name], inputs[name])
    assert list(np.load(tmp_path / "x.npz")) == list(inputs)


def test_files_that_are_not_inputs(tmp_path: Path):
    program, inputs = layer()
    name = program.inputs[0].name
    cases = {
        "missing.npy": (None, "cannot be read"),
        "text.npy": (b"hello", "must be a .npy or .npz file"),
        "empty.npy": (b"", "must be a .npy or .npz file"),
        "cut.npz": (b"PK\x03\x04 and no more", "must be a .npy or .npz file"),
    }
    for file, (data, message) in cases.items():
        if data is not None:
            (tmp_path / file).write_bytes(data)
        with pytest.raises(SystolithError, match=f"{file}: .*{message}"):
            load_inputs(tmp_path / file, program)
    np.savez(tmp_path / "names.npz", other=inputs[name])
    with pytest.raises(SystolithError, match=r"names\.npz: Inputs must"):
        load_inputs(tmp_path / "names.npz", program)
    np.save(tmp_path / "object.npy", np.array([object()]), allow_pickle=True)
    with pytest.raises(SystolithError, match=r"must be a \.npy or .npz file of numbers"):
        load_inputs(tmp_path / "object.npy", program)
    np.save(tmp_path / "double.npy", inputs[name].astype(np.float64))
    with pytest.raises(SystolithError, match=r"double\.npy: Input .* must be .*, not float64"):
        load_inputs(tmp_path / "double.npy", program)


def test_outputs_are_written_whole_or_not_at_all(tmp_path: Path):
    save_outputs(tmp_path / "y.npz", {"file": np.arange(3), "a/b": np.float32(1)})
    assert {name: y.shape for name, y in np.load(tmp_path / "y.npz").items()} == {"a/b": (), "file": (3,)}
    with pytest.raises(SystolithError, match=r"must go to a \.npz file"):
        save_outputs(tmp_path / "y.npy", {})
    with pytest.raises(SystolithError, match="cannot be written"):
        save_outputs(tmp_path / "nowhere" / "y.npz", {})


def test_strings_and_sequences_are_written(tmp_path: Path):
    text = np.array([["a", "longer"]], object)
    save_outputs(tmp_path / "y.npz", {"text": text, "some": [np.arange(2), np.zeros((1, 3)), text], "none": []})
    found = np.load(tmp_path / "y.npz")
    assert {name: y.shape for name, y in found.items()} == {
        "text": (1, 2), "some[0]": (2,), "some[1]": (1, 3), "some[2]": (1, 2)}  # fmt: skip
    assert np.array_equal(found["text"], text) and np.array_equal(found["some[2]"], text)


def test_layer_cycles_sum_to_the_total():
    layers = [{"first": 0, "last": 1}, {"first": 2, "last": 4}, {"first": 5, "last": 5}]
    retired = np.array([3, 10, 8, 25, 30, 40])
    assert layer_cycles(layers, retired, 45) == [10, 20, 15]
    beside = [{"first": 0, "last": 3}, {"first": 1, "last": 2}, {"first": 4, "last": 5}]
    assert layer_cycles(beside, retired, 45) == [25, 0, 20]
    assert layer_cycles(layers, retired[:0], 45) == [None, None, None]
    assert layer_cycles([], retired, 45) == []
