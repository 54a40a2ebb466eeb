"""The command line: what commands write; bad input is one line and exit code 2, with existing files as they were."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from systolith import PRESETS, SystolithError, isa, network
from systolith.cli import app
from systolith.compiler.show import LEVELS
from systolith.sim.fuzz.program_parts import joined_program, sections
from tests.support.split_models import MODELS

TINY = PRESETS["tiny4"]


@pytest.fixture
def systolith(monkeypatch, capsys):
    """Runs the command line in this process: exit code, stdout, stderr."""

    def call(*arguments) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["systolith", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            app.main()
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err

    return call


def model(op: str = "QLinearConv", shape=(1, 3, 6, 5), w_zero: int = 0, **attributes) -> onnx.ModelProto:
    """One quantized convolution, 3 -> 5 channels by 3x3."""
    rng = np.random.default_rng(1)
    tensors = {
        "xs": np.float32(0.1), "xz": np.int8(3), "w": rng.integers(-127, 128, (5, 3, 3, 3)).astype(np.int8),
        "ws": np.float32(0.02), "wz": np.int8(w_zero), "ys": np.float32(0.3), "yz": np.int8(-5),
    }  # fmt: skip
    graph = helper.make_graph(
        [helper.make_node(op, ["x", *tensors], ["y"], "layer", **attributes)],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.INT8, shape)],
        [helper.make_tensor_value_info("y", TensorProto.INT8, ["a", "b", "c", "d"])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


@pytest.fixture
def net(tmp_path) -> Path:
    path = tmp_path / "net.onnx"
    onnx.save(model(), path)
    return path


@pytest.fixture
def compiled(net, systolith) -> Path:
    path = net.with_suffix(".slp")
    assert systolith("compile", net, "--config", "tiny4", "-o", path)[0] == 0
    return path


def refused(result: tuple[int, str, str], *parts: str) -> None:
    """One line on stderr that has all the parts, exit code 2, nothing of a table."""
    code, _, err = result
    assert code == 2, err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    for part in parts:
        assert part in err


def test_help_names_every_command(systolith):
    code, out, _ = systolith("--help")
    assert code == 0
    assert all(name in out for name in ("generate", "compile", "quantize", "run", "verify", "bench", "demo", "doctor"))


@pytest.mark.parametrize(
    "arguments", [["explode"], ["run"], ["compile", "net.onnx"], ["verify", "-c", "tiny4", "--runs", "0"]]
)
def test_usage_errors(systolith, arguments):
    code, _, err = systolith(*arguments)
    assert code == 2
    assert "Traceback" not in err


@pytest.mark.parametrize("level", ["graph", "tiles", "schedule", "asm"])
def test_emit(systolith, net, level):
    code, out, err = systolith("compile", net, "--config", "tiny4", "--emit", level)
    assert (code, err) == (0, "")
    assert {"graph": "QLinearConv layer: x -> ", "tiles": "K tiles", "schedule": "EXECUTE", "asm": "END"}[level] in out


@pytest.mark.parametrize("backend", ["golden", "isa"])
def test_run_checks_and_writes(systolith, compiled, tmp_path, backend):
    x = np.random.default_rng(2).integers(-128, 128, (1, 3, 6, 5)).astype(np.int8)
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", x=x)
    results = []
    for name in ("x.npy", "x.npz"):
        code, out, err = systolith(
            "run", compiled, "-c", "tiny4", "--backend", backend, "--check", "--input", tmp_path / name,
            "--output", tmp_path / "y.npz", "--report", tmp_path / "r.json")  # fmt: skip
        assert (code, err) == (0, "")
        assert "golden 0 mismatches" in out
        with np.load(tmp_path / "y.npz") as outputs:
            assert list(outputs) == ["y"]
            results.append(outputs["y"])
    assert np.array_equal(*results)
    assert results[0].shape == (1, 5, 4, 3)
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["backend"] == backend
    assert report["config"] == "tiny4"
    assert report["macs"] == 5 * 4 * 3 * 27
    assert report["mismatches"]["golden"] == 0
    assert set(report) >= {"cycles", "utilization", "dram_bytes", "stalls", "layers"}
    assert [(layer["name"], layer["op"]) for layer in report["layers"]] == [("layer", "QLinearConv")]


def test_run_compiles_onnx_and_takes_random_inputs(systolith, net, tmp_path):
    outputs = []
    for seed in (5, 5, 6):
        code, out, err = systolith("run", net, "-c", "tiny4", "--backend", "isa", "--check", "--seed", seed,
                                 "--output", tmp_path / "y.npz")  # fmt: skip
        assert (code, err) == (0, "")
        assert f"random inputs of seed {seed}\n" in out
        outputs.append(np.load(tmp_path / "y.npz")["y"])
    assert np.array_equal(outputs[0], outputs[1])
    assert not np.array_equal(outputs[0], outputs[2])


def test_a_difference_is_exit_code_1(systolith, compiled, monkeypatch):
    from systolith.sim.compare import outputs as check

    monkeypatch.setattr(check, "check", lambda *_: check.Check(3, 2))
    code, out, _ = systolith("run", compiled, "-c", "tiny4", "--backend", "isa", "--check")
    assert code == 1
    assert "check: golden 3 mismatches, ONNX Runtime 2 mismatches" in out


def test_a_batch_left_open(systolith, tmp_path):
    path = tmp_path / "net.onnx"
    onnx.save(model(shape=("batch", 3, 6, 5)), path)
    np.save(tmp_path / "x.npy", np.zeros((3, 3, 6, 5), np.int8))
    common = ["run", path, "-c", "tiny4", "--backend", "isa", "--input", tmp_path / "x.npy"]
    assert systolith(*common, "--check", "--batch", 3, "--output", tmp_path / "y.npz")[0] == 0
    assert np.load(tmp_path / "y.npz")["y"].shape == (3, 5, 4, 3)
    refused(systolith(*common), "x.npy", "must have shape (1, 3, 6, 5), not (3, 3, 6, 5)")
    program = tmp_path / "net.slp"
    assert systolith("compile", path, "-c", "tiny4", "--batch", 3, "-o", program)[0] == 0
    run = ["run", program, *common[2:]]
    assert systolith(*run)[0] == 0
    refused(systolith(*run, "--batch", 2), f"Batch must be told to the compiler; {program} is compiled")


def test_a_first_dimension_that_only_the_host_reads(systolith, tmp_path):
    """Of any size, of the .onnx file and of the stored network."""
    proto = model()
    proto.graph.input.append(helper.make_tensor_value_info("u", TensorProto.FLOAT, ["k", 2]))
    proto.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, ["k", 2]))
    proto.graph.node.append(helper.make_node("Neg", ["u"], ["z"]))
    path, program, y = tmp_path / "net.onnx", tmp_path / "net.slp", tmp_path / "y.npz"
    onnx.save(proto, path)
    assert systolith("compile", path, "-c", "tiny4", "-o", program)[0] == 0
    x = np.zeros([dim.dim_value for dim in proto.graph.input[0].type.tensor_type.shape.dim], np.int8)
    for source, size in ((path, 3), (program, 3), (program, 0)):
        np.savez(tmp_path / "in.npz", **{proto.graph.input[0].name: x, "u": np.ones((size, 2), np.float32)})
        common = ["-c", "tiny4", "--backend", "isa", "--input", tmp_path / "in.npz", "--check", "--output", y]
        assert systolith("run", source, *common)[0] == 0
        assert np.load(y)["z"].shape == (size, 2)
        assert systolith("run", source, *common[:4])[0] == 0


# Bad input, as the issue lists it.


@pytest.mark.parametrize("command", ["generate", "compile", "run", "verify"])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("arrays = 4\n", "unknown field 'arrays'"),
        (TINY.to_toml().replace("array = 4", "array = 5"), "'array' must be a multiple of 4 from 4 to 256, not 5"),
        (TINY.to_toml().replace("sfu_lanes = 2", "sfu_lanes = 3"), "'sfu_lanes' must be a divisor of array (4), not 3"),
        ("array =", "is not valid TOML"),
    ],
)
def test_bad_configuration(systolith, net, tmp_path, command, text, message):
    config = tmp_path / "bad.toml"
    config.write_text(text)
    arguments = {
        "generate": ["-o", tmp_path / "out"],
        "compile": [net, "-o", tmp_path / "out"],
        "run": [net],
        "verify": [],
    }
    refused(systolith(command, *arguments[command], "--config", config), "bad.toml: ", message)
    assert not (tmp_path / "out").exists()


def bad_models() -> dict[str, tuple[bytes, str]]:
    good = model().SerializeToString()
    weights = model()
    return {
        "empty": (b"", "must be an ONNX model, not an empty file"),
        "not ONNX": (b"\x7fELF\x02\x01\x01" + bytes(100), "must be an ONNX model"),
        "text": (b"hello, this is not a model\n", "must be an ONNX model"),
        "truncated": (good[: len(good) // 2], "must be an ONNX model"),
        "dynamic shape": (model(shape=(1, 3, "height", 5)).SerializeToString(), "height"),
        "unknown operator": (model("Convolve").SerializeToString(), "Convolve"),
        "unknown attribute": (model(speed=3).SerializeToString(), "speed"),
        "impossible attribute": (model(shape=(1, 6, 6, 5), group=2).SerializeToString(), "group"),
        "no opset": (_without_opset(weights), "opset"),
    }


def _without_opset(proto: onnx.ModelProto) -> bytes:
    del proto.opset_import[:]
    return proto.SerializeToString()


@pytest.mark.parametrize("name", bad_models())
def test_bad_model(systolith, tmp_path, name):
    data, message = bad_models()[name]
    path, output = tmp_path / "bad.onnx", tmp_path / "out.slp"
    path.write_bytes(data)
    output.write_bytes(b"before")
    refused(systolith("compile", path, "--config", "tiny4", "-o", output), "bad.onnx", message)
    refused(systolith("run", path, "--config", "tiny4", "--output", tmp_path / "y.npz"), "bad.onnx", message)
    assert output.read_bytes() == b"before"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.onnx", "out.slp"]


def test_missing_files(systolith, tmp_path, compiled):
    refused(systolith("compile", tmp_path / "no.onnx", "-c", "tiny4", "-o", tmp_path / "y"), "no.onnx: cannot be read")
    refused(systolith("run", tmp_path / "no.slp", "-c", "tiny4"), "no.slp: cannot be read: No such file")
    refused(systolith("run", compiled, "-c", "tiny4", "--input", tmp_path / "no.npy"), "no.npy: cannot be read")


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("x.npy", np.zeros((1, 3, 5, 6), np.int8), "Input 'x' must have shape (1, 3, 6, 5), not (1, 3, 5, 6)"),
        ("x.npy", np.zeros((1, 3, 6, 5), np.uint8), "Input 'x' must be int8, not uint8"),
        ("x.npy", np.zeros((1, 3, 6, 5), np.float64), "Input 'x' must be int8, not float64"),
        ("x.npz", {"z": np.zeros((1, 3, 6, 5), np.int8)}, "'x'"),
        ("x.npz", {"x": np.zeros((1, 3, 6, 5), np.int8), "z": np.zeros(1)}, "there is no 'z'"),
        ("x.npy", b"", "must be a .npy or .npz file"),
        ("x.npy", b"\x93NUMPY\x01\x00", "must be a .npy or .npz file"),
        ("x.npy", b"\x93NUMPY\x01\x00\x18\x00{'descr': '|O'}\0((((    \n", "must be a .npy or .npz file"),
        ("x.npz", b"PK\x03\x04 not a zip file", "must be a .npy or .npz file"),
        ("x.npy", np.array([{"a": 1}], dtype=object), "must be a .npy or .npz file"),
    ],
)
def test_bad_input_array(systolith, compiled, tmp_path, name, values, message):
    path, output = tmp_path / name, tmp_path / "y.npz"
    output.write_bytes(b"before")
    if isinstance(values, bytes):
        path.write_bytes(values)
    elif isinstance(values, dict):
        np.savez(path, **values)
    else:
        np.save(path, values, allow_pickle=True)
    refused(
        systolith("run", compiled, "-c", "tiny4", "--backend", "isa", "--input", path, "--output", output),
        name,
        message,
    )
    assert output.read_bytes() == b"before"


def test_bad_program(systolith, compiled, tmp_path):
    data = compiled.read_bytes()
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 0x10
    bad = tmp_path / "bad.slp"
    for content, message in ((data[:-100], "truncated"), (bytes(flipped), "corrupt: CRC of section"), (b"", "magic")):
        bad.write_bytes(content)
        refused(systolith("run", bad, "-c", "tiny4", "--output", tmp_path / "y.npz"), "bad.slp: ", message)
    refused(systolith("run", compiled, "-c", "edge16"), "must be compiled for configuration 'edge16' (fingerprint")
    assert not (tmp_path / "y.npz").exists()


@pytest.mark.slow
def test_outputs_that_cannot_be_written(systolith, net, compiled, tmp_path):
    """A folder that is a file; the run does not even start."""
    (tmp_path / "file").write_text("before")
    inside = tmp_path / "file" / "out"
    refused(systolith("compile", net, "-c", "tiny4", "-o", inside), "file/out: cannot be written")
    refused(systolith("generate", "-c", "tiny4", "-o", inside), "file/out", "cannot be written")
    refused(systolith("run", compiled, "-c", "tiny4", "--output", f"{inside}.npz"), "cannot be written")
    refused(systolith("run", compiled, "-c", "tiny4", "--report", inside), "cannot be written")
    refused(systolith("run", compiled, "-c", "tiny4", "--output", tmp_path), "cannot be written")
    refused(systolith("run", compiled, "-c", "tiny4", "--output", tmp_path / "y.txt"), "must go to a .npz file")
    refused(systolith("demo", "-c", "tiny4", "-o", inside), "file/out: cannot be written")
    refused(systolith("docs", "-o", inside), "cannot be written")
    assert (tmp_path / "file").read_text() == "before"


def test_outputs_are_other_files_than_inputs(systolith, net, compiled, tmp_path):
    """A model, its samples or its program are never replaced by what is made of them; nor one output by the other."""
    before = {path: path.read_bytes() for path in (net, compiled)}
    (tmp_path / "link.slp").symlink_to(compiled)
    refused(systolith("compile", net, "-c", "tiny4", "-o", net), "net.onnx: must be another file than one that the")
    refused(systolith("quantize", net, "-o", net, "--calibration", compiled), "must be another file than one that the")
    run = ["run", compiled, "-c", "tiny4", "--backend", "isa"]
    refused(systolith(*run, "--report", tmp_path / "link.slp"), "link.slp: must be another file than one that the")
    np.savez(tmp_path / "x.npz", x=np.zeros((1, 3, 6, 5), np.int8))
    inputs = ["--input", tmp_path / "x.npz"]
    refused(systolith(*run, *inputs, "--output", tmp_path / "x.npz"), "must be another file than one that the command")
    refused(systolith(*run, "--output", tmp_path / "y.npz", "--report", tmp_path / "y.npz"), "the command writes")
    assert systolith(*run, "--output", tmp_path / "x.npz")[0] == 0
    assert before == {path: path.read_bytes() for path in before}
    assert not (tmp_path / "y.npz").exists()


def test_a_folder_for_the_output_is_looked_at_before_the_work(systolith, net, tmp_path, monkeypatch):
    def nothing(*_):
        raise AssertionError("the work must not begin")

    monkeypatch.setattr("systolith.compiler.network.compile_parts", nothing)
    monkeypatch.setattr("systolith.compiler.frontend.model.reader.read_model", nothing)
    for place in (tmp_path / "none" / "x.onnx", tmp_path):
        refused(systolith("compile", net, "-c", "tiny4", "-o", place), "cannot be written")
    refused(systolith("quantize", net, "-o", tmp_path / "none" / "x.onnx", "--calibration", net), "cannot be written")


ODD = "[/]a[bold]:smile: \x1b[31m\a\u202e\n\u00e9"
"""A name as a file may have it: what tables take for markup, what terminals obey, what ASCII lacks."""
SHOWN = "[/]a[bold]:smile: \\x1b[31m\\x07\\u202e\\n"


def odd_names(proto: onnx.ModelProto) -> bytes:
    for node in proto.graph.node:
        node.name = ODD + node.name
    proto.graph.name = ODD
    return proto.SerializeToString()


def test_names_do_nothing_to_the_terminal(systolith, tmp_path):
    path, program = tmp_path / "odd.onnx", tmp_path / "odd.slp"
    split = onnx.load_model_from_string(MODELS["middle"][0]().model("net"))
    for proto, arguments in [
        (model(), ["run", program, "-c", "tiny4", "--backend", "isa", "--check"]),
        (model(), ["compile", path, "-c", "tiny4", "--emit", "graph"]),
        (split, ["run", program, "-c", "tiny4", "--backend", "golden", "--check"]),
        (split, ["compile", path, "-c", "tiny4", "--emit", "graph"]),
    ]:
        path.write_bytes(odd_names(proto))
        assert systolith("compile", path, "-c", "tiny4", "-o", program)[0] == 0
        code, out, err = systolith(*arguments)
        assert (code, err) == (0, "")
        assert SHOWN[:20] in out
        assert all(c.isprintable() for line in out.split("\n") for c in line)
    path.write_bytes(odd_names(model(group=2)))
    result = systolith("compile", path, "-c", "tiny4", "-o", program)
    refused(result, "[/]a[bold]:smile: \\x1b[31m\\x07\\u202e \u00e9layer")
    assert all(c.isprintable() for c in result[2][:-1])


def test_a_long_name_is_cut(systolith, tmp_path):
    proto = model(group=2)
    proto.graph.node[0].name = "n" * 100_000
    (tmp_path / "long.onnx").write_bytes(proto.SerializeToString())
    result = systolith("compile", tmp_path / "long.onnx", "-c", "tiny4", "--emit", "graph")
    refused(result, "long.onnx: ", "nnn ... nnn", "attribute 'group'")
    assert len(result[2]) < 2100


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["run", "net.slp", "-c", "tiny4"], ["verify", "-c", "tiny4", "--bench", "pe"]])
def test_a_cache_that_cannot_be_written(compiled, arguments):
    arguments = [compiled if name == "net.slp" else name for name in arguments]
    done = command(*arguments, env={"SYSTOLITH_CACHE": "/dev/null/cache"})
    assert done.returncode == 2
    *_, last = done.stderr.decode().splitlines()
    assert re.fullmatch(
        r"error: /dev/null/cache/\w+: cannot be written: Not a directory; set SYSTOLITH_CACHE to a .*", last
    )
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["a\0b", "n" * 70_000])
def test_outputs_that_no_npz_has(tmp_path, name):
    from systolith.sim.host.files import save_outputs

    with pytest.raises(SystolithError, match="Output must have a name that a"):
        save_outputs(tmp_path / "y.npz", {name: np.zeros(1)})
    assert not (tmp_path / "y.npz").exists()
    save_outputs(tmp_path / "y.npz", {"n" * 50_000: np.zeros(1), "../\u6f22": np.ones(2)})
    with np.load(tmp_path / "y.npz") as outputs:
        assert list(outputs) == ["n" * 50_000, "../\u6f22"]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_locale(net, tmp_path, encoding):
    """What a terminal's encoding lacks is escaped."""
    proto = model()
    proto.graph.node[0].name = "caf\u00e9\u6f22"
    (tmp_path / "net.onnx").write_bytes(proto.SerializeToString())
    done = command("compile", net, "-c", "tiny4", "-o", tmp_path / "x.slp", env={"PYTHONIOENCODING": encoding})
    assert (done.returncode, done.stderr) == (0, b"")
    assert {"ascii": rb"caf\xe9\u6f22", "latin-1": b"caf\xe9\\u6f22"}.get(encoding, b"caf\xc3\xa9") in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["--help"], ["compile", "net.onnx", "-c", "tiny4", "--emit", "asm"], ["doctor"]])
