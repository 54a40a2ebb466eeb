"""`systolith run`: a program, or an ONNX file compiled on the way, on one of the backends."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from systolith import network
from systolith.cli.outputs import check_outputs
from systolith.config import Config
from systolith.console.tables import host_table, layer_table, show
from systolith.console.terminal import say
from systolith.errors import SystolithError
from systolith.file_io import write_whole
from systolith.network import HostPart, Network
from systolith.program import Program

if TYPE_CHECKING:
    from systolith.sim.compare.outputs import Check

__all__ = ["Files", "load_network", "run_file"]


@dataclass(frozen=True)
class Files:
    """What a run reads and writes."""

    source: Path
    inputs: Path | None = None
    output: Path | None = None
    report: Path | None = None
    waves: Path | None = None

    def check(self) -> None:
        """Raises SystolithError if something could not be written at the end of a long run."""
        check_outputs([self.output, self.report, self.waves], [self.source, self.inputs])
        if self.output is not None and self.output.suffix != ".npz":
            raise SystolithError(f"Outputs must go to a .npz file, not '{self.output}'")


def run_file(files: Files, config: Config, backend: str, check: bool, batch: int, seed: int) -> bool:
    """Run, write what was asked for, print a table; False if `check` found a difference."""
    from systolith.sim.compare.outputs import check as compare
    from systolith.sim.host.files import load_inputs, save_outputs
    from systolith.sim.rtl.native_build import require
    from systolith.sim.run import Options, check_backend, run
    from systolith.sim.stimulus.inputs import random_inputs

    files.check()
    check_backend(backend, files.waves)
    if backend == "rtl":
        require(config)
    compiled = load_network(files.source, config, batch, instructions=backend != "golden")
    if files.inputs is not None:
        inputs = load_inputs(files.inputs, compiled)
    else:
        inputs = random_inputs(compiled, seed)
    try:
        outputs, report = run(compiled, inputs, config, backend, Options(waves=files.waves))
    except SystolithError as error:
        if files.inputs is not None or "ONNX Runtime" not in str(error):
            raise
        raise SystolithError(f"{error}; {_drawn(inputs, seed)}") from None
    found = compare(compiled, inputs, outputs, _given(files.source)) if check else None
    report["mismatches"] = found and {
        "golden": found.golden, "onnxruntime": found.onnxruntime, "rounding": found.rounding, "host": found.host,
        "reading": found.read,
    }  # fmt: skip
    if files.output is not None:
        save_outputs(files.output, outputs)
    if files.report is not None:
        write_whole(files.report, (json.dumps(report, indent=2) + "\n").encode())
    show(layer_table(report))
    if isinstance(compiled, Network):
        show(host_table(compiled.host_nodes))
    if files.inputs is None:
        print(f"no --input: random inputs of seed {seed}")
    _print_totals(report, found)
    return found is None or found.passed


def _given(source: Path) -> bytes | None:
    """The model of an ONNX file as it is; a program file has it only as the compiler reads it."""
    from systolith.compiler.frontend.model.reader import parse_file

    return parse_file(source, str(source)).SerializeToString() if source.suffix.lower() == ".onnx" else None


def _drawn(inputs: dict[str, NDArray], seed: int) -> str:
    """Integers among random inputs: a model may not take all of them."""
    integers = {name: values for name, values in inputs.items() if values.dtype.kind in "iu" and values.size}
    named = ", ".join(f"'{name}' from {values.min()} to {values.max()}" for name, values in integers.items())
    return f"inputs are random, of seed {seed}{', ' if named else ''}{named}: --input gives others"


def load_network(source: Path, config: Config, batch: int, instructions: bool = True) -> Program | Network:
    """What a .slp file holds, or what an .onnx file compiles to.

    A file may come from anybody: the models in it are looked at like those that are compiled, and its `instructions`,
    if they are to run, are proved safe again.
    """
    if source.suffix.lower() == ".onnx":
        from systolith.compiler.network import compile_network

        compiled = compile_network(source, config, batch)
        network.check_whole(compiled, str(source))
        return compiled
    loaded = network.load(source)
    if batch != 1:
        raise SystolithError(f"Batch must be told to the compiler; {source} is compiled, with a batch of its own")
    loaded.require(config)
    if isinstance(loaded, Program):
        _check_part(loaded, config, instructions, str(source))
    else:
        for index, part in enumerate(loaded.parts):
            _check_part(part, config, instructions, f"{source}, part {index}")
    return loaded


def _check_part(part: Program | HostPart, config: Config, instructions: bool, where: str) -> None:
    """Raises SystolithError for an unsafe program, or an unsound model."""
    from systolith.compiler.check.check import check
    from systolith.compiler.check.scales import check_scales
    from systolith.compiler.frontend.model.reader import read_model

    if isinstance(part, HostPart):
        read_model(part.model, where)
    elif instructions:
        try:
            check(part.code, config, part.region_bytes())
            check_scales(part)
        except SystolithError as error:
            raise SystolithError(f"{where}: {error}") from None


def _print_totals(report: dict[str, Any], found: "Check | None") -> None:
    traffic = report["dram_bytes"]
    if traffic["read"] is not None:
        print(f"memory: {traffic['read']:,} bytes read, {traffic['written']:,} bytes written")
    if stalls := {name: count for name, count in report["stalls"].items() if count}:
        print(f"stalls: {', '.join(f'{name} {count:,}' for name, count in stalls.items())}")
    if speed := report.get("simulation", {}).get("cycles_per_second"):
        print(f"simulation: {speed:,} cycles a second")
    if found is not None:
        reference = "not compared" if found.onnxruntime is None else f"{found.onnxruntime} mismatches"
        hosts = f", host parts {found.host} mismatches" if report["host"] else ""
        print(f"check: golden {found.golden} mismatches, ONNX Runtime {reference}{hosts}")
        for note in found.notes:
            say(f"note: {note}")
