"""What is wrong with an instruction as it stands: units refuse it before it waits for tokens, and before any access.

What shows only at an access is refused there: units.py, sfu.py.
"""

from collections.abc import Callable, Mapping

from systolith.config import Config
from systolith.isa import Instruction, Reduction, SecondOperand, SfuSource, Unit
from systolith.sim.isa.state import require

__all__ = ["CHECKS", "Constants"]

Constants = Mapping[str, Mapping[str, int]]
"""What CONFIG last said, by group: `constants["kernel"]["stride_y"]`."""


def load_weights(_config: Config, i: Instruction, _: Constants) -> None:
    require(i["words"] > 0, "OPERAND")


def load_activations(config: Config, i: Instruction, c: Constants) -> None:
    window = c["window"]
    counts = i["rows"], i["cols"], window["length"], window["step"]
    require(min(counts) > 0 and window["lane"] + window["length"] <= config.array, "OPERAND")


def execute(_config: Config, i: Instruction, c: Constants) -> None:
    kernel = c["kernel"]
    require(min(i["rows"], i["cols"], kernel["kernel_y"], kernel["kernel_x"], kernel["blocks"]) > 0, "OPERAND")


def depthwise(config: Config, i: Instruction, c: Constants) -> None:
    require(min(i["rows"], i["cols"], c["kernel"]["kernel_y"], c["kernel"]["kernel_x"]) > 0, "OPERAND")
    require(i["acc"] < config.dw_depth, "SRAM_RANGE")


def sfu(config: Config, i: Instruction, c: Constants) -> None:
    depths: dict[int, int | None] = {
        SfuSource.ACCUMULATORS: config.acc_depth,
        SfuSource.ACTIVATIONS: None,
        **({SfuSource.DEPTHWISE: config.dw_depth} if config.dw_taps else {}),
    }
    require(i["memory"] in depths and i["second"] in set(SecondOperand), "OPCODE")
    maximum = i["memory"] == SfuSource.ACTIVATIONS and i["reduce"] == Reduction.MAXIMUM
    require(i["second"] != SecondOperand.MULTIPLY or maximum, "OPCODE")
    counts = i["rows"], i["cols"], c["window"]["kernel_y"], c["window"]["kernel_x"], c["output"]["col_stride"]
    require(min(counts) > 0, "OPERAND")
    require(i["param"] < config.param_depth and i["dst"] < config.act_depth, "SRAM_RANGE")
    require(i["second"] == SecondOperand.NONE or i["operand"] < config.act_depth, "SRAM_RANGE")
    depth = depths[i["memory"]]
    require(depth is None or i["source"] < depth, "SRAM_RANGE")


def store(_config: Config, i: Instruction, _: Constants) -> None:
    require(min(i["rows"], i["cols"]) > 0, "OPERAND")


CHECKS: dict[Unit, Callable[[Config, Instruction, Constants], None]] = {
    Unit.LOAD_W: load_weights,
    Unit.LOAD_A: load_activations,
    Unit.EXECUTE: execute,
    Unit.SFU: sfu,
    Unit.STORE: store,
    Unit.DEPTHWISE: depthwise,
}
"""For the instructions of each unit but CONFIG. Each raises Refused."""