def test_output_that_nobody_takes(net, arguments):
    """A full disk is said in one line; a reader that has gone is nothing to talk about."""
    arguments = [net if name == "net.onnx" else name for name in arguments]
    with open("/dev/full", "wb") as full:
        done = command(*arguments, stdout=full)
    assert (done.returncode, done.stderr) == (2, b"error: Output cannot be written: No space left on device\n")
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as pipe:
        done = command(*arguments, stdout=pipe)
    assert (done.returncode, done.stderr) == (1, b"")


def command(*arguments, env=None, stdout=subprocess.PIPE) -> subprocess.CompletedProcess:
    """The command line in a process of its own."""
    return subprocess.run([sys.executable, "-m", "systolith.cli.app", *map(str, arguments)], stdout=stdout,
                          stderr=subprocess.PIPE, env={**os.environ, **(env or {})}, check=False)  # fmt: skip


def test_choices_are_named(systolith, net, compiled):
    refused(systolith("run", compiled, "-c", "tiny4", "--backend", "fpga"), "must be one of golden, isa, rtl, cocotb")
    refused(systolith("compile", net, "-c", "tiny4", "--emit", "dot"), "must be one of graph, tiles, schedule, asm")
    refused(systolith("compile", net, "-c", "tiny4"), "--output FILE or --emit LEVEL")
    refused(systolith("verify", "-c", "tiny4", "--bench", "nothing"), "Testbench must be one of ", "not 'nothing'")
    refused(systolith("run", compiled, "-c", "nothing"), "Configuration must be one of tiny4, ")
    refused(systolith("bench", "--suite", "tiny", "--backend", "fpga"), "must be one of golden, isa, rtl, cocotb")
    refused(systolith("bench", "--network", "resnet8"), "--backend and --network are for networks")


