"""Our stand-ins for lz4 and zlib, which the FST writer uses: what they write must be what was put in."""

import random
import subprocess
import zlib
from pathlib import Path

import pytest

from systolith.sim.rtl.native_build import NATIVE

PROGRAM = """
#include <cstdio>
#include <vector>
#include "lz4.h"
#include "zlib.h"
int main(int, char** arguments) {
    std::vector<char> in, out;
    for (int c; (c = std::getchar()) != EOF;) in.push_back(static_cast<char>(c));
    if (arguments[1][0] == 'l') {
        out.resize(LZ4_compressBound(in.size()));
        out.resize(LZ4_compress_default(in.data(), out.data(), in.size(), out.size()));
    } else {
        uLongf size = compressBound(in.size());
        out.resize(size);
        if (compress2((Bytef*)out.data(), &size, (const Bytef*)in.data(), in.size(), 9) != Z_OK) return 1;
        out.resize(size);
    }
    std::fwrite(out.data(), 1, out.size(), stdout);
}
"""


@pytest.fixture(scope="module")
def compressor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compressor")
    (folder / "main.cpp").write_text(PROGRAM)
    subprocess.run(["g++", "-I", NATIVE / "fst", "-o", folder / "main", folder / "main.cpp"], check=True)
    return folder / "main"


def unlz4(data: bytes) -> bytes:
    """LZ4 block format, from its specification."""
    out, i = bytearray(), 0

    def length(value: int) -> int:
        nonlocal i
        while value >= 15:
            i += 1
            value += data[i - 1]
            if data[i - 1] < 255:
                break
        return value

    while i < len(data):
        token = data[i]
        i += 1
        literals = length(token >> 4)
        out += data[i : i + literals]
        i += literals
        if i < len(data):
            offset = data[i] | data[i + 1] << 8
            i += 2
            for _ in range(length(token & 15) + 4):
                out.append(out[-offset])
    return bytes(out)


@pytest.mark.parametrize("size", [0, 1, 12, 13, 14, 300, 70_000])
@pytest.mark.parametrize("alphabet", [1, 2, 256])
def test_round_trip(compressor: Path, size: int, alphabet: int):
    rng = random.Random(size)
    data = bytes(rng.randrange(alphabet) for _ in range(size))
    packed = {kind: subprocess.run([compressor, kind], input=data, capture_output=True, check=True).stdout
              for kind in ("lz4", "zlib")}  # fmt: skip
    assert unlz4(packed["lz4"]) == data
    assert zlib.decompress(packed["zlib"]) == data
    if alphabet == 1 and size > 100:
        assert len(packed["lz4"]) < size / 10
