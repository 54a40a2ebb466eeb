"""`make verify-long`: random layers, networks, programs, configurations and memory stalls on the RTL.
`make verify-host`: random networks of which the host runs a part.

Layers (sim/stimulus/layers.py) and networks (sim/stimulus/network.py) are bit-equal to golden, and to ONNX Runtime
where that is promised; random programs (sim/stimulus/program.py) to the instruction simulator, and broken ones
(sim/stimulus/broken_program.py) stop as it says. Networks with host parts (sim/stimulus/host_parts/mixed_network.py)
pass the same check, and a second one that knows nothing of parts (sim/compare/whole_network.py).

Run: python -m systolith.sim.campaign [--host] [--layers 600] [--seed 1] [--only SEED] [--backend rtl] [--workers 2]

Case SEED is made from that number alone: its configuration (one of `CONFIGS`, so that builds are few), its layer,
chain of layers or network with inputs, or its programs, its memory and where its regions lie. A run takes the seeds
from --seed on until --layers cases were compared; --only repeats one and says what it is made of. With --host, every
case is a network with host parts. A case that ends its process is a failure like others.
"""

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from itertools import count
from multiprocessing import get_context

import numpy as np
from numpy.typing import NDArray

from systolith.config import PRESETS, Config
from systolith.errors import SystolithError
from systolith.sim.compare.faults import compare_fault, compare_orders
from systolith.sim.compare.programs import compare
from systolith.sim.host.memory_model import MemoryModel
from systolith.sim.stimulus.broken_program import BrokenProgram, broken_program
from systolith.sim.stimulus.host_parts.mixed_network import random_host_network
from systolith.sim.stimulus.layers import random_layer
from systolith.sim.stimulus.network import random_network
from systolith.sim.stimulus.program import RandomProgram, random_program
from systolith.sim.stimulus.tensors import SeededDraws

__all__ = ["CONFIGS", "Case", "Verdict", "campaign", "main", "make_case", "run_case"]

_TINY, _ECP5, _EDGE16, _EDGE32 = (PRESETS[name] for name in ("tiny4", "ecp5_8", "edge16", "edge32"))
CONFIGS = (
    _TINY,
    replace(_TINY, name="tiny4_least", act_depth=128, act_banks=1, weight_depth=32, acc_depth=16, param_depth=4,
            sfu_lanes=1, axi_burst=1, axi_outstanding=1, axi_buffer=16, queue_depth=2, token_bits=2),
    replace(_TINY, name="tiny4_wide", sfu_lanes=4, act_banks=8, axi_data_bits=256, axi_addr_bits=64, dw_taps=9,
            dw_depth=64),
    _ECP5,
    replace(_ECP5, name="n8_wide", sfu_lanes=8, act_banks=16, axi_data_bits=256, axi_burst=128, dw_taps=3),
    replace(_ECP5, name="n12", array=12, sfu_lanes=4, act_depth=3 * 512, act_banks=3, axi_data_bits=128,
            dw_taps=1, dw_depth=32),
    replace(_ECP5, name="n12_small", array=12, sfu_lanes=1, act_depth=256, act_banks=2, weight_depth=100, acc_depth=32,
            param_depth=8, queue_depth=3, token_bits=2),
    _EDGE16,
    replace(_EDGE16, name="n16_small", sfu_lanes=2, act_depth=512, weight_depth=64, acc_depth=64, param_depth=8,
            axi_data_bits=64, axi_outstanding=2, queue_depth=2),
    replace(_EDGE32, name="n32", act_depth=2048, act_banks=2, weight_depth=1024, acc_depth=128, sfu_lanes=8,
            axi_data_bits=128),
)  # fmt: skip
"""Array sizes 4 to 32, depthwise units of all kinds and none, SFU lanes 1 to N, AXI of 64 to 256 bits, 1 to 16 banks,
queues from 2, memories from tight."""

MAX_CYCLES = 100_000_000
BROKEN, PROGRAMS, NETWORKS = 0.05, 0.2, 0.4
"""Shares of cases that are broken programs, programs, and whole networks."""
UNCOMPARED = ("refused", "no values")
"""Verdicts on cases that were not compared."""
NOTHING = "nothing of it can run on the accelerator"
"""What the compiler says of a network that has no part for the accelerator."""


@dataclass(frozen=True)
class Case:
    """A random layer, chain of layers or network, `model`, or a random program, on one accelerator with one memory; a
    `program` with `broken` is one that runs after that."""

    seed: int
    config: Config
    memory: MemoryModel
    model: bytes = b""
    inputs: dict[str, NDArray] = field(default_factory=dict)
    program: RandomProgram | None = None
    broken: BrokenProgram | None = None