def test_doctor(systolith, monkeypatch):
    code, out, _ = systolith("doctor")
    assert code == 0
    assert all(name in out for name in ("python", "g++", "make", "perl", "verilator", "amaranth", "onnxruntime"))
    monkeypatch.setenv("PATH", "/nowhere")
    code, out, _ = systolith("doctor")
    assert code == 1
    assert "apt install perl" in out
    monkeypatch.setenv("SYSTOLITH_CACHE", "/dev/null/cache")
    assert "set SYSTOLITH_CACHE to a folder" in " ".join(systolith("doctor")[1].replace("│", " ").split())


def test_docs(systolith, tmp_path):
    assert systolith("docs", "-o", tmp_path)[0] == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["isa.md", "registers.md"]


# Networks with nodes for the host.


@pytest.fixture
def split(tmp_path) -> Path:
    path = tmp_path / "split.onnx"
    path.write_bytes(MODELS["middle"][0]().model("net"))
    return path


def test_compile_says_what_runs_on_the_host(systolith, split, tmp_path):
    code, out, err = systolith("compile", split, "-c", "tiny4", "-o", tmp_path / "net.slp")
    assert (code, err) == (0, "")
    assert "in 5 parts" in out
    assert "On the host, under ONNX Runtime" in out
    assert "operator Softmax is not supported" in out
    assert "multiply-accumulates on the accelerator: 15,552 of 15,552 (100.0 %)" in out


