"""Builds a testbench's Verilog with Verilator, once for each content, and runs its cocotb tests with a seed.

A build is keyed by a hash of Verilog, flags and tool version, locked while it is made, and reused by every later run.
"""

import contextlib
import hashlib
import importlib.metadata
import io
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from amaranth.lib.wiring import Component
from filelock import FileLock

from systolith.config import Config
from systolith.hw.verilog import WAIVERS, emit
from systolith.sim.toolchain import cache_for, verilator

__all__ = ["Result", "run_bench"]


@dataclass(frozen=True)
class Result:
    """Outcome of one run. `cycles` and `coverage` are summed over its tests; `log` is the simulator's output."""

    passed: bool
    tests: int
    cycles: int
    coverage: dict[str, int]
    log: str


def run_bench(
    component: Component,
    module: str,
    config: Config,
    seed: int = 1,
    top: str = "bench_top",
    options: Mapping[str, Any] | None = None,
    testcase: str | None = None,
) -> Result:
    """Verilate `component` and run the cocotb tests of Python module `module` against it.

    `options` is any JSON the tests want (read as `Environment.options`), `testcase` one test's name.
    """
    from cocotb_tools.check_results import get_results  # pyright: ignore[reportMissingImports]
    from cocotb_tools.config import libs_dir
    from cocotb_tools.runner import get_runner

    folder = _build(emit(component, top), top)
    with tempfile.TemporaryDirectory(prefix="systolith_bench_") as scratch:
        report, results = Path(scratch) / "report.json", Path(scratch) / "results.xml"
        log = Path(scratch) / "log.txt"
        environment = {
            "SYSTOLITH_BENCH_CONFIG": json.dumps(asdict(config)),
            "SYSTOLITH_BENCH_SEED": str(seed),
            "SYSTOLITH_BENCH_OPTIONS": json.dumps(dict(options or {})),
            "SYSTOLITH_BENCH_REPORT": str(report),
            "COCOTB_LOG_LEVEL": "INFO",
            "NO_COLOR": "1",
            # The build names the cocotb of the environment that made it, which may be gone by now.
            "LD_LIBRARY_PATH": os.pathsep.join(filter(None, [str(libs_dir), os.environ.get("LD_LIBRARY_PATH")])),
        }
        runner = get_runner("verilator")
        failed, tests = True, 0
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
            runner.test(
                hdl_toplevel=top,
                hdl_toplevel_lang="verilog",
                test_module=module,
                build_dir=folder,
                test_dir=scratch,
                results_xml=str(results),
                extra_env=environment,
                log_file=log,
                testcase=testcase,
            )
        if results.exists():
            tests, failures = get_results(results)
            failed = failures > 0 or tests == 0
        reports = json.loads(report.read_text()) if report.exists() else []
        coverage: dict[str, int] = {}
        for entry in reports:
            for point, count in entry["coverage"].items():
                coverage[point] = coverage.get(point, 0) + count
        return Result(
            not failed,
            tests,
            sum(entry["cycles"] for entry in reports),
            coverage,
            log.read_text(errors="replace") if log.exists() else "",
        )


def _build(source: str, top: str) -> Path:
    """The folder of a finished build of this Verilog; makes it if it is not there yet."""
    from cocotb_tools.runner import get_runner

    tool = verilator()
    tool.apply()
    arguments = ["-O3", "--x-assign", "fast", "--noassert"]
    key = hashlib.sha256(
        "\0".join([source, top, *arguments, WAIVERS, tool.version, importlib.metadata.version("cocotb")]).encode()
    ).hexdigest()[:20]
    folder = cache_for("cocotb") / f"{top}_{key}"
    with FileLock(f"{folder}.lock"):
        if not (folder / "finished").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            (folder / f"{top}.v").write_text(source)
            (folder / "waivers.vlt").write_text(WAIVERS)
            with (folder / "build.log").open("w") as log, contextlib.redirect_stdout(log):
                get_runner("verilator").build(
                    sources=[folder / "waivers.vlt", folder / f"{top}.v"],
                    hdl_toplevel=top,
                    build_dir=folder,
                    build_args=arguments,
                    log_file=folder / "verilator.log",
                )
            (folder / "finished").write_text("")
    os.utime(folder / "finished")
    return folder
