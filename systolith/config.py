"""Configuration of one accelerator: a frozen, validated record that hardware, compiler and simulators share.

Every size in the project comes from here. Words: an activation or weight word is `array` bytes, an accumulator row is
`array` int32 values, a parameter word is bias and scale of `array` output channels.
"""

import hashlib
import json
import tomllib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from systolith.errors import SystolithError
from systolith.file_io import read_whole
from systolith.isa import ACC_BITS, ADDRESS_BITS, PARAM_BITS

__all__ = ["PRESETS", "Config", "load_config"]

LARGEST_FILE = 1 << 16
"""Bytes of a configuration file."""
SHOWN = 60
"""Characters of a name, and of a wrong value in an error."""


@dataclass(frozen=True)
class Config:
    """Sizes of an accelerator. Raises SystolithError, naming the field, for a value the hardware cannot have.

    Parameters
    ----------
    name : str
        Letters, digits and underscores; names the generated files.
    array : int
        N: rows and columns of the systolic array, a multiple of 4 from 4 to 256.
    act_depth, act_banks : int
        Words of activation SRAM, and the banks they are divided into; a bank holds a power of two of words.
    weight_depth : int
        Words of weight SRAM; at least two tiles (2 * array).
    acc_depth : int
        Rows of accumulator memory, both halves together; a power of two.
    param_depth : int
        Words of parameter SRAM, one for each block of `array` output channels.
    sfu_lanes : int
        Channels the SFU handles a cycle; divides `array`.
    axi_data_bits, axi_addr_bits : int
        Widths of the memory port: data 64, 128 or 256; address 32 to 64.
    axi_burst : int
        Longest burst in beats, a power of two up to 256 and 4 KiB.
    axi_outstanding : int
        Read bursts in flight, 1 to 64.
    axi_buffer : int
        Beats each load unit can hold, a power of two, at least 2 * axi_burst.
    queue_depth : int
        Instructions each unit's queue holds, 2 to 64.
    token_bits : int
        Width of a token counter, 2 to 8.
    dw_taps : int
        Multipliers in each lane of the depthwise unit: 1, 3 or 9; 0 for no such unit.
    dw_depth : int
        Rows of the depthwise accumulators, both halves together; a power of two.
    """

    name: str
    array: int
    act_depth: int
    act_banks: int
    weight_depth: int
    acc_depth: int
    param_depth: int
    sfu_lanes: int
    axi_data_bits: int = 128
    axi_addr_bits: int = 40
    axi_burst: int = 64
    axi_outstanding: int = 16
    axi_buffer: int = 256
    queue_depth: int = 16
    token_bits: int = 4
    dw_taps: int = 0
    dw_depth: int = 256

    def __post_init__(self):
        if not isinstance(self.name, str) or not self.name.replace("_", "").isalnum() or not self.name.isascii():
            raise SystolithError(
                f"Config field 'name' must be letters, digits and underscores, not {_shown(self.name)}"
            )
        if len(self.name) > SHOWN:
            raise SystolithError(f"Config field 'name' must have at most {SHOWN} characters, not {len(self.name)}")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "name" and (not isinstance(value, int) or isinstance(value, bool)):
                raise SystolithError(f"Config field '{field.name}' must be an integer, not {_shown(value)}")
        self._check("array", 4 <= self.array <= 256 and self.array % 4 == 0, "a multiple of 4 from 4 to 256")
        self._check("act_banks", 1 <= self.act_banks <= 16, "from 1 to 16")
        self._check(
            "act_depth",
            self.act_depth <= 1 << ADDRESS_BITS
            and self.act_depth % self.act_banks == 0
            and _power_of_two(self.act_depth // self.act_banks)
            and self.act_depth // self.act_banks >= 16,
            f"act_banks times a power of two of at least 16, and at most {1 << ADDRESS_BITS}",
        )
        self._check(
            "weight_depth",
            2 * self.array <= self.weight_depth <= 1 << ADDRESS_BITS,
            f"from {2 * self.array} (two tiles) to {1 << ADDRESS_BITS}",
        )
        self._check(
            "acc_depth",
            _power_of_two(self.acc_depth) and 8 <= self.acc_depth <= 1 << ACC_BITS,
            f"a power of two from 8 to {1 << ACC_BITS}",
        )
        self._check("param_depth", 2 <= self.param_depth <= 1 << PARAM_BITS, f"from 2 to {1 << PARAM_BITS}")
        self._check(
            "sfu_lanes",
            1 <= self.sfu_lanes <= self.array and self.array % self.sfu_lanes == 0,
            f"a divisor of array ({self.array})",
        )
        self._check("axi_data_bits", self.axi_data_bits in (64, 128, 256), "64, 128 or 256")
        self._check("axi_addr_bits", 32 <= self.axi_addr_bits <= 64, "from 32 to 64")
        self._check(
            "axi_burst",
            _power_of_two(self.axi_burst) and self.axi_burst <= 256 and self.axi_burst * self.axi_bytes <= 4096,
            "a power of two, at most 256 beats and 4096 bytes",
        )
        self._check("axi_outstanding", 1 <= self.axi_outstanding <= 64, "from 1 to 64")
        self._check(
            "axi_buffer",
            _power_of_two(self.axi_buffer) and 2 * self.axi_burst <= self.axi_buffer <= 4096,
            f"a power of two from {2 * self.axi_burst} (2 * axi_burst) to 4096",
        )
        self._check("queue_depth", 2 <= self.queue_depth <= 64, "from 2 to 64")
        self._check("token_bits", 2 <= self.token_bits <= 8, "from 2 to 8")
        self._check("dw_taps", self.dw_taps in (0, 1, 3, 9), "0, 1, 3 or 9")
        self._check(
            "dw_depth",
            _power_of_two(self.dw_depth) and 8 <= self.dw_depth <= 1 << ACC_BITS,
            f"a power of two from 8 to {1 << ACC_BITS}",
        )

    def _check(self, field: str, holds: bool, requirement: str):
        if not holds:
            raise SystolithError(f"Config field '{field}' must be {requirement}, not {_shown(getattr(self, field))}")

    @property
    def axi_bytes(self) -> int:
        """Bytes in one AXI beat."""
        return self.axi_data_bits // 8

    @property
    def acc_half(self) -> int:
        """Rows in one half of the accumulator memory: the largest M of a tile."""
        return self.acc_depth // 2

    @property
    def dw_half(self) -> int:
        """Rows in one half of the depthwise accumulators: the largest tile of the depthwise unit."""
        return self.dw_depth // 2

    @property
    def psum_bits(self) -> int:
        """Width of partial sums inside the array: 16-bit products, `array` of them."""
        return 16 + (self.array - 1).bit_length()

    @property
    def fingerprint(self) -> int:
        """64 bits that programs and hardware compare: any field but the name changes it."""
        sizes = {key: value for key, value in asdict(self).items() if key != "name"}
        digest = hashlib.sha256(json.dumps(sizes, sort_keys=True).encode()).digest()
        return int.from_bytes(digest[:8], "little")

    def to_toml(self) -> str:
        """The configuration as a TOML file that `load_config` reads back."""
        return "".join(f"{key} = {json.dumps(value)}\n" for key, value in asdict(self).items())


def _shown(value: Any) -> str:
    """The value, or its beginning."""
    try:
        shown = repr(value)
    except (ValueError, RecursionError):  # More digits than Python prints, or more depth.
        return f"a value of {type(value).__name__} that is too long to print"
    return shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}..."


