"""The ISA is the only definition: with other widths and other numbers everything still agrees.

A copy of the sources gets another ISA by edits of `systolith/isa` alone. The accelerator that it generates runs what
its compiler makes, with the bits of ONNX Runtime; its testbenches pass.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from systolith.sim.reference import reference
from tests.support.split_models import Net

pytestmark = [pytest.mark.rtl, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
FOLDERS = ("hw", "compiler", "sim", "fpga", "benchmarks", "examples")
WIDTHS = {"COUNT_BITS": 11, "STEP_BITS": 7, "EXTENT_BITS": 13, "ADDRESS_BITS": 17, "ACC_BITS": 13, "PARAM_BITS": 11}
NUMBERS = {
    "Opcode": {"CONFIG": 9, "LOAD": 5, "EXECUTE": 2, "SFU": 3, "STORE": 12, "FENCE": 1, "END": 4},
    "Unit": {"LOAD_W": 3, "LOAD_A": 0, "EXECUTE": 4, "SFU": 1, "STORE": 2},
    "LoadTarget": {"WEIGHTS": 1, "PARAMETERS": 0},
    "SfuSource": {"ACCUMULATORS": 3, "ACTIVATIONS": 0, "DEPTHWISE": 1},
    "Reduction": {"MAXIMUM": 1, "SUM": 0},
    "SecondOperand": {"NONE": 1, "ADD": 3, "MULTIPLY": 0},
    "Error": {"OPCODE": 5, "OPERAND": 4, "SRAM_RANGE": 9, "REGION_RANGE": 1, "AXI_READ": 2, "AXI_WRITE": 3,
              "TOKEN_OVERFLOW": 12, "WATCHDOG": 6},
}  # fmt: skip
CONFIG = """
name = "another"
array = 4
act_depth = 2048
act_banks = 4
weight_depth = 512
acc_depth = 128
param_depth = 64
sfu_lanes = 2
dw_taps = 3
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """The sources with another ISA."""
    folder = tmp_path_factory.mktemp("another")
    for name in (*FOLDERS, "systolith"):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    widths = folder / "systolith/isa/widths.py"
    text = widths.read_text()
    for name, bits in WIDTHS.items():
        text, count = re.subn(rf"^{name} = \d+$", f"{name} = {bits}", text, flags=re.MULTILINE)
        assert count == 1, name
    widths.write_text(text)
    fields = folder / "systolith/isa/fields.py"
    text = fields.read_text()
    for name, numbers in NUMBERS.items():
        begin = text.index(f"class {name}(")
        end = text.index("\n\n\n", begin)
        body = text[begin:end]
        for item, number in numbers.items():
            body, count = re.subn(rf"^    {item} = \d+", f"    {item} = {number}", body, flags=re.MULTILINE)
            assert count == 1, (name, item)
        text = text[:begin] + body + text[end:]
    fields.write_text(text)
    (folder / "another.toml").write_text(CONFIG)
    return folder


def network() -> bytes:
    """Layers for every unit and mode: the array, the depthwise unit; sums and maxima, an addition and a product."""
    net = Net()
    image = [1, 8, 9, 9]
    x = net.small(net.input("x", np.float32, image))
    weights = net.constant(net.rng.integers(-127, 128, (8, 8, 3, 3)).astype(np.int8))
    x = net.small(net.node("Conv", [net.real(x), net.dequantize(weights, 0.004, np.int8(0))], pads=[1, 1, 1, 1]))
    taps = net.constant(net.rng.integers(-127, 128, (8, 1, 3, 3)).astype(np.int8))
    real = net.dequantize(taps, 0.01, np.int8(0))
    y = net.small(net.node("Conv", [net.real(x), real], pads=[1, 1, 1, 1], group=8))
    y = net.small(net.node("Add", [net.real(x), net.real(y)]))
    y = net.small(net.node("MaxPool", [net.real(y)], kernel_shape=[2, 2]))
    y = net.small(net.node("AveragePool", [net.real(y)], kernel_shape=[3, 3], strides=[2, 2]))
    gate = net.small(net.node("Sigmoid", [net.real(net.small(net.node("GlobalMaxPool", [net.real(y)])))]))
    y = net.small(net.node("Mul", [net.real(y), net.real(gate)]))
    net.floats(y, [1, 8, 3, 3])
    return net.model()


def systolith(tree: Path, *arguments: str) -> str:
    """Standard output of a module of the copy."""
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    command = [sys.executable, "-P", "-m", *arguments]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.mark.parametrize("backend", ["isa", "rtl"])
@pytest.mark.skipif(reference.saturates(), reason="ONNX Runtime saturates at 16 bits on this processor")
def test_a_network(tree, backend):
    (tree / "net.onnx").write_bytes(network())
    text = systolith(tree, "systolith", "run", "net.onnx", "--config", "another.toml", "--backend", backend, "--check")
    assert "check: golden 0 mismatches, ONNX Runtime 0 mismatches" in text
    listing = systolith(tree, "systolith", "compile", "net.onnx", "--config", "another.toml", "--emit", "asm")
    for name in ("EXECUTE", "DEPTHWISE"):
        assert f" {name} " in listing
    assert {f"memory={number}" for number in NUMBERS["SfuSource"].values()} <= set(listing.split())
    assert {f"second={number}" for number in NUMBERS["SecondOperand"].values()} <= set(listing.split())


def test_its_definitions(tree):
    """The checks that programs pass are those of the other ISA, not of the one that is imported here."""
    code = "from systolith import isa; import systolith; print(systolith.__file__, isa.form('SFU')['rows'].high)"
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=tree, env={**os.environ, "PYTHONPATH": str(tree)},
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert done.stdout.split() == [str(tree / "systolith/__init__.py"), str((1 << WIDTHS["COUNT_BITS"]) - 1)]


@pytest.mark.parametrize("bench", ["sfu", "load_weights", "control"])
def test_a_testbench(tree, bench):
    """Random instructions of every mode, and wrong ones with every error."""
    text = systolith(tree, "systolith", "verify", "--config", "another.toml", "--bench", bench)
    assert " passed " in text
