"""`make demo`: from a configuration and an int8 ONNX file to Verilog, a program, and digits classified on the RTL."""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from systolith import program
from systolith.compiler.pipeline import compile_model
from systolith.config import Config
from systolith.console.tables import layer_table, show
from systolith.errors import SystolithError
from systolith.file_io import write_whole
from systolith.hw.generate import generate
from systolith.sim.compare.outputs import check
from systolith.sim.reference import reference
from systolith.sim.rtl.native_build import require
from systolith.sim.run import run

__all__ = ["main"]

HERE = Path(__file__).parent
NETWORKS = {
    "digits": "three convolutions and a matrix product",
    "residual": "depthwise convolution, pooling, a residual block and an average",
}


def main(config: Config, images: int, folder: Path) -> bool:
    """Show all of it; False if a bit of the RTL's outputs differs from golden or from ONNX Runtime."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SystolithError(f"{folder}: cannot be written: {error.strerror}") from None
    require(config)
    with np.load(HERE / "digits_test.npz") as data:
        x, labels = data["image"][:images], data["label"][:images]
    print(f"1. generate {config.name}: {config.array}x{config.array} int8 multipliers, as Verilog")
    verilog = generate(config, folder / config.name)
    passed = [_classify(name, number, config, x, labels, folder) for number, name in enumerate(NETWORKS, 2)]
    print(f"Verilog:  {verilog[0]}\nprograms and reports: {folder}")
    return all(passed)


def _classify(name: str, number: int, config: Config, x: NDArray, labels: NDArray, folder: Path) -> bool:
    """Compile a network, run it on the RTL, and show what came out."""
    images, int8 = len(x), HERE / f"{name}_int8.onnx"
    print(f"\n{number}. {name}, {NETWORKS[name]}: compile {int8.name} for {images} images, and for one; "
          "run it on the RTL (the first time, this builds its simulator)")  # fmt: skip
    batch, single = compile_model(int8, config, images), compile_model(int8, config, 1)
    program.save(batch, folder / f"{name}.slp")
    outputs, report = run(batch, {"image": x}, config, "rtl")
    found = check(batch, {"image": x}, outputs)
    alone = run(single, {"image": x[:1]}, config, "rtl")[1]["cycles"]
    report["mismatches"] = {"golden": found.golden, "onnxruntime": found.onnxruntime}
    write_whole(folder / f"{name}.json", (json.dumps(report, indent=2) + "\n").encode())

    show(layer_table(report))
    table = Table(title=f"{images} test images")
    table.add_column("model")
    table.add_column("accuracy", justify="right")
    float32 = (HERE / f"{name}_float.onnx").read_bytes()
    for label, logits in (
        ("float32, ONNX Runtime", reference.run(float32, {"image": x})["logits"]),
        ("int8, ONNX Runtime", reference.run(int8.read_bytes(), {"image": x})["logits"]),
        ("int8, RTL", outputs["logits"]),
    ):
        table.add_row(label, f"{100 * _accuracy(logits, labels):.1f} %")
    show(table)
    against = "not compared: " + "; ".join(found.notes) if found.onnxruntime is None else str(found.onnxruntime)
    print(f"bit mismatches: golden {found.golden}, ONNX Runtime {against}")
    print(f"cycles per image: {report['cycles'] / images:,.0f} in a batch of {images}, {alone:,} for one image alone")
    return found.passed


def _accuracy(logits: NDArray, labels: NDArray) -> float:
    return float((logits.argmax(1) == labels).mean())
