"""`systolith bench --suite tiny|zoo`: whole networks compiled and run on a backend, from ONNX files the project builds.

A row says how much of the network the accelerator does, how busy the array is from start to done (weights from memory,
nothing left out), what goes through the memory port, and whether any bit differs from the golden model and from ONNX
Runtime.
"""

import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from systolith.benchmarks.networks import SUITES, quantized
from systolith.compiler.network import compile_network
from systolith.config import Config
from systolith.console.tables import percent, show
from systolith.errors import SystolithError
from systolith.network import Network
from systolith.program import Program
from systolith.sim.compare.outputs import Check, check
from systolith.sim.rtl.native_build import require
from systolith.sim.run import BACKENDS, run
from systolith.sim.stimulus.inputs import random_inputs

__all__ = ["Result", "Traffic", "main", "measure", "traffic"]


@dataclass(frozen=True)
class Traffic:
    """Bytes that a network has to move at least once, and all that it moved. `scratch`: bytes of memory for activations
    between layers; with none, what was moved beyond the rest is input or weights that were read again."""

    instructions: int
    weights: int
    inputs: int
    outputs: int
    scratch: int
    moved: int

    @property
    def rest(self) -> int:
        """Bytes moved beyond that."""
        return self.moved - self.instructions - self.weights - self.inputs - self.outputs


@dataclass(frozen=True)
class Result:
    """One network: seconds to compile it, its report, its comparison, its traffic."""

    name: str
    compile_seconds: float
    report: dict[str, Any]
    found: Check
    traffic: Traffic
    share: float


def main(suite: str, config: Config, backend: str, only: Iterable[str] = ()) -> bool:
    """Measure and print the networks of a suite, or `only` some of them; False if one differs."""
    names = list(only) or list(_networks(suite))
    if unknown := set(names) - set(_networks(suite)):
        raise SystolithError(f"Network must be one of {', '.join(_networks(suite))}, not {sorted(unknown)[0]!r}")
    if backend not in BACKENDS:
        raise SystolithError(f"Backend must be one of {', '.join(BACKENDS)}, not {backend!r}")
    if backend == "rtl":
        require(config)
    results = []
    for name in names:
        print(f"{name}: compiling and running on {backend} ...", file=sys.stderr, flush=True)
        results.append(measure(name, quantized(suite, name), config, backend))
        result = results[-1]
        print(f"{name}: {_count(result.report['cycles'])} cycles, mismatches {_mismatches(result.found)}",
              file=sys.stderr, flush=True)  # fmt: skip
    show(_table(f"{suite} networks on {config.name}, backend {backend}", results))
    show(_traffic_table(results))
    for result in results:
        for note in result.found.notes:
            print(f"{result.name}: {note}")
    return all(result.found.passed for result in results)


def measure(name: str, model: bytes, config: Config, backend: str) -> Result:
    """Compile an int8 model, run it on random inputs, and compare."""
    begin = time.monotonic()
    network = compile_network(model, config)
    seconds = time.monotonic() - begin
    inputs = random_inputs(network, 1)
    outputs, report = run(network, inputs, config, backend)
    found = check(network, inputs, outputs)
    return Result(name, seconds, report, found, traffic(network, report, config), _share(network, report))


def traffic(network: Program | Network, report: dict[str, Any], config: Config) -> Traffic:
    """Where the bytes of a run come from."""
    programs = network.programs
    moved = report["dram_bytes"]
    return Traffic(
        sum(len(program.code) for program in programs),
        sum(len(program.weights) for program in programs),
        sum(tensor.stored_bytes(config.array) for program in programs for tensor in program.inputs),
        sum(tensor.stored_bytes(config.array) for program in programs for tensor in program.outputs),
        sum(program.scratch_bytes for program in programs),
        (moved["read"] or 0) + (moved["written"] or 0),
    )


def _share(network: Program | Network, report: dict[str, Any]) -> float:
    """Of the multiply-accumulates, those on the accelerator."""
    host = sum(node.macs for node in network.host_nodes) if isinstance(network, Network) else 0
    return report["macs"] / (report["macs"] + host)


def _networks(suite: str) -> tuple[str, ...]:
    if suite not in SUITES:
        raise SystolithError(f"Suite must be one of layers, {', '.join(SUITES)}, not {suite!r}")
    return SUITES[suite]


def _table(title: str, results: list[Result]) -> Table:
    table = Table(
        title=title, caption="mismatches: golden / ONNX Runtime where it computes in integers / where in float"
    )
    table.add_column("network")
    for heading in ("MACs", "cycles", "utilization", "DRAM read", "written", "MACs here", "mismatches", "compile"):
        table.add_column(heading, justify="right")
    for result in results:
        moved = result.report["dram_bytes"]
        table.add_row(
            result.name,
            f"{result.report['macs']:,}",
            _count(result.report["cycles"]),
            percent(result.report["utilization"]),
            _count(moved["read"]),
            _count(moved["written"]),
            percent(result.share),
            _mismatches(result.found),
            f"{result.compile_seconds:.1f} s",
        )
    return table


def _traffic_table(results: list[Result]) -> Table:
    caption = "scratch: memory for activations between layers; again: moved beyond the first four"
    table = Table(title="bytes through the memory port", caption=caption)
    table.add_column("network")
    for heading in ("instructions", "weights", "input", "output", "scratch", "again"):
        table.add_column(heading, justify="right")
    for result in results:
        t = result.traffic
        sizes = t.instructions, t.weights, t.inputs, t.outputs, t.scratch, t.rest
        table.add_row(result.name, *(f"{size:,}" for size in sizes))
    return table


def _mismatches(found: Check) -> str:
    reference = "-" if found.onnxruntime is None else f"{found.onnxruntime:,}"
    return f"{found.golden:,} / {reference} / {found.rounding:,}"


def _count(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"
