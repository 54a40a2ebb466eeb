"""Fingerprints of all that the project generates: Verilog, headers, pages and program files, SHA-256 of every byte.

Run: python -m systolith.benchmarks.fingerprints [--quick] [--write]

The command compares with `fingerprints.txt` beside this file and lists what differs. `--write` writes the file anew,
for a change that has a reason to differ. ONNX Runtime quantizes the networks' models in float32: another processor may
make other models, so the models have fingerprints too.
"""

import argparse
import hashlib
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import systolith.examples.digits as digits
from systolith import network, program
from systolith.benchmarks.networks import SUITES, quantized
from systolith.compiler.network import compile_network
from systolith.config import PRESETS
from systolith.docs_pages import pages
from systolith.errors import SystolithError
from systolith.file_io import read_whole, write_whole
from systolith.hw.generate import generate
from systolith.program import Program

__all__ = ["artefacts", "compare", "main", "read", "write"]

FILE = Path(__file__).with_name("fingerprints.txt")
"""One artefact a line, as `sha256sum` writes them."""
EXAMPLES = ("digits", "residual")
BATCHES = (1, 100)
"""Images in a run of the demo."""
EXAMPLE_CONFIGS = ("tiny4", "edge16")
TINY_CONFIGS = ("edge16", "edge16_dw")
ZOO = ("resnet50",)
ZOO_CONFIGS = ("edge16",)
LARGE = "tpu256"
"""The preset whose Verilog takes longest."""
SLOW = (f"hardware/{LARGE}/", "zoo/")
"""How the names of artefacts begin that a quick run leaves out."""


def artefacts(quick: bool = False) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of everything generated; with `quick`, without what is SLOW."""
    for name, text in pages().items():
        yield f"docs/{name}", text.encode()
    with tempfile.TemporaryDirectory() as folder:
        for name, config in PRESETS.items():
            if quick and name == LARGE:
                continue
            for path in generate(config, Path(folder)):
                yield f"hardware/{name}/{path.name}", path.read_bytes()
    for name in EXAMPLES:
        model = (Path(digits.__path__[0]) / f"{name}_int8.onnx").read_bytes()
        for batch in BATCHES:
            yield from _programs(f"examples/{name}_{batch}", model, EXAMPLE_CONFIGS, batch)
    for name in SUITES["tiny"]:
        yield from _network("tiny", name, TINY_CONFIGS)
    for name in () if quick else ZOO:
        yield from _network("zoo", name, ZOO_CONFIGS)


def _network(suite: str, name: str, configs: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    model = quantized(suite, name)
    yield f"{suite}/{name}.onnx", model
    yield from _programs(f"{suite}/{name}", model, configs)


def _programs(name: str, model: bytes, configs: Iterable[str], batch: int = 1) -> Iterator[tuple[str, bytes]]:
    """The program file for each configuration."""
    for config in configs:
        made = compile_network(model, PRESETS[config], batch)
        yield f"{name}_{config}.slp", program.to_bytes(made) if isinstance(made, Program) else network.to_bytes(made)


def compare(found: dict[str, str], expected: dict[str, str], quick: bool = False) -> list[str]:
    """A line for each artefact that is new, gone or different. With `quick`, what is SLOW is not gone."""
    lines = []
    for name in sorted(found.keys() | expected.keys()):
        if name not in expected:
            lines.append(f"{name}: is new")
        elif name not in found:
            lines += [] if quick and name.startswith(SLOW) else [f"{name}: is gone"]
        elif found[name] != expected[name]:
            lines.append(f"{name}: differs")
    return lines


def read(path: Path = FILE) -> dict[str, str]:
    """Fingerprints by name. Raises SystolithError if the file cannot be read or a line is not as `write` writes it."""
    found = {}
    for number, line in enumerate(read_whole(path).decode(errors="replace").splitlines(), 1):
        digest, gap, name = line.partition("  ")
        if len(digest) != 64 or not gap or not name:
            raise SystolithError(f"{path}: line {number} must be a fingerprint and a name, not {line[:80]!r}")
        found[name] = digest
    return found


def write(found: dict[str, str], path: Path = FILE) -> None:
    """Keep the fingerprints."""
    write_whole(path, "".join(f"{found[name]}  {name}\n" for name in sorted(found)).encode())


def main(arguments: list[str] | None = None) -> int:
    """Make everything and compare it, or write its fingerprints; 1 if something differs."""
    parser = argparse.ArgumentParser(prog="systolith.benchmarks.fingerprints",
                                     description="Compare the fingerprints of all generated artefacts.")  # fmt: skip
    parser.add_argument("--quick", action="store_true", help=f"without {LARGE} and {', '.join(ZOO)}")
    parser.add_argument("--write", action="store_true", help=f"write {FILE.name} anew")
    options = parser.parse_args(arguments)
    found = {name: hashlib.sha256(data).hexdigest() for name, data in artefacts(options.quick)}
    if options.write:
        kept = read() if options.quick else {}
        write({name: digest for name, digest in kept.items() if name.startswith(SLOW)} | found)
        print(f"{FILE}: {len(found)} fingerprints")
        return 0
    lines = compare(found, read(), options.quick)
    print("\n".join(lines) if lines else f"{len(found)} artefacts are as they were")
    return 1 if lines else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SystolithError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
