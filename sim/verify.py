"""Runs the cocotb testbenches on one configuration: every module `sim/testbench/*_bench.py`, with one or more seeds.

Each has `NAME` and `component(config)`; one that is not for every configuration has `applies(config)`. Its cocotb tests
live in the same module. Runs go two at a time, each in a process of its own; the first run of a testbench builds it,
later ones find it in the cache.
"""

import importlib
import pkgutil
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context

from systolith.config import Config
from systolith.errors import SystolithError
from systolith.sim import testbench
from systolith.sim.rtl.bench_runner import Result, run_bench

__all__ = ["Outcome", "names", "verify"]


@dataclass
class Outcome:
    """What the runs of one testbench came to. `failed` maps the seeds of failed runs to their logs."""

    name: str
    runs: int = 0
    tests: int = 0
    cycles: int = 0
    coverage: dict[str, int] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)

    def add(self, seed: int, result: Result) -> None:
        self.runs += 1
        self.tests += result.tests
        self.cycles += result.cycles
        for point, count in result.coverage.items():
            self.coverage[point] = self.coverage.get(point, 0) + count
        if not result.passed:
            self.failed[seed] = result.log


def names() -> dict[str, str]:
    """Module of each testbench by its NAME, in alphabetical order."""
    modules = [info.name for info in pkgutil.iter_modules(testbench.__path__, f"{testbench.__name__}.")]
    found = {importlib.import_module(module).NAME: module for module in modules if module.endswith("_bench")}
    return dict(sorted(found.items()))


def verify(
    config: Config, seeds: range, only: str | None = None, workers: int = 2
) -> Iterator[tuple[Outcome, int, Result]]:
    """Run the testbenches; yields after each run the testbench's outcome so far, the seed, and the run's result.

    Raises SystolithError if the configuration has no testbench named `only`.
    """
    modules = {name: module for name, module in names().items() if _applies(module, config)}
    if only is not None and only not in modules:
        raise SystolithError(f"Testbench must be one of {', '.join(modules)} for '{config.name}', not '{only}'")
    chosen = [only] if only is not None else list(modules)
    outcomes = {name: Outcome(name) for name in chosen}
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        # Seeds outermost: two runs of one testbench would wait for the same build.
        jobs: dict[Future[Result], tuple[str, int]] = {
            pool.submit(_run, modules[name], config, seed): (name, seed) for seed in seeds for name in chosen
        }
        try:
            for job in as_completed(jobs):
                name, seed = jobs[job]
                result = job.result()
                outcomes[name].add(seed, result)
                yield outcomes[name], seed, result
        finally:
            pool.shutdown(cancel_futures=True)


def _applies(module: str, config: Config) -> bool:
    """Whether the configuration has what the testbench is for; one that does not say so is for all."""
    return getattr(importlib.import_module(module), "applies", lambda _: True)(config)


def _run(module: str, config: Config, seed: int) -> Result:
    """One run, in a process of its own."""
    return run_bench(importlib.import_module(module).component(config), module, config, seed)