@dataclass(frozen=True)
class Verdict:
    """What became of a case; `kind` is one of

    - "equal": to golden and to ONNX Runtime, bit for bit,
    - "equal program": to the instruction simulator, bit for bit,
    - "equal fault": one that the instruction simulator allows,
    - "one step": equal to golden, within a step of ONNX Runtime, which computed it in float,
    - "golden only": equal to golden; this processor's ONNX Runtime saturates,
    - "refused": by the compiler; a network with host parts only if nothing of it can run on the accelerator,
    - "no values": a network with host parts that ONNX Runtime refuses for these inputs, with parts and without,
    - "FAILED": anything else.
    """

    seed: int
    kind: str
    config: str
    cycles: int = 0
    message: str = ""


def make_case(seed: int, host: bool = False) -> Case:
    """Case number `seed`; with `host`, that among networks with host parts."""
    rng = np.random.default_rng(seed)
    config = _config(rng)
    memory = MemoryModel(
        read_latency=int(rng.integers(1, 150)),
        write_latency=int(rng.integers(1, 60)),
        bandwidth=float(rng.choice([1.0, 1.0, 0.5, 0.13])),
        stall=float(rng.choice([0.0, 0.1, 0.5, 0.9])),
        outstanding=int(rng.choice([1, 2, 5, 64])),
        seed=seed,
    )
    if host:
        network = random_host_network(SeededDraws(rng))
        return Case(seed, config, memory, network.model, network.inputs)
    kind = rng.random()
    if kind < BROKEN:
        broken = broken_program(rng, config)
        return Case(seed, config, memory, program=random_program(rng, config), broken=broken)
    if kind < BROKEN + PROGRAMS:
        return Case(seed, config, memory, program=random_program(rng, config))
    if kind < BROKEN + PROGRAMS + NETWORKS:
        network = random_network(SeededDraws(rng))
        return Case(seed, config, memory, network.model, network.inputs)
    model, inputs = random_layer(rng)
    return Case(seed, config, memory, model, inputs)


def _config(rng: np.random.Generator) -> Config:
    """What a case draws first."""
    return CONFIGS[rng.integers(len(CONFIGS))]


def run_case(seed: int, backend: str = "rtl", host: bool = False) -> Verdict:
    """Compile, run and compare one case. Whatever goes wrong after compilation is a failure, with its message."""
    case = make_case(seed, host)
    if case.program and case.broken:
        return _run_broken(case, case.broken, case.program, backend)
    if case.program:
        return _run_program(case, case.program, backend)
    try:
        return _run_model(case, backend, host)
    except Exception as error:
        return Verdict(seed, "FAILED", case.config.name, message=f"{type(error).__name__}: {error}")


def _run_model(case: Case, backend: str, host: bool) -> Verdict:
    """Raises whatever goes wrong."""
    from systolith.compiler.network import compile_network
    from systolith.sim.compare.outputs import check
    from systolith.sim.compare.whole_network import has_values, judge
    from systolith.sim.run import Options, run

    try:
        program = compile_network(case.model, case.config)
    except SystolithError as error:
        if host and NOTHING not in str(error):
            raise
        return Verdict(case.seed, "refused", case.config.name, message=str(error))
    try:
        options = Options(case.memory, case.seed, max_cycles=MAX_CYCLES)
        outputs, report = run(program, case.inputs, case.config, backend, options)
    except SystolithError as error:
        if host and not has_values(program, case.inputs):
            return Verdict(case.seed, "no values", case.config.name, message=str(error))
        raise
    found = check(program, case.inputs, outputs, case.model)
    cycles = report["cycles"] or 0
    if not found.passed:
        counts = f"{found.golden} elements differ from golden, {found.onnxruntime} from ONNX Runtime"
        message = f"{counts}, {found.host} of host parts from the whole model, {found.read} by reading"
        return Verdict(case.seed, "FAILED", case.config.name, cycles, message)
    if host and (wrong := judge(program, case.inputs, outputs).wrong):
        return Verdict(case.seed, "FAILED", case.config.name, cycles, "; ".join(wrong))
    kind = "golden only" if found.onnxruntime is None else "one step" if found.rounding else "equal"
    return Verdict(case.seed, kind, case.config.name, cycles)


