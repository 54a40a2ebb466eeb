"""The AXI4 memory port: signature with the standard member names, seen from the master."""

from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from systolith.config import Config

__all__ = ["CACHE", "INCREMENTING", "OKAY", "Axi4", "beat_size"]

INCREMENTING = 1
"""AxBURST."""
CACHE = 0b0011
"""AxCACHE: normal memory, bufferable, not cached."""
OKAY = 0
"""RRESP, BRESP."""


def beat_size(config: Config) -> int:
    """AxSIZE of whole beats."""
    return exact_log2(config.axi_bytes)


class Axi4(wiring.Signature):
    """AXI4 as a master drives it. The ID changes only in a reset (see AxiMaster), so all responses come in order."""

    def __init__(self, config: Config):
        def address(prefix: str) -> dict:
            return {
                f"{prefix}id": Out(1),
                f"{prefix}addr": Out(config.axi_addr_bits),
                f"{prefix}len": Out(8),
                f"{prefix}size": Out(3),
                f"{prefix}burst": Out(2),
                f"{prefix}lock": Out(1),
                f"{prefix}cache": Out(4),
                f"{prefix}prot": Out(3),
                f"{prefix}valid": Out(1),
                f"{prefix}ready": In(1),
            }

        super().__init__(
            {
                **address("aw"),
                "wdata": Out(config.axi_data_bits),
                "wstrb": Out(config.axi_bytes),
                "wlast": Out(1),
                "wvalid": Out(1),
                "wready": In(1),
                "bid": In(1),
                "bresp": In(2),
                "bvalid": In(1),
                "bready": Out(1),
                **address("ar"),
                "rid": In(1),
                "rdata": In(config.axi_data_bits),
                "rresp": In(2),
                "rlast": In(1),
                "rvalid": In(1),
                "rready": Out(1),
            }
        )