def test_strict_refuses_the_host(systolith, split, net, tmp_path):
    (tmp_path / "net.slp").write_bytes(b"before")
    result = systolith("compile", split, "-c", "tiny4", "--strict", "-o", tmp_path / "net.slp")
    refused(result, "all nodes must run on the accelerator, and 4 cannot", "operator Softmax is not supported")
    assert (tmp_path / "net.slp").read_bytes() == b"before"
    assert systolith("compile", net, "-c", "tiny4", "--strict", "-o", tmp_path / "net.slp")[0] == 0


@pytest.mark.parametrize("level", LEVELS)
def test_every_level_of_every_part(systolith, split, level):
    code, out, err = systolith("compile", split, "-c", "tiny4", "--emit", level)
    assert (code, err) == (0, "")
    assert [line for line in out.splitlines() if line.startswith("part ")] == [
        f"part {i}, on the {side}:" for i, side in enumerate(["accelerator", "host"] * 2 + ["accelerator"])
    ]


@pytest.mark.parametrize("backend", ["golden", "isa"])
def test_run_over_parts(systolith, split, tmp_path, backend):
    program = tmp_path / "net.slp"
    assert systolith("compile", split, "-c", "tiny4", "-o", program)[0] == 0
    results = []
    for source in (program, split):
        code, out, err = systolith("run", source, "-c", "tiny4", "--backend", backend, "--check", "--seed", 3,
                                   "--output", tmp_path / "y.npz", "--report", tmp_path / "r.json")  # fmt: skip
        assert (code, err) == (0, "")
        assert "check: golden 0 mismatches, ONNX Runtime 0 mismatches" in out
        assert "On the host, under ONNX Runtime" in out
        with np.load(tmp_path / "y.npz") as outputs:
            results += outputs.values()
    assert np.array_equal(*results)
    report = json.loads((tmp_path / "r.json").read_text())
    assert [node["op"] for node in report["host"]] == ["Softmax", "QuantizeLinear"] * 2
    assert report["macs"] == 15_552
    assert len(report["layers"]) == 3
    assert report["mismatches"] == {"golden": 0, "onnxruntime": 0, "rounding": 0, "host": 0, "reading": 0}


