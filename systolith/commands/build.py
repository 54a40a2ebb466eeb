"""`systolith compile`: an ONNX file to a program file, and any level between printed."""

from pathlib import Path

from systolith import program
from systolith.config import Config
from systolith.isa import INSTRUCTION_BYTES

__all__ = ["compile_file"]


def compile_file(path: Path, config: Config, output: Path | None, batch: int, level: str | None) -> None:
    """Compile the model; print `level` if one is given, write `output` if one is given and say what it holds."""
    from systolith.compiler.compile import compile_source
    from systolith.compiler.emit import emit

    compiled = compile_source(path, config, batch)
    if level is not None:
        print(emit(compiled, level))
    if output is not None:
        made = compiled.program
        program.save(made, output)
        print(f"{output}: {len(made.code) // INSTRUCTION_BYTES} instructions, {len(made.weights)} bytes of weights")
