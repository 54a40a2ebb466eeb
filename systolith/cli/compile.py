"""`systolith compile`: an ONNX file to a program file; what runs where, and any level between, printed."""

from pathlib import Path
from typing import TYPE_CHECKING

from systolith import network
from systolith.cli.outputs import check_outputs
from systolith.config import Config
from systolith.console.tables import host_table, percent, show
from systolith.console.terminal import say
from systolith.errors import SystolithError
from systolith.isa import INSTRUCTION_BYTES
from systolith.network import HostPart, Network
from systolith.program import Program

if TYPE_CHECKING:
    from systolith.compiler.network import CompiledNetwork

__all__ = ["compile_file"]


def compile_file(path: Path, config: Config, output: Path | None, batch: int, level: str | None, strict: bool) -> None:
    """Compile the model; print `level` if one is given, write `output` if one is given and say what it holds."""
    from systolith.compiler.network import compile_parts
    from systolith.compiler.show import LEVELS

    if level is not None and level not in LEVELS:
        raise SystolithError(f"Level must be one of {', '.join(LEVELS)}, not {level!r}")
    check_outputs([output], [path])
    compiled = compile_parts(path, config, batch, strict)
    if level is not None:
        _print_level(compiled, level)
    if output is not None:
        network.save(compiled.result, output)
        _print_summary(output, compiled.result)


def _print_level(compiled: "CompiledNetwork", level: str) -> None:
    from systolith.compiler.show import emit

    for index, part in enumerate(compiled.parts):
        if len(compiled.parts) > 1:
            print(f"part {index}, on the {'host' if isinstance(part, HostPart) else 'accelerator'}:")
        if isinstance(part, HostPart):
            say("\n".join(f"{node.op} {node.name}" for node in part.nodes))
        else:
            say(emit(part, level))


def _print_summary(output: Path, result: Program | Network) -> None:
    """What the file holds, what runs on the host and why, the share of the work that the accelerator does, and the map
    of activation SRAM over time."""
    from systolith.compiler.report.memory_map import memory_map

    programs = result.programs if isinstance(result, Network) else (result,)
    hosts = result.host_nodes if isinstance(result, Network) else ()
    code = sum(len(program.code) for program in programs) // INSTRUCTION_BYTES
    weights = sum(len(program.weights) for program in programs)
    parts = f" in {len(result.parts)} parts" if isinstance(result, Network) and hosts else ""
    print(f"{output}: {code:,} instructions, {weights:,} bytes of weights{parts}")
    if hosts:
        show(host_table(hosts))
    macs = sum(layer["macs"] for program in programs for layer in program.meta["layers"])
    all_macs = macs + sum(node.macs for node in hosts)
    share = f" ({percent(macs / all_macs)})" if all_macs else ""
    print(f"multiply-accumulates on the accelerator: {macs:,} of {all_macs:,}{share}")
    for program in programs:
        say(f"\n{memory_map(program.meta)}")
