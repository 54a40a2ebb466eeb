"""Durations and latencies of instructions: cycles on the unit, and cycles from there to retirement (estimates)."""

from collections.abc import Mapping

from systolith.compiler.jobs import depthwise
from systolith.config import Config
from systolith.isa import SecondOperand, SfuSource, Unit

__all__ = ["READ_LATENCY", "cycles", "latency", "starved", "tile_cycles"]

READ_LATENCY = 76
WRITE_LATENCY = 29
SFU_LATENCY = 31
DEPTHWISE_LATENCY = 19
EXECUTE_LATENCY = 16
"""Cycles from the token to the retirement beyond the work, as the RTL shows them with the standard memory; for EXECUTE,
beyond the two diagonals of the array."""


def cycles(unit: Unit, f: Mapping[str, int], c: Mapping[str, int], config: Config) -> int:
    """What an instruction with fields `f` and constants `c`, as "group.field", takes of its unit: of the read port, if
    it is a load."""
    return _CYCLES[unit](f, c, config)


def latency(unit: Unit, config: Config) -> int:
    """Cycles from the end of an instruction's work, if it begins with the tokens, to its retirement."""
    return 2 * config.array + EXECUTE_LATENCY if unit == Unit.EXECUTE else _LATENCIES[unit]


def tile_cycles(f: Mapping[str, int], config: Config) -> int:
    """What the array takes for one K tile."""
    return max(f["rows"] * f["cols"], config.array)


def starved(f: Mapping[str, int], c: Mapping[str, int], tile: int, config: Config, idle: bool) -> int:
    """What a depthwise instruction takes longer beside an array that reads weights in N of every `tile` cycles: taps of
    a pass are read, in the others, while the pass before runs; those of the first one before, if the unit is idle."""
    kernel = c["kernel.kernel_y"], c["kernel.kernel_x"]
    passes = depthwise.passes(config, kernel, c["kernel.dilation_x"])
    taps = kernel[0] * kernel[1] // passes
    reading = taps * tile // max(tile - config.array, 1)
    each = _depthwise(f, c, config) // passes
    return max(reading - (taps if idle else each), 0) + (passes - 1) * max(reading - each, 0)


def _load_weights(f: Mapping[str, int], _, config: Config) -> int:
    return f["words"] * config.array // config.axi_bytes


def _load_activations(f: Mapping[str, int], c: Mapping[str, int], config: Config) -> int:
    window = f["cols"] * min(c["window.step"], c["source.row_bytes"]) // config.axi_bytes
    return f["rows"] * max(f["cols"], window, READ_LATENCY // config.axi_outstanding)


def _execute(f: Mapping[str, int], c: Mapping[str, int], config: Config) -> int:
    return tile_cycles(f, config) * c["kernel.kernel_y"] * c["kernel.kernel_x"] * c["kernel.blocks"]


def _depthwise(f: Mapping[str, int], c: Mapping[str, int], config: Config) -> int:
    kernel = c["kernel.kernel_y"], c["kernel.kernel_x"]
    return depthwise.cycles(config, kernel, c["kernel.stride_x"], c["kernel.dilation_x"], f["rows"], f["cols"])


def _sfu(f: Mapping[str, int], c: Mapping[str, int], config: Config) -> int:
    reads = c["window.kernel_y"] * c["window.kernel_x"]
    if f["memory"] == SfuSource.ACTIVATIONS and f["second"] != SecondOperand.NONE:
        reads += 1
    return f["rows"] * f["cols"] * reads * config.array // config.sfu_lanes + 1


def _store(f: Mapping[str, int], _, config: Config) -> int:
    return f["rows"] * -(-f["cols"] * config.array // config.axi_bytes)


_CYCLES = {
    Unit.LOAD_W: _load_weights,
    Unit.LOAD_A: _load_activations,
    Unit.EXECUTE: _execute,
    Unit.SFU: _sfu,
    Unit.STORE: _store,
    Unit.DEPTHWISE: _depthwise,
}
_LATENCIES = {
    Unit.LOAD_W: READ_LATENCY,
    Unit.LOAD_A: READ_LATENCY,
    Unit.SFU: SFU_LATENCY,
    Unit.STORE: WRITE_LATENCY,
    Unit.DEPTHWISE: DEPTHWISE_LATENCY,
}
