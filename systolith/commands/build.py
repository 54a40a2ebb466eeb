"""`systolith compile`: an ONNX file to a program file, and any level between printed."""

from pathlib import Path

from systolith import program
from systolith.config import Config
from systolith.errors import SystolithError

__all__ = ["compile_file"]

LEVELS = ("graph", "tiles", "schedule", "asm")


def compile_file(model: Path, config: Config, output: Path | None, batch: int, level: str | None) -> None:
    """Compile `model`; print `level` if one is given, write `output` if one is given and say what it holds."""
    from systolith.compiler.compile import compile_model, print_level

    if level is not None and level not in LEVELS:
        raise SystolithError(f"Level must be one of {', '.join(LEVELS)}, not '{level}'")
    if level is not None:
        print(print_level(model, config, level, batch))
    if output is not None:
        made = compile_model(model, config, batch)
        program.save(made, output)
        print(f"{output}: {len(made.code) // 16} instructions, {len(made.weights)} bytes of weights and parameters")
