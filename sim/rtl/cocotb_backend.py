"""The `cocotb` backend: the same Verilog as `rtl`, under cocotb with cocotbext-axi's memory instead of our own.

Slow, and independent. Of the memory model only stalls, their seed and error addresses have a meaning here:
cocotbext-axi answers without latency. Cycles of single layers are not known.
"""

import json
import tempfile
from pathlib import Path

import numpy as np

from systolith.config import Config
from systolith.isa import Unit
from systolith.sim.host.fault import HardwareFault
from systolith.sim.host.memory_image import Image
from systolith.sim.host.memory_model import STANDARD, MemoryModel
from systolith.sim.rtl.bench_runner import run_bench
from systolith.sim.rtl.driver import Measurement

__all__ = ["simulate"]

MODULE = "systolith.sim.testbench.program_bench"


def simulate(
    code: bytes, config: Config, image: Image, memory: MemoryModel = STANDARD, watchdog: int = 1_000_000
) -> Measurement:
    """Run the program in region CODE of `image` to its end; the memory is changed in place. Raises HardwareFault."""
    from systolith.hw.top import Accelerator

    with tempfile.TemporaryDirectory(prefix="systolith_cocotb_") as name:
        folder = Path(name)
        np.save(folder / "memory.npy", image.data)
        request = {
            "origin": image.origin,
            "bases": {int(r): base for r, base in image.bases.items()},
            "limits": {int(r): limit for r, limit in image.limits.items()},
            "error": memory.error,
            "stall": memory.stall,
            "watchdog": watchdog,
        }
        (folder / "request.json").write_text(json.dumps(request))
        result = run_bench(Accelerator(config), MODULE, config, memory.seed + 1, options={"request": name},
                           testcase="given_program")  # fmt: skip
        if not result.passed:
            raise RuntimeError(f"The cocotb run failed:\n{result.log[-3000:]}")
        answer = json.loads((folder / "answer.json").read_text())
        image.data[:] = np.load(folder / "memory.npy")
    if "code" in answer:
        unit = next((u for u in Unit if u == answer["unit"]), answer["unit"])
        raise HardwareFault(answer["code"], unit, answer["index"], answer["detail"], code)
    return Measurement(answer["cycles"], answer["counters"], answer["cycles"], answer["seconds"])
