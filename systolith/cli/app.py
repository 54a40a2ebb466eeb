"""The command line. Each command imports what it needs when it runs, so that `systolith --help` is quick.

Bad input is one line on stderr and exit code 2; exit code 1 means that something was found wrong: a difference by `run
--check`, a failed testbench, a missing tool.
"""

import errno
import os
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from systolith.config import PRESETS, load_config
from systolith.console.terminal import printable
from systolith.errors import SystolithError

__all__ = ["app", "main"]

app = typer.Typer(
    help="RTL accelerator generator: int8 systolic arrays in Verilog, a compiler for them, the proof that both agree.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ConfigName = Annotated[str, typer.Option("--config", "-c", help=f"{', '.join(PRESETS)}, or a .toml file")]
Batch = Annotated[int, typer.Option(min=1, help="size of first dimensions that the model leaves open")]
Seed = Annotated[int, typer.Option(min=0, help="seed of all random choices")]


LONGEST = 2000
"""Characters of an error; names in a model may have any length."""


def main() -> None:
    """Entry point: prints a SystolithError as one line, exit code 2."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # Names need not fit the locale.
    try:
        try:
            app()
        finally:
            if sys.stdout:
                sys.stdout.flush()
    except SystolithError as error:
        _refuse(str(error))
    except OSError as error:
        if error.errno == errno.ENOENT and error.filename is None:  # As `tempfile` says it.
            _refuse(f"Temporary files must have a folder: {error.strerror}; set TMPDIR to one")
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EPIPE):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # What is still in stdout's buffer goes nowhere.
        if error.errno == errno.EPIPE:
            sys.exit(1)
        _refuse(f"Output cannot be written: {error.strerror}")


def _refuse(message: str) -> NoReturn:
    line = printable(" ".join(message.split()))
    if len(line) > LONGEST:
        line = f"{line[: LONGEST // 2]} ... {line[-LONGEST // 2 :]}"
    print(f"error: {line}", file=sys.stderr)
    sys.exit(2)


@app.command()
def generate(config: ConfigName, output: Annotated[Path, typer.Option("--output", "-o", help="folder")]) -> None:
    """Write Verilog, configuration, register map and C header into a folder."""
    from systolith.hw.generate import generate as write

    for path in write(load_config(config), output):
        print(path)


@app.command(name="compile")
def compile_model(
    model: Annotated[Path, typer.Argument(help="ONNX file")],
    config: ConfigName,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="program file to write (.slp)")] = None,
    batch: Batch = 1,
    emit: Annotated[str | None, typer.Option(help="print a level: graph, tiles, schedule, asm or memory")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="refuse a model with nodes that need the host")] = False,
) -> None:
    """Compile an ONNX model to a program file. Nodes that the accelerator cannot run stay on the host."""
    from systolith.cli.compile import compile_file

    if output is None and emit is None:
        raise SystolithError("Compile must be told what to make: --output FILE or --emit LEVEL")
    compile_file(model, load_config(config), output, batch, emit, strict)


@app.command()
def quantize(
    model: Annotated[Path, typer.Argument(help="float ONNX file")],
    output: Annotated[Path, typer.Option("--output", "-o", help="int8 ONNX file to write")],
    calibration: Annotated[Path, typer.Option(help=".npz by input name, or .npy; the first axis counts samples")],
    labels: Annotated[
        Path | None,
        typer.Option(help=".npy, or .npz with 'labels' and its own samples; prints the accuracy of both models"),
    ] = None,
    activations: Annotated[str, typer.Option(help="int8 or uint8")] = "int8",
    method: Annotated[str, typer.Option(help="ranges of activations: minmax, entropy or percentile")] = "minmax",
    per_tensor: Annotated[bool, typer.Option("--per-tensor", help="one scale for all weights of a layer")] = False,
) -> None:
    """Quantize a float ONNX model to int8 (QDQ) with calibration samples."""
    from systolith.cli.quantize import Settings, quantize_file

    quantize_file(model, output, calibration, labels, Settings(activations, method, not per_tensor))


@app.command()
def run(
    source: Annotated[Path, typer.Argument(help="program (.slp), or an ONNX file, which is compiled first")],
    config: ConfigName,
    inputs: Annotated[Path | None, typer.Option("--input", help=".npy, or .npz by input name; none: random")] = None,
    backend: Annotated[str, typer.Option(help="golden, isa, rtl or cocotb")] = "rtl",
    check: Annotated[
        bool, typer.Option(help="compare with golden and ONNX Runtime; exit code 1 if they differ")
    ] = False,
    output: Annotated[Path | None, typer.Option("--output", help=".npz to write, by output name")] = None,
    report: Annotated[Path | None, typer.Option(help="JSON to write")] = None,
    waves: Annotated[Path | None, typer.Option(help="waveform to write: .fst or .vcd (backend rtl)")] = None,
    batch: Batch = 1,
    seed: Seed = 1,
) -> None:
    """Run a program on a backend."""
    from systolith.cli.run import Files, run_file

    files = Files(source, inputs, output, report, waves)
    if not run_file(files, load_config(config), backend, check, batch, seed):
        raise typer.Exit(1)


@app.command()
def verify(
    config: ConfigName,
    seed: Seed = 1,
    runs: Annotated[int, typer.Option(min=1, help="seeds to run: SEED, SEED + 1, ...")] = 1,
    bench: Annotated[str | None, typer.Option(help="only this testbench")] = None,
) -> None:
    """Run the cocotb testbenches on a configuration."""
    from systolith.cli.verify import verify_config

    if not verify_config(config, load_config(config), range(seed, seed + runs), bench):
        raise typer.Exit(1)


@app.command()
def bench(
    config: ConfigName = "edge16",
    suite: Annotated[str, typer.Option(help="layers (on the RTL), tiny or zoo: whole networks")] = "layers",
    backend: Annotated[str, typer.Option(help="golden, isa, rtl or cocotb, for networks")] = "rtl",
    network: Annotated[list[str] | None, typer.Option(help="only this network of the suite; may be repeated")] = None,
) -> None:
    """Measure layers, or whole networks: cycles, utilization, memory traffic, mismatches."""
    if suite == "layers":
        if backend != "rtl" or network:
            raise SystolithError(
                "Layers must be measured all, on backend rtl: --backend and --network are for networks"
            )
        from systolith.benchmarks.layers import main as measure

        measure(load_config(config))
        return
    from systolith.benchmarks.suite import main as measure_networks

    if not measure_networks(suite, load_config(config), backend, network or ()):
        raise typer.Exit(1)


@app.command()
def demo(
    config: ConfigName = "edge16",
    images: Annotated[int, typer.Option(min=1, max=360, help="test images to classify")] = 100,
    output: Annotated[Path, typer.Option("--output", "-o", help="folder to write")] = Path("build/demo"),
) -> None:
    """Generate, compile, and classify handwritten digits on the RTL."""
    from systolith.examples.digits.demo import main as show

    if not show(load_config(config), images, output):
        raise typer.Exit(1)


@app.command()
def doctor() -> None:
    """Show each tool that is needed, its version and where it was found."""
    from systolith.cli.verify import show_tools

    if not show_tools():
        raise typer.Exit(1)


@app.command(hidden=True)
def docs(output: Annotated[Path, typer.Option("--output", "-o", help="folder")] = Path("docs")) -> None:
    """Write the reference pages that are made from the definitions."""
    from systolith.docs_pages import pages
    from systolith.file_io import write_whole

    for name, text in pages().items():
        write_whole(output / name, text.encode())
        print(output / name)


if __name__ == "__main__":
    main()