def _power_of_two(value: int) -> bool:
    return value > 0 and value & (value - 1) == 0


PRESETS = {
    config.name: config
    for config in (
        # For tests: every boundary is close.
        Config(
            "tiny4",
            array=4,
            act_depth=512,
            act_banks=2,
            weight_depth=256,
            acc_depth=64,
            param_depth=16,
            sfu_lanes=2,
            axi_data_bits=64,
            axi_addr_bits=32,
            axi_burst=16,
            axi_outstanding=4,
            axi_buffer=64,
            queue_depth=4,
        ),
        # For a Lattice ECP5-85F: 64 multipliers in the array.
        Config(
            "ecp5_8",
            array=8,
            act_depth=4096,
            act_banks=4,
            weight_depth=2048,
            acc_depth=512,
            param_depth=64,
            sfu_lanes=2,
            axi_data_bits=64,
            axi_addr_bits=32,
            axi_burst=64,
            axi_buffer=256,
            axi_outstanding=8,
        ),
        # 128 KiB activations, 128 KiB weights, 64 KiB accumulators: the budget of the best-known academic generator.
        Config(
            "edge16",
            array=16,
            act_depth=8192,
            act_banks=4,
            weight_depth=8192,
            acc_depth=1024,
            param_depth=128,
            sfu_lanes=16,
        ),
        # The same with a depthwise unit of three multipliers a lane, for MobileNets.
        Config(
            "edge16_dw",
            array=16,
            act_depth=8192,
            act_banks=4,
            weight_depth=8192,
            acc_depth=1024,
            param_depth=128,
            sfu_lanes=16,
            dw_taps=3,
        ),
        Config(
            "edge32",
            array=32,
            act_depth=8192,
            act_banks=4,
            weight_depth=8192,
            acc_depth=1024,
            param_depth=128,
            sfu_lanes=32,
            axi_data_bits=256,
        ),
        Config(
            "tpu256",
            array=256,
            act_depth=65536,
            act_banks=8,
            weight_depth=32768,
            acc_depth=8192,
            param_depth=256,
            sfu_lanes=64,
            axi_data_bits=256,
            axi_burst=128,
            axi_buffer=512,
            axi_outstanding=32,
        ),
    )
}


def load_config(name: str) -> Config:
    """A preset by name, or a TOML file by path. Raises SystolithError for anything else."""
    if name in PRESETS:
        return PRESETS[name]
    path = Path(name)
    if path.suffix != ".toml":
        raise SystolithError(f"Configuration must be one of {', '.join(PRESETS)} or a .toml file, not {name!r}")
    content = read_whole(path, LARGEST_FILE)
    try:
        values = tomllib.loads(content.decode())
    except ValueError as error:  # Also of text that is not UTF-8, and of dates and numbers that Python cannot have.
        raise SystolithError(f"{path}: is not valid TOML: {' '.join(str(error).split())[:200]}") from None
    except RecursionError:
        raise SystolithError(f"{path}: is not valid TOML: it is nested too deeply") from None
    known = {field.name for field in fields(Config)}
    for key in values:
        if key not in known:
            shown = ascii(key[:SHOWN]) + "..." * (len(key) > SHOWN)
            raise SystolithError(f"{path}: unknown field {shown}, expected some of {', '.join(sorted(known))}")
    required = {field.name for field in fields(Config) if field.default.__class__.__name__ == "_MISSING_TYPE"}
    if missing := sorted(required - {"name"} - values.keys()):
        raise SystolithError(f"{path}: field '{missing[0]}' is missing")
    try:
        return Config(**{"name": path.stem.replace("-", "_"), **values})
    except SystolithError as error:
        raise SystolithError(f"{path}: {error}") from None
