"""The report of a run: a plain dict, ready for JSON, with the same keys from every backend (None if it cannot know)."""

from collections.abc import Mapping
from dataclasses import asdict
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from systolith.config import Config
from systolith.network import Network
from systolith.program import Program
from systolith.sim.rtl.driver import Measurement

__all__ = ["layer_cycles", "measured", "together", "unmeasured"]

STALLS = ("array_wait_weights", "array_wait_tokens", "array_idle", "sfu_wait_tokens", "dw_wait_tokens",
          "bank_conflicts", "read_stalls", "write_stalls")  # fmt: skip
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
    """Cycles of each layer: from the end of the layers before to the end of its own last instruction, so that work done
    beside another layer's costs nothing; the last layer ends with the program. So they sum up to `total`. None where
    instruction times are not known."""
    if not len(retired):
        return [None] * len(layers)
    ends = [max(int(retired[layer["last"]]), 0) for layer in layers]
    ends = [int(end) for end in np.maximum.accumulate(ends).clip(max=total)] if ends else []
    ends[-1:] = [total] * bool(ends)
    return [end - begin for begin, end in zip([0, *ends], ends, strict=False)]


def together(network: Network, reports: list[dict[str, Any]], config: Config) -> dict[str, Any]:
    """One report of all programs of a network: sums, and what the host does."""

    def total(*path: str) -> Any:
        values: list[Any] = [reduce(lambda item, key: item[key], path, found) for found in reports]
        return None if None in values else sum(values)

    cycles, macs = total("cycles"), total("macs")
    merged = reports[0] | {
        "model": network.name,
        "cycles": cycles,
        "macs": macs,
        "utilization": _utilization(macs, cycles, config),
        "dram_bytes": {name: total("dram_bytes", name) for name in ("read", "written")},
        "stalls": {name: total("stalls", name) for name in reports[0]["stalls"]},
        "layers": [layer for found in reports for layer in found["layers"]],
        "host": [asdict(node) for node in network.host_nodes],
    }
    if "counters" in merged:
        merged["counters"] = {name: total("counters", name) for name in merged["counters"]}
        simulated, seconds = total("simulation", "cycles"), total("simulation", "seconds")
        merged["simulation"] = {"cycles": simulated, "seconds": round(seconds, 3),
                                "cycles_per_second": round(simulated / seconds) if seconds else None}  # fmt: skip
    return merged


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
        "host": [],
    }


def _utilization(macs: int, cycles: int | None, config: Config) -> float | None:
    return macs / (cycles * config.array**2) if cycles else None
