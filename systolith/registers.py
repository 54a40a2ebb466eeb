"""The AXI4-Lite register map: 32-bit registers at byte offsets. Hardware, harnesses and documents derive from it."""

from dataclasses import dataclass

__all__ = [
    "ADDRESS_BITS",
    "CONTROL_RESET",
    "CONTROL_START",
    "COUNTERS",
    "IRQ_CLEAR",
    "IRQ_ENABLE",
    "MAGIC",
    "REGIONS",
    "REGISTERS",
    "RESETS",
    "STATUS_BUSY",
    "STATUS_DONE",
    "STATUS_ERROR",
    "VERSION",
    "Register",
    "counter_offset",
    "region_offset",
]

ADDRESS_BITS = 12
MAGIC = 0x5359_5354  # "SYST"
VERSION = 1
REGIONS = 8

CONTROL_START = 1 << 0
CONTROL_RESET = 1 << 1
STATUS_BUSY = 1 << 0
STATUS_DONE = 1 << 1
STATUS_ERROR = 1 << 2
IRQ_ENABLE = 1 << 0
IRQ_CLEAR = 1 << 1

# Free-running while busy, cleared by start; 64 bits each, low word first, from offset 0x100.
COUNTERS = (
    ("cycles", "cycles from start to done"),
    ("array_rows", "rows fed to the array (valid, not bubbles)"),
    ("array_wait_weights", "cycles the array had no row because weights were not loaded yet"),
    ("array_wait_tokens", "cycles EXECUTE waited for a token at its row stage"),
    ("array_idle", "cycles EXECUTE had no instruction"),
    ("sfu_busy", "cycles the SFU worked"),
    ("sfu_wait_tokens", "cycles the SFU waited for a token"),
    ("dw_busy", "cycles the depthwise unit took an input word, or padding"),
    ("dw_wait_tokens", "cycles the depthwise unit had nothing to take because it waited for a token"),
    ("bank_conflicts", "accesses to activation SRAM that lost arbitration"),
    ("read_beats", "beats read from memory"),
    ("write_beats", "beats written to memory"),
    ("read_stalls", "cycles a read address waited for the memory"),
    ("write_stalls", "cycles write data waited for the memory"),
)


@dataclass(frozen=True)
class Register:
    """One 32-bit register."""

    name: str
    offset: int
    access: str
    doc: str


def region_offset(region: int, part: str) -> int:
    """Offset of a region's "base_lo", "base_hi", "limit_lo" or "limit_hi"."""
    return 0x400 + 16 * region + 4 * ("base_lo", "base_hi", "limit_lo", "limit_hi").index(part)


def counter_offset(index: int) -> int:
    """Offset of the low word of counter `index`; the high word follows."""
    return 0x100 + 8 * index


RESETS = (
    (
        "soft reset (bit 1 of `control`)",
        "at run time: to stop a program, and after an error",
        "Ends all bursts in flight first (what is missing of writes has no strobes), then resets all units, and "
        "clears `status`, `error` and `error_instruction`; regions, watchdog, irq and counters stay. The next "
        "program finds nothing of this one but what memory holds. Needs a memory that answers: as long as a burst "
        "has no answer, status.busy stays set, and only `aresetn` helps.",
    ),
    (
        "`aresetn`",
        "at power-up, and with the whole system",
        "Resets everything, these registers too, at once. The path to memory must be reset with it if bursts may "
        "be in flight; after done and after a soft reset none is. If the path is not, read beats and write "
        "responses that come late are told from new ones by their ID and dropped, provided that all have come "
        "before `aresetn` cuts bursts once more, and that the path returns the IDs, as AXI4 demands. But data "
        "that the path still expects of a write would be taken from the next program's.",
    ),
)
"""Which reset is for what: its name, when it is used, and what it does and needs."""

REGISTERS = (
    Register("id", 0x00, "ro", f"0x{MAGIC:08x}"),
    Register("version", 0x04, "ro", "version of registers and instructions"),
    Register("fingerprint_lo", 0x08, "ro", "configuration fingerprint, low word"),
    Register("fingerprint_hi", 0x0C, "ro", "configuration fingerprint, high word"),
    Register(
        "control",
        0x10,
        "wo",
        "bit 0 start: refused while busy or after an error; bit 1 reset: stops all units, waits until the memory port "
        "is quiet, clears status, queues and tokens; status.busy stays set until then",
    ),
    Register("status", 0x14, "ro", "bit 0 busy, bit 1 done (until the next start or reset), bit 2 error (until reset)"),
    Register("irq", 0x18, "rw", "bit 0 enable; bit 1 pending, written as 1 to clear. Raised by done and by error"),
    Register("error", 0x1C, "ro", "bits 7:0 code, 15:8 unit, 31:16 detail"),
    Register("error_instruction", 0x20, "ro", "index of the instruction that failed"),
    Register("watchdog", 0x24, "rw", "cycles without progress until error WATCHDOG; 0 is off"),
    *(
        Register(f"{name}_{half}", counter_offset(i) + 4 * (half == "hi"), "ro", doc)
        for i, (name, doc) in enumerate(COUNTERS)
        for half in ("lo", "hi")
    ),
    *(
        Register(
            f"region{r}_{part}",
            region_offset(r, part),
            "rw",
            "byte address; a multiple of the memory port's width for region CODE"
            if part.startswith("base")
            else "bytes in the region; accesses stay below it",
        )
        for r in range(REGIONS)
        for part in ("base_lo", "base_hi", "limit_lo", "limit_hi")
    ),
)
