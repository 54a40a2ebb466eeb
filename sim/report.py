"""The report of a run: a plain dict, ready for JSON, with the same keys from every backend (None if it cannot know)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from systolith.config import Config
from systolith.program import Program
from systolith.sim.driver import Measurement

__all__ = ["layer_cycles", "measured", "unmeasured"]

STALLS = ("array_wait_weights", "array_wait_tokens", "array_idle", "sfu_wait_tokens", "bank_conflicts", "read_stalls",
          "write_stalls")  # fmt: skip
"""Counters that the report shows as stalls."""


def unmeasured(program: Program, config: Config, backend: str, read: int | None, written: int | None) -> dict[str, Any]:
    """Of a backend without cycles. `read` and `written` count bytes that instructions move, beats not rounded up."""
    layers = [_layer(layer, None, config) for layer in program.meta.get("layers", ())]
    return _report(program, config, backend, None, read, written, {}, layers)


def measured(program: Program, config: Config, backend: str, m: Measurement) -> dict[str, Any]:
    """Of a run on the RTL. Bytes are beats times the width of the port; `counters` has all of the hardware's."""
    described = program.meta.get("layers", ())
    cycles = layer_cycles(described, m.retired, m.cycles)
    layers = [_layer(layer, count, config) for layer, count in zip(described, cycles, strict=True)]
    read, written = (m.counters[name] * config.axi_bytes for name in ("read_beats", "write_beats"))
    report = _report(program, config, backend, m.cycles, read, written, {k: m.counters[k] for k in STALLS}, layers)
    speed = round(m.simulated / m.seconds) if m.seconds else None
    simulation = {"cycles": m.simulated, "seconds": round(m.seconds, 3), "cycles_per_second": speed}
    return report | {"counters": dict(m.counters), "simulation": simulation}


def layer_cycles(layers: list[Mapping[str, Any]], retired: NDArray[np.int64], total: int) -> list[int | None]:
    """Cycles of each layer: from the end of the layer before to the end of its last instruction; the last layer ends
    with the program. So they sum up to `total`. None where instruction times are not known."""
    if not len(retired):
        return [None] * len(layers)
    ends = [max(retired[layer["first"] : layer["last"] + 1].max(initial=-1), 0) for layer in layers]
    ends = [int(end) for end in np.maximum.accumulate(ends).clip(max=total)] if ends else []
    ends[-1:] = [total] * bool(ends)
    return [end - begin for begin, end in zip([0, *ends], ends, strict=False)]


def _layer(layer: Mapping[str, Any], cycles: int | None, config: Config) -> dict[str, Any]:
    return {"name": layer["name"], "op": layer["op"], "macs": layer["macs"], "cycles": cycles,
            "utilization": _utilization(layer["macs"], cycles, config)}  # fmt: skip


def _report(program: Program, config: Config, backend: str, cycles: int | None, read: int | None, written: int | None,
            stalls: dict[str, int], layers: list[dict[str, Any]]) -> dict[str, Any]:  # fmt: skip
    macs = sum(layer["macs"] for layer in layers)
    return {
        "backend": backend,
        "config": config.name,
        "model": program.meta.get("model"),
        "cycles": cycles,
        "macs": macs,
        "utilization": _utilization(macs, cycles, config),
        "dram_bytes": {"read": read, "written": written},
        "stalls": stalls,
        "layers": layers,
    }


def _utilization(macs: int, cycles: int | None, config: Config) -> float | None:
    return macs / (cycles * config.array**2) if cycles else None
