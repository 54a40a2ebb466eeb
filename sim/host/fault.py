"""What the accelerator reports when it stops: the same error from instruction simulator, RTL and cocotb."""

from systolith.errors import SystolithError
from systolith.isa import INSTRUCTION_BYTES, UNITS, Error, Unit, decode, disassemble

__all__ = ["HardwareFault"]


class HardwareFault(SystolithError):
    """The accelerator stopped with an error. `code` is the name in `isa.Error`, `unit` the unit that found it, `index`
    the instruction (None if the fault belongs to no instruction), `detail` what the code's text says."""

    def __init__(self, code: str, unit: Unit | int, index: int | None, detail: int = 0, program_code: bytes = b""):
        self.code, self.unit, self.index, self.detail = code, unit, index, detail
        text = Error[code].doc if code in Error.__members__ else "unknown error"
        place = getattr(unit, "name", f"unit {int(unit)}")
        if code == "WATCHDOG":
            text = f"no progress; {place} waits for {_units(detail)}" if detail else "no progress"
        if index is not None:
            place += f", instruction {index}"
            if line := _line(program_code, index):
                place += f" ({line})"
        super().__init__(f"Accelerator stopped with error {code}: {text}; {place}")


def _units(mask: int) -> str:
    return "a token from " + ", ".join(
        next((u.name for u in Unit if u == bit), f"unit {bit}") for bit in range(UNITS) if mask >> bit & 1
    )


def _line(code: bytes, index: int) -> str:
    data = code[index * INSTRUCTION_BYTES :][:INSTRUCTION_BYTES]
    if len(data) < INSTRUCTION_BYTES:
        return "past the end of the code"
    try:
        return " ".join(disassemble(decode(data, index)).split())
    except SystolithError:
        return f"undefined: {data.hex()}"