def _run_program(case: Case, program: RandomProgram, backend: str) -> Verdict:
    try:
        different, cycles = compare(program, case.config, backend, case.memory, case.seed)
    except Exception as error:
        return Verdict(case.seed, "FAILED", case.config.name, message=f"{type(error).__name__}: {error}")
    if different:
        message = f"{different} bytes differ from the instruction simulator"
        return Verdict(case.seed, "FAILED", case.config.name, cycles, message)
    return Verdict(case.seed, "equal program", case.config.name, cycles)


def _run_broken(case: Case, broken: BrokenProgram, after: RandomProgram, backend: str) -> Verdict:
    """On the RTL, and with units in another order on every other backend."""
    try:
        if backend == "rtl":
            message = compare_fault(broken, after, case.config, case.memory, case.seed)
        else:
            message = compare_orders(broken, case.config, case.seed)
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
    return Verdict(case.seed, "FAILED" if message else "equal fault", case.config.name, message=message)


def campaign(seeds: Iterator[int], layers: int, backend: str, workers: int, host: bool = False) -> Iterator[Verdict]:
    """Verdicts as they come, until `layers` cases were compared (those that are refused or have no values do not
    count)."""
    compared = 0
    running: dict[int, Future[Verdict]] = {}
    while compared < layers:
        try:
            with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
                while compared < layers:
                    while len(running) < min(2 * workers, layers - compared):
                        seed = next(seeds)
                        running[seed] = pool.submit(run_case, seed, backend, host)
                    wait(running.values(), return_when=FIRST_COMPLETED)
                    for seed in [seed for seed, future in running.items() if future.done()]:
                        verdict = running[seed].result()
                        del running[seed]
                        compared += verdict.kind not in UNCOMPARED
                        yield verdict
        except BrokenProcessPool:  # One of those that were running ended its process, and so the pool.
            for seed in list(running):
                del running[seed]
                verdict = _alone(seed, backend, host)
                compared += verdict.kind not in UNCOMPARED
                yield verdict


def _alone(seed: int, backend: str, host: bool) -> Verdict:
    """A case in a process of its own, which it may end."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(run_case, seed, backend, host).result()
        except BrokenProcessPool:
            config = _config(np.random.default_rng(seed))  # To make the case may be what ends a process.
            return Verdict(seed, "FAILED", config.name, message="the process died")


def main(arguments: list[str] | None = None) -> int:
    """The command; exit code 1 if a case failed."""
    parser = argparse.ArgumentParser(prog="systolith.sim.campaign", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--host", action="store_true", help="networks of which the host runs a part")
    parser.add_argument("--layers", type=int, default=600, help="cases to compare")
    parser.add_argument("--seed", type=int, default=1, help="first seed")
    parser.add_argument("--only", type=int, help="repeat the case of this seed")
    parser.add_argument("--backend", default="rtl", help="rtl, cocotb or isa")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    options = parser.parse_args(arguments)
    if options.only is not None:
        case = make_case(options.only, options.host)
        print(case.config.to_toml(), case.memory, {name: x.shape for name, x in case.inputs.items()}, sep="\n")
        verdicts = iter([run_case(options.only, options.backend, options.host)])
    else:
        verdicts = campaign(count(options.seed), options.layers, options.backend, options.workers, options.host)
    return summarize(verdicts, " --host" if options.host else "")


def summarize(verdicts: Iterator[Verdict], options: str = "") -> int:
    """Print failures as they come and a line every ten seconds, then the sums. Returns the exit code. `options` are
    those that repeat a case, besides --only."""
    begin = said = time.monotonic()
    kinds: Counter[str] = Counter()
    configs: Counter[str] = Counter()
    cycles = 0
    for verdict in verdicts:
        kinds[verdict.kind] += 1
        configs[verdict.config] += verdict.kind not in UNCOMPARED
        cycles += verdict.cycles
        if verdict.kind in ("FAILED", *UNCOMPARED):
            print(f"seed {verdict.seed} on {verdict.config}: {verdict.kind}: {verdict.message}", flush=True)
        if verdict.kind == "FAILED":
            print(f"  repeat: {sys.executable} -m systolith.sim.campaign{options} --only {verdict.seed}", flush=True)
        if time.monotonic() - said > 10:
            said = time.monotonic()
            print(f"{said - begin:4.0f} s: {_sums(kinds)}", flush=True)
    print(f"by configuration: {_sums(configs)}")
    print(f"{cycles:,} cycles in {time.monotonic() - begin:.0f} s: {_sums(kinds)}")
    return 1 if kinds["FAILED"] else 0


def _sums(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in sorted(counts.items()))


if __name__ == "__main__":
    sys.exit(main())