def test_inputs_of_a_network_in_parts(systolith, split, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((1, 4, 6, 5), np.float32))
    refused(systolith("run", split, "-c", "tiny4", "--backend", "isa", "--input", tmp_path / "x.npy"),
            "x.npy: Input 'x' must have shape (1, 4, 6, 6), not (1, 4, 6, 5)")  # fmt: skip
    refused(
        systolith("run", split, "-c", "tiny4", "--waves", tmp_path / "w.vcd"), "Waves must be of one program, not of 3"
    )
    path = tmp_path / "net.slp"
    assert systolith("compile", split, "-c", "tiny4", "-o", path)[0] == 0
    refused(systolith("run", path, "-c", "edge16", "--backend", "isa"), "must be compiled for configuration 'edge16'")
    path.write_bytes(path.read_bytes()[:-1])
    refused(systolith("run", path, "-c", "tiny4", "--backend", "isa"), "net.slp: record 6 must have")


# Files of strangers: one line, before anything is run or written.


def test_a_program_with_other_instructions(systolith, compiled, tmp_path):
    """Right checksums, and a program that would race, or stop."""
    numbers, contents = sections(compiled.read_bytes())
    listing = list(isa.decode_program(contents[1]))
    waiting = next(i for i, instruction in enumerate(listing) if instruction.wait)
    listing[waiting] = replace(listing[waiting], wait=0)
    compiled.write_bytes(joined_program(numbers, contents | {1: isa.encode_program(listing)}))
    for backend in ("isa", "rtl"):
        result = systolith("run", compiled, "-c", "tiny4", "--backend", backend, "--output", tmp_path / "y.npz")
        refused(result, "net.slp: Instruction ", " must ")
    assert not (tmp_path / "y.npz").exists()
    assert systolith("run", compiled, "-c", "tiny4", "--backend", "golden")[0] == 0


