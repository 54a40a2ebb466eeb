"""The native harness: its memory and protocol checks on a stub with known faults, then the accelerator itself."""

from pathlib import Path

import numpy as np
import pytest

from systolith import PRESETS, SystolithError
from systolith.isa import Region
from systolith.program import Program, Tensor
from systolith.sim.host.fault import HardwareFault
from systolith.sim.host.memory_image import Image, build
from systolith.sim.host.memory_model import MemoryModel
from systolith.sim.rtl import native_backend, native_build
from systolith.sim.rtl.native_backend import Accelerator, ProtocolError
from tests.support.seeds import seeds

pytestmark = pytest.mark.rtl

TINY = PRESETS["tiny4"]
STUB = (Path(__file__).parents[2] / "support" / "stub_master.v").read_text()


def stub(**values: int) -> str:
    """The stub's Verilog, for tiny4 unless `low` says otherwise."""
    low = values.get("low", TINY.fingerprint & 0xFFFF_FFFF)
    return STUB.replace("FINGERPRINT_LO", f"32'd{low}").replace("FINGERPRINT_HI", f"32'd{TINY.fingerprint >> 32}")


def copy_image() -> Image:
    tensors = [Tensor(name, (1, 4, 4, 2), "int8", region, 0, (1, 4, 4, 2), (0, 1, 2, 3))
               for name, region in (("x", Region.INPUT), ("y", Region.OUTPUT))]  # fmt: skip
    program = Program(TINY.fingerprint, 4, b"", b"", (tensors[0],), (tensors[1],))
    return build(program, {"x": np.arange(32, dtype=np.int8).reshape(1, 4, 4, 2)})


def run_stub(mode: int = 0, image: Image | None = None, waves: Path | None = None, source: str | None = None,
             max_cycles: int = 100_000, **memory):  # fmt: skip
    library = native_build.build(source or stub(), TINY, waves.suffix[1:] if waves else None)
    with Accelerator(TINY, image or copy_image(), b"", MemoryModel(**memory), waves, library) as accelerator:
        return accelerator.run(mode, max_cycles)


def test_memory_copies():
    image = copy_image()
    before = image.copy()
    run_stub(image=image)
    assert np.array_equal(image.region(Region.OUTPUT), image.region(Region.INPUT))
    assert image.stray_writes(before) == []


@seeds(5)
def test_memory_copies_under_stalls(seed: int):
    image = copy_image()
    run_stub(image=image, stall=0.6, seed=seed, bandwidth=0.3, outstanding=1)
    assert np.array_equal(image.region(Region.OUTPUT), image.region(Region.INPUT))


def test_latency_and_bandwidth_are_as_set():
    # The first beat comes `latency` cycles after its address; four beats go each way.
    fast = run_stub(read_latency=1, write_latency=1).cycles
    assert run_stub(read_latency=64, write_latency=1).cycles == fast + 63
    assert run_stub(read_latency=1, write_latency=16).cycles == fast + 15
    assert run_stub(read_latency=1, write_latency=1, bandwidth=0.25).cycles == fast + 2 * 3 * 3


@pytest.mark.parametrize(("mode", "stall", "message"), [
    (1, 0.95, "arvalid and its payload must stay"),
    (2, 0, "must not cross 4 KiB"),
    (3, 0, "wlast must mark the last beat"),
    (4, 0.95, "wvalid and its payload must stay"),
    (5, 0, "must stay inside the memory"),
])  # fmt: skip
def test_protocol_checks(mode: int, stall: float, message: str):
    with pytest.raises(ProtocolError, match=message):
        run_stub(mode, stall=stall)


@pytest.mark.parametrize(("region", "code"), [(Region.INPUT, "AXI_READ"), (Region.OUTPUT, "AXI_WRITE")])
def test_error_responses(region: Region, code: str):
    base = copy_image().bases[region]
    with pytest.raises(HardwareFault) as caught:
        run_stub(error=(base + 8, base + 16))
    assert caught.value.code == code


def test_another_accelerator_is_refused():
    with pytest.raises(SystolithError, match="must have id 53595354 and fingerprint"):
        run_stub(source=stub(low=1))


def test_no_end_is_reported():
    with pytest.raises(SystolithError, match="must finish within 10 cycles"):
        run_stub(max_cycles=10)


@pytest.mark.parametrize(("field", "value"), [("bandwidth", 0.0), ("stall", 1.0), ("read_latency", 0)])
def test_memory_settings_are_checked(field: str, value: float):
    with pytest.raises(SystolithError, match=f"Memory's {field} must be"):
        MemoryModel(**{field: value})


@pytest.mark.parametrize(("suffix", "magic"), [("vcd", b"$version"), ("fst", b"\0")])
def test_waves(tmp_path: Path, suffix: str, magic: bytes):
    path = tmp_path / f"dump.{suffix}"
    run_stub(waves=path)
    assert path.read_bytes().startswith(magic)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_waves_are_whole_or_not_there(tmp_path: Path, monkeypatch):
    path = tmp_path / "dump.vcd"
    with pytest.raises(SystolithError, match="must finish within 50 cycles"):
        run_stub(waves=path, max_cycles=50)
    assert path.read_bytes().endswith(b"\n")  # What a failed run leaves is what one wants to see.
    path.write_bytes(b"before")

    def interrupted(*_):
        assert sorted(tmp_path.iterdir()) != [path]  # It is being written beside.
        raise KeyboardInterrupt

    monkeypatch.setattr(Accelerator, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_stub(waves=path)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_waves_on_a_full_disk(tmp_path: Path, monkeypatch):
    path = tmp_path / "dump.vcd"
    monkeypatch.setattr(native_backend, "ROOM", 1 << 62)
    with pytest.raises(SystolithError, match=r"dump\.vcd: cannot be written: the disk is full"):
        run_stub(waves=path)
    assert not list(tmp_path.iterdir())


def test_waves_need_a_file(tmp_path: Path):
    for name, message in (("/dev/null", "must go to a .vcd or .fst file"), ("none/w.vcd", "No such file or directory")):
        with pytest.raises(SystolithError, match=message):
            Accelerator(TINY, copy_image(), waves=tmp_path / name)
    (tmp_path / "pipe.vcd").symlink_to("/dev/null")
    with pytest.raises(SystolithError, match="Waves must go to a regular file, not "):
        Accelerator(TINY, copy_image(), waves=tmp_path / "pipe.vcd")
