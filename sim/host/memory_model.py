"""How the memory behind the accelerator behaves in a simulation; the standard one is what published figures use."""

from dataclasses import dataclass

from systolith.errors import SystolithError

__all__ = ["STANDARD", "MemoryModel"]


@dataclass(frozen=True)
class MemoryModel:
    """Latency, bandwidth and faults of the simulated AXI4 memory.

    Parameters
    ----------
    read_latency, write_latency : int
        Cycles from a read address to its first beat, and from a burst's last beat to its response; at least 1.
    bandwidth : float
        Beats a cycle in each direction, above 0 and at most 1.
    stall : float
        Fraction of the cycles in which each channel refuses, at random; below 1.
    outstanding : int
        Bursts the memory accepts before the first is finished, in each direction.
    seed : int
        Of the random stalls.
    error : (int, int)
        Addresses from the first to before the second answer with SLVERR.
    """

    read_latency: int = 64
    write_latency: int = 16
    bandwidth: float = 1.0
    stall: float = 0.0
    outstanding: int = 64
    seed: int = 0
    error: tuple[int, int] = (0, 0)

    def __post_init__(self):
        for name in ("read_latency", "write_latency", "outstanding"):
            if not 1 <= getattr(self, name) <= 1 << 20:
                raise SystolithError(f"Memory's {name} must be from 1 to 1048576, not {getattr(self, name)!r}")
        if not 1 / 65536 <= self.bandwidth <= 1:
            raise SystolithError(
                f"Memory's bandwidth must be above 0 and at most 1 beat a cycle, not {self.bandwidth!r}"
            )
        if not 0 <= self.stall < 1:
            raise SystolithError(f"Memory's stall must be from 0 to below 1, not {self.stall!r}")


STANDARD = MemoryModel()
