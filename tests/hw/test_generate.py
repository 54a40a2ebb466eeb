"""The generator: its files, what they say, C and Verilog that tools accept, and folders it cannot write."""

import re
import shutil
import subprocess
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from systolith import isa, program, registers
from systolith.config import PRESETS, load_config
from systolith.errors import SystolithError
from systolith.hw.c_header import c_header
from systolith.hw.generate import generate
from systolith.hw.lib.verilog import WAIVERS
from systolith.sim.rtl.lint import lint

TINY = PRESETS["tiny4"]
C_FLAGS = ("-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror")
LINTED = {
    "tiny4": TINY,
    "edge16": PRESETS["edge16"],
    "smallest": replace(TINY, axi_outstanding=1, axi_burst=1, axi_buffer=2, queue_depth=2, act_banks=1, sfu_lanes=1),
    "12x12": replace(TINY, array=12, act_depth=96, act_banks=3, sfu_lanes=3, axi_data_bits=256, axi_addr_bits=64),
    "depthwise of 1 tap": replace(TINY, dw_taps=1, dw_depth=8),
    "depthwise of 3 taps": PRESETS["edge16_dw"],
    "depthwise of 9 taps": replace(TINY, dw_taps=9, act_banks=1, act_depth=64),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("generate") / "new" / "folder"
    names = ["tiny4.v", "tiny4.toml", "tiny4_registers.md", "systolith.h", "waivers.vlt"]
    assert generate(TINY, made) == [made / name for name in names]
    assert sorted(path.name for path in made.iterdir()) == sorted(names)
    return made


@pytest.mark.slow
def test_configuration_can_be_read_back(folder: Path):
    assert load_config(str(folder / "tiny4.toml")) == TINY


@pytest.mark.slow
def test_verilog_has_the_standard_ports(folder: Path):
    text = (folder / "tiny4.v").read_text()
    ports = re.search(r"^module systolith\((.*?)\);", text, re.S | re.M)
    assert ports
    names = set(re.findall(r"\w+", ports[1]))
    expected = {"aclk", "aresetn", "irq"}
    memory_address = "id addr len size burst lock cache prot valid ready"
    memory = {"aw": memory_address, "w": "data strb last valid ready", "b": "id resp valid ready"}
    memory |= {"ar": memory_address, "r": "id data resp last valid ready"}
    expected |= {f"m_axi_{channel}{signal}" for channel, signals in memory.items() for signal in signals.split()}
    lite = {"aw": "addr prot valid ready", "w": "data strb valid ready", "b": "resp valid ready"}
    lite |= {"ar": "addr prot valid ready", "r": "data resp valid ready"}
    expected |= {f"s_axil_{channel}{signal}" for channel, signals in lite.items() for signal in signals.split()}
    assert names == expected
    for unit in ("load_w", "load_a", "execute", "sfu", "store"):
        assert f" retire_{unit}_valid;" in text and f"[23:0] retire_{unit}_index;" in text
    assert "depthwise" not in text
    assert str(Path.cwd()) not in text


@pytest.mark.slow
def test_depthwise_unit_where_there_is_one(tmp_path: Path):
    generate(replace(TINY, dw_taps=1), tmp_path)
    text = (tmp_path / "tiny4.v").read_text()
    assert " retire_depthwise_valid;" in text and "[23:0] retire_depthwise_index;" in text


@pytest.mark.slow
def test_same_configuration_same_files(folder: Path, tmp_path: Path):
    for path in generate(TINY, tmp_path):
        assert path.read_bytes() == (folder / path.name).read_bytes()


@pytest.mark.slow
def test_register_map(folder: Path):
    text = (folder / "tiny4_registers.md").read_text()
    assert all(f"`{r.name}`" in text for r in registers.REGISTERS if not r.name.startswith("region"))


@pytest.mark.slow
@pytest.mark.parametrize("name", LINTED)
def test_verilog_passes_lint(name: str):
    assert lint(replace(LINTED[name], name="linted")) == ""


def test_every_waiver_has_a_reason():
    lines = WAIVERS.splitlines()
    for above, line in pairwise(lines):
        assert not line.startswith("lint_off") or above.startswith("//")


def samples() -> list[isa.Instruction]:
    """Each format with its fields at both ends of their ranges, and in between."""
    forms = dict.fromkeys([*isa.CONFIG_FORMATS.values(), *isa.FORMATS.values()])
    result = []
    for form in forms:
        for pick in (lambda f: f.low, lambda f: f.high, lambda f: (f.low + 3 * f.high) // 4):
            values = {f.name: pick(f) for f in form.fields}
            result.append(isa.make(form.name, wait=0b10101, signal=0b01010, **values))
    return result


@pytest.mark.slow
def test_c_encoders_agree_with_python(folder: Path, tmp_path: Path):
    calls = []
    for sample in samples():
        arguments = ", ".join(
            f"{v}u" if v >= 0 else str(v) for v in (sample.wait, sample.signal, *sample.values.values())
        )
        calls.append(f"    put(systolith_{sample.form.name.lower().replace('.', '_')}({arguments}));")
    source = ["#include <stdio.h>", '#include "systolith.h"',
              "static void put(struct systolith_instruction w)",
              '{ printf("%016llx%016llx\\n", (unsigned long long)w.high, (unsigned long long)w.low); }',
              "int main(void)", "{", *calls, "    return 0;", "}", ""]  # fmt: skip
    expected = [f"{int.from_bytes(isa.encode(sample), 'little'):032x}" for sample in samples()]
    assert compiled(folder, tmp_path, "\n".join(source)).split() == expected


@pytest.mark.slow
def test_c_header_reads_a_program_file(folder: Path, tmp_path: Path):
    tensor = program.Tensor("x", (1, 4, 2, 2), "int8", isa.Region.INPUT, 0, (1, 4, 2, 2), (0, 1, 2, 3))
    code = isa.encode_program([isa.make("END")])
    path = tmp_path / "net.slp"
    output = replace(tensor, region=isa.Region.OUTPUT)
    program.save(program.Program(TINY.fingerprint, TINY.array, code, b"weights", (tensor,), (output,), 640), path)
    source = r"""
#include <stdio.h>
#include <string.h>
#include "systolith.h"
static uint8_t file[65536];
int main(int count, char **arguments)
{
    FILE *stream = fopen(arguments[count - 1], "rb");
    if (!stream || fread(file, 1, sizeof file, stream) < SYSTOLITH_FILE_HEADER_BYTES)
        return 1;
    const uint32_t sections = systolith_u32(file + SYSTOLITH_FILE_HEADER_SECTIONS);
    printf("%d %d ", !memcmp(file, SYSTOLITH_FILE_MAGIC, 8),
           systolith_u64(file + SYSTOLITH_FILE_HEADER_FINGERPRINT) == SYSTOLITH_FINGERPRINT);
    printf("%u ", (unsigned)systolith_u64(file + SYSTOLITH_FILE_HEADER_SCRATCH_BYTES));
    for (uint32_t i = 0; i < sections; ++i) {
        const uint8_t *entry = file + SYSTOLITH_FILE_HEADER_BYTES + i * SYSTOLITH_FILE_SECTION_BYTES;
        if (systolith_u32(entry + SYSTOLITH_FILE_SECTION_KIND) == SYSTOLITH_SECTION_WEIGHTS)
            printf("%.*s\n", (int)systolith_u64(entry + SYSTOLITH_FILE_SECTION_SIZE),
                   (const char *)file + systolith_u64(entry + SYSTOLITH_FILE_SECTION_OFFSET));
    }
    return 0;
}
"""
    assert compiled(folder, tmp_path, source, str(path)).split() == ["1", "1", "640", "weights"]


def test_c_header_alone_compiles_for_every_preset(tmp_path: Path):
    for config in PRESETS.values():
        (tmp_path / "systolith.h").write_text(c_header(config))
        assert (
            compiled(tmp_path, tmp_path, '#include "systolith.h"\nint main(void) { return SYSTOLITH_ARRAY == 0; }\n')
            == ""
        )


def compiled(include: Path, scratch: Path, source: str, *arguments: str) -> str:
    """Output of a C program that includes the generated header."""
    compiler = shutil.which("gcc") or shutil.which("g++")
    (scratch / "main.c").write_text(source)
    command = [compiler, *C_FLAGS, "-x", "c", "-I", str(include), "main.c", "-o", "main"]
    built = subprocess.run(command, cwd=scratch, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return subprocess.run([scratch / "main", *arguments], capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
def test_folder_that_is_a_file(tmp_path: Path):
    place = tmp_path / "file"
    place.write_text("mine")
    with pytest.raises(SystolithError, match="file: cannot be written: File exists"):
        generate(TINY, place)
    assert place.read_text() == "mine"


@pytest.mark.slow
def test_folder_below_a_file(tmp_path: Path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(SystolithError, match="cannot be written: Not a directory"):
        generate(TINY, tmp_path / "file" / "folder")


@pytest.mark.slow
def test_file_that_cannot_be_replaced_leaves_the_others(tmp_path: Path):
    (tmp_path / "tiny4.v").write_text("mine")
    (tmp_path / "systolith.h").mkdir()
    with pytest.raises(SystolithError, match=r"systolith\.h: cannot be written: there is a folder of this name"):
        generate(TINY, tmp_path)
    assert (tmp_path / "tiny4.v").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["systolith.h", "tiny4.v"]
