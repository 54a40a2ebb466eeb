"""Builds a testbench's Verilog with Verilator, once for each content, and runs its cocotb tests with a seed.

A build is keyed by a hash of Verilog, flags and tool version, locked while it is made, and reused by every later run.
"""

import contextlib
import hashlib
import importlib.metadata
import io
import json
import os
import platform
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from amaranth.lib.wiring import Component

from systolith.config import Config
from systolith.errors import SystolithError
from systolith.hw.lib.verilog import WAIVERS, emit
from systolith.sim.rtl.kept_build import build_failure, kept_build
from systolith.sim.rtl.plain_paths import plain_folder, plain_link
from systolith.sim.rtl.toolchain import cache_for, verilator

__all__ = ["Result", "run_bench"]

ARGUMENTS = ("-O3", "--x-assign", "fast", "--noassert")
FINISHED = "finished"
LOG = "verilator.log"


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
        try:
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
        except PermissionError as error:  # A file system without programs, say.
            raise SystolithError(
                f"{folder}: its simulator cannot be run: {error.strerror}; set SYSTOLITH_CACHE to another folder"
            ) from None
        if results.exists():
            tests, failures = get_results(results)
            failed = failures > 0 or tests == 0
        reports = json.loads(report.read_text(encoding="utf-8")) if report.exists() else []
        coverage: dict[str, int] = {}
        for entry in reports:
            for point, count in entry["coverage"].items():
                coverage[point] = coverage.get(point, 0) + count
        return Result(
            not failed,
            tests,
            sum(entry["cycles"] for entry in reports),
            coverage,
            log.read_text(encoding="utf-8", errors="replace") if log.exists() else "",
        )


def _build(source: str, top: str) -> Path:
    """The folder of a finished build of this Verilog; makes it if it is not there yet."""
    tool = verilator()
    tool.apply()
    parts = [source, top, *ARGUMENTS, WAIVERS, tool.version, importlib.metadata.version("cocotb"), platform.machine()]
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]
    folder = cache_for("cocotb") / f"{top}_{key}"
    kept_build(folder, FINISHED, lambda empty: _make(empty, source, top))
    return folder


def _make(folder: Path, source: str, top: str) -> None:
    from cocotb_tools import config
    from cocotb_tools.runner import get_runner

    # They go into a makefile.
    config.libs_dir, config.share_dir = plain_link(config.libs_dir), plain_link(config.share_dir)
    built = False
    with plain_folder(folder) as work:
        (work / f"{top}.v").write_text(source, encoding="utf-8")
        (work / "waivers.vlt").write_text(WAIVERS, encoding="utf-8")
        log = (work / "build.log").open("w", encoding="utf-8")
        with log, contextlib.redirect_stdout(log), contextlib.suppress(RuntimeError, SystemExit):
            get_runner("verilator").build(
                sources=[work / "waivers.vlt", work / f"{top}.v"],
                hdl_toplevel=top,
                build_dir=work,
                build_args=list(ARGUMENTS),
                log_file=work / LOG,
            )
            built = True
    if not built:
        raise build_failure("Verilator or make", folder / LOG)
    (folder / FINISHED).write_text("")
