"""`systolith bench`: single layers on the RTL. How busy the array is from start to done, where the other cycles went,
and how fast the simulators run. Weights and activations come from memory and outputs go there; nothing is left out.
"""

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from rich.table import Table

from systolith.compiler.pipeline import compile_model
from systolith.config import Config
from systolith.console.tables import percent, show
from systolith.sim.compare.outputs import check
from systolith.sim.run import run
from systolith.sim.stimulus.inputs import random_inputs

__all__ = ["LAYERS", "Layer", "losses", "main", "measure"]


@dataclass(frozen=True)
class Layer:
    """A square convolution, "same" padding: kernel, input and output channels, input size, stride."""

    kernel: int
    inputs: int
    outputs: int
    size: int
    stride: int = 1

    @property
    def name(self) -> str:
        stride = f" / {self.stride}" if self.stride > 1 else ""
        return f"{self.kernel}x{self.kernel}{stride}  {self.inputs} -> {self.outputs}  {self.size}x{self.size}"

    def model(self) -> bytes:
        """A QLinearConv with random weights, int8, a scale for each channel, without bias."""
        rng = np.random.default_rng(1)
        pad = self.kernel // 2
        weights = rng.integers(-127, 128, (self.outputs, self.inputs, self.kernel, self.kernel)).astype(np.int8)
        # Outputs that fill int8: uniform inputs and weights have standard deviations of about 74.
        spread = 74 * 74 * np.sqrt(self.inputs * self.kernel**2)
        constants = {
            "xs": np.float32(1), "xz": np.int8(0), "w": weights,
            "ws": (rng.uniform(0.5, 1, self.outputs) * 40 / spread).astype(np.float32),
            "wz": np.zeros(self.outputs, np.int8), "ys": np.float32(1), "yz": np.int8(0),
        }  # fmt: skip
        node = helper.make_node(
            "QLinearConv", ["x", *constants], ["y"], "layer", pads=[pad] * 4, strides=[self.stride] * 2
        )
        out = (self.size + 2 * pad - self.kernel) // self.stride + 1
        graph = helper.make_graph(
            [node],
            "bench",
            [helper.make_tensor_value_info("x", TensorProto.INT8, [1, self.inputs, self.size, self.size])],
            [helper.make_tensor_value_info("y", TensorProto.INT8, [1, self.outputs, out, out])],
            [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        onnx.checker.check_model(model)
        return model.SerializeToString()


LAYERS = (
    Layer(3, 64, 64, 56),
    Layer(1, 256, 256, 14),
    Layer(1, 64, 256, 56),
    Layer(3, 128, 128, 28),
    Layer(3, 256, 256, 14),
    Layer(3, 512, 512, 7),
    Layer(1, 1024, 256, 14),
    Layer(7, 3, 64, 224, 2),
)
"""Of ResNet-50; the first two are those that the project holds itself to."""

SPEED = Layer(3, 16, 16, 28)
"""What the cocotb backend is timed with: small, because it is slow."""


def main(config: Config) -> None:
    """Measure and print all of it."""
    table = Table(title=f"{config.name}: layers on the RTL, from the start register to done")
    table.add_column("layer")
    for title in ("MACs", "cycles", "utilization", "mismatches", "simulated cycles/s"):
        table.add_column(title, justify="right")
    lost = Table(title="where the other cycles went, in % of all", caption=(
        "partial: parts of the array without work; weights, tokens: the array waited for them; "
        "no instruction: start and end; rest: pipeline"))  # fmt: skip
    lost.add_column("layer")
    for title in ("partial", "weights", "tokens", "no instruction", "rest", "bytes read", "written"):
        lost.add_column(title, justify="right")
    for layer in LAYERS:
        report = measure(layer, config)
        print(f"{layer.name}: {report['cycles']:,} cycles", file=sys.stderr, flush=True)
        table.add_row(layer.name, f"{report['macs']:,}", f"{report['cycles']:,}", percent(report["utilization"]),
                      str(report["mismatches"]["golden"]), _speed(report))  # fmt: skip
        lost.add_row(layer.name, *(percent(share) for share in losses(report, config)),
                     f"{report['dram_bytes']['read']:,}", f"{report['dram_bytes']['written']:,}")  # fmt: skip
    show(table)
    show(lost)
    speeds = {backend: _speed(measure(SPEED, config, backend)) for backend in ("rtl", "cocotb")}
    print(f"{SPEED.name}: rtl {speeds['rtl']} cycles a second, cocotb {speeds['cocotb']}")


def measure(layer: Layer, config: Config, backend: str = "rtl") -> dict[str, Any]:
    """The report of one layer's run, compared with golden and ONNX Runtime."""
    program = compile_model(layer.model(), config)
    inputs = random_inputs(program, 1)
    outputs, report = run(program, inputs, config, backend)
    found = check(program, inputs, outputs)
    return {**report, "mismatches": {"golden": found.golden, "onnxruntime": found.onnxruntime}}


def losses(report: dict[str, Any], config: Config) -> list[float]:
    """Shares of all cycles: partial tiles, waits for weights and for tokens, no instruction, the rest."""
    counters, cycles = report["counters"], report["cycles"]
    work = report["macs"] / config.array**2
    waits = [counters[name] for name in ("array_wait_weights", "array_wait_tokens", "array_idle")]
    rest = cycles - counters["array_rows"] - sum(waits)
    return [count / cycles for count in (counters["array_rows"] - work, *waits, rest)]


def _speed(report: dict[str, Any]) -> str:
    return f"{report['simulation']['cycles_per_second']:,}"