def test_a_program_with_other_scales(systolith, compiled):
    numbers, contents = sections(compiled.read_bytes())
    compiled.write_bytes(joined_program(numbers, contents | {2: bytes(len(contents[2]))}))
    refused(systolith("run", compiled, "-c", "tiny4", "--backend", "isa"), "must load scales that are positive, normal")


def test_a_host_part_with_another_file(systolith, split, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "net.slp"
    assert systolith("compile", split, "-c", "tiny4", "-o", path)[0] == 0
    loaded = network.load(path)
    host = onnx.ModelProto.FromString(loaded.parts[1].model)
    secret = host.graph.initializer.add(name="secret", data_type=TensorProto.FLOAT, dims=[1])
    secret.data_location = TensorProto.EXTERNAL
    secret.external_data.add(key="location", value="secret.bin")
    (tmp_path / "secret.bin").write_bytes(bytes(4))
    part = replace(loaded.parts[1], model=host.SerializeToString())
    path.write_bytes(network.to_bytes(replace(loaded, parts=(loaded.parts[0], part, *loaded.parts[2:]))))
    refused(systolith("run", path, "-c", "tiny4", "--backend", "isa"), "tensor 'secret' is in another file")


def test_a_model_that_no_simulator_holds(systolith, tmp_path):
    path = tmp_path / "large.onnx"
    onnx.save(model(shape=(1, 3, 4000, 4000)), path)
    for arguments in (("run", path, "--backend", "isa"), ("compile", path, "-o", tmp_path / "net.slp")):
        refused(systolith(*arguments, "-c", "tiny4"), "input 'x' must have at most 33554432 elements")
    assert not (tmp_path / "net.slp").exists()


def test_waves_and_backends_are_looked_at_first(systolith, tmp_path):
    """Before the file is even read."""
    for arguments, message in (
        (("--backend", "fpga"), "Backend must be one of golden, isa, rtl, cocotb, not 'fpga'"),
        (("--backend", "isa", "--waves", tmp_path / "w.vcd"), "Waves must come from backend rtl, not isa"),
        (("--waves", tmp_path / "w.txt"), "Waves must go to a .vcd or .fst file"),
        (("--output", tmp_path / ("a" * 300 + ".npz")), "cannot be written: File name too long"),
    ):
        refused(systolith("run", tmp_path / "none.slp", "-c", "tiny4", *arguments), message)
