"""The register map: aligned, inside its address space, without overlaps, offsets as documented."""

from systolith import registers
from systolith.registers import COUNTERS, REGISTERS


def test_names_and_offsets_are_unique_and_aligned():
    assert len({r.name for r in REGISTERS}) == len({r.offset for r in REGISTERS}) == len(REGISTERS)
    assert all(r.offset % 4 == 0 and 0 <= r.offset < 1 << registers.ADDRESS_BITS for r in REGISTERS)
    assert {r.access for r in REGISTERS} == {"ro", "rw", "wo"}


def test_counters_are_pairs_of_words():
    offsets = {r.name: r.offset for r in REGISTERS}
    for index, (name, *_) in enumerate(COUNTERS):
        assert offsets[f"{name}_lo"] == registers.counter_offset(index) == offsets[f"{name}_hi"] - 4, name


def test_regions():
    offsets = {r.name: r.offset for r in REGISTERS}
    for region in range(registers.REGIONS):
        for part in ("base_lo", "base_hi", "limit_lo", "limit_hi"):
            assert offsets[f"region{region}_{part}"] == registers.region_offset(region, part), (region, part)


def test_fixed_points():
    offsets = {r.name: r.offset for r in REGISTERS}
    assert (offsets["id"], offsets["control"], offsets["status"], offsets["cycles_lo"]) == (0x00, 0x10, 0x14, 0x100)
    assert registers.MAGIC.to_bytes(4, "big") == b"SYST"
