"""One convolution written by hand as instructions: what the simulators are tested with apart from the compiler."""

import numpy as np

from systolith import Config
from systolith.isa import Instruction, Region, Unit, encode_program, make
from systolith.numerics import requantize
from systolith.program import Layout, Program, Tensor


def mask(*units: Unit) -> int:
    return sum(1 << unit for unit in units)


def instructions(config: Config, size: int) -> list[Instruction]:
    """3x3, stride 1, padding 1, N -> N channels, size x size pixels: every unit once, ordered by tokens."""
    n = config.array
    return [
        make("LOAD.W", region=Region.WEIGHTS, offset=0, sram=8, words=8, target=1, signal=mask(Unit.SFU)),
        make("LOAD.W", region=Region.WEIGHTS, offset=8 * n, sram=n, words=9 * n, target=0, signal=mask(Unit.EXECUTE)),
        make("CONFIG.LOAD_A.source", row_pitch=size * n, height=size, row_step=1, row_bytes=size * n),
        make("CONFIG.LOAD_A.window", step=n, length=n, lane=0, zero_point=0, row_stride=size + 1),
        make(
            "LOAD.A", region=Region.INPUT, offset=0, sram=3, rows=size, cols=size, x0=0, y0=0, signal=mask(Unit.EXECUTE)
        ),
        make("CONFIG.EXECUTE.input", height=size, width=size, row_stride=size + 1, block_stride=0, zero_point=-5),
        make(
            "CONFIG.EXECUTE.kernel",
            kernel_y=3,
            kernel_x=3,
            blocks=1,
            stride_y=1,
            stride_x=1,
            dilation_y=1,
            dilation_x=1,
        ),
        make(
            "EXECUTE",
            act=3,
            weight=n,
            y0=-1,
            x0=-1,
            rows=size,
            cols=size,
            acc=config.acc_half,
            accumulate=0,
            wait=mask(Unit.LOAD_W, Unit.LOAD_A),
            signal=mask(Unit.SFU),
        ),
        make("CONFIG.SFU.output", zero_point=7, clamp_min=-100, clamp_max=100, row_stride=size, col_stride=1, lookup=0),
        make("CONFIG.SFU.input", height=size, width=size, row_stride=size, y0=0, x0=0, pad=0),
        make(
            "CONFIG.SFU.window",
            kernel_y=1,
            kernel_x=1,
            stride_y=1,
            stride_x=1,
            dilation_y=1,
            dilation_x=1,
        ),
        make(
            "SFU",
            memory=0,
            reduce=0,
            second=0,
            drain=0,
            source=config.acc_half,
            operand=0,
            dst=100,
            rows=size,
            cols=size,
            param=1,
            wait=mask(Unit.EXECUTE, Unit.LOAD_W),
            signal=mask(Unit.STORE),
        ),
        make("CONFIG.STORE.target", row_pitch=size * n, row_stride=size),
        make("STORE", region=Region.OUTPUT, offset=0, sram=100, rows=size, cols=size, wait=mask(Unit.SFU)),
        make("END"),
    ]


class Convolution:
    """The program, a random input and weights, and the output NumPy says it has."""

    def __init__(self, config: Config, seed: int = 0, size: int = 5, code: bytes | None = None):
        rng = np.random.default_rng(seed)
        n = config.array
        self.config, dims = config, (1, n, size, size)
        weights = rng.integers(-128, 128, (9, n, n), np.int8)  # tap, input channel, output channel
        bias = rng.integers(-5000, 5000, n, np.int32)
        scale = rng.uniform(0.0005, 0.005, n).astype(np.float32)
        self.input = rng.integers(-128, 128, dims, np.int8)
        parameters = np.stack([bias.view(np.uint32), scale.view(np.uint32)], axis=1).tobytes()
        listing = instructions(config, size)
        self.program = Program(
            config.fingerprint,
            n,
            encode_program(listing) if code is None else code,
            parameters + weights.tobytes(),
            (_tensor("x", Region.INPUT, dims),),
            (_tensor("y", Region.OUTPUT, dims),),
            meta={
                "layers": [
                    {
                        "name": "conv",
                        "op": "QLinearConv",
                        "macs": 9 * n * n * size * size,
                        "first": 0,
                        "last": len(listing) - 2,
                    }
                ]
            },
        )
        padded = np.full((n, size + 2, size + 2), -5, np.int64)
        padded[:, 1:-1, 1:-1] = self.input[0]
        sums = sum(
            np.einsum("chw,co->ohw", padded[:, t // 3 : t // 3 + size, t % 3 : t % 3 + size], weights[t].astype(int))
            for t in range(9)
        )
        acc = (sums + bias[:, None, None]).astype(np.int32)
        self.output = requantize(acc, scale[:, None, None], 7, -100, 100)[None]


def _tensor(name: str, region: Region, dims: tuple[int, int, int, int]) -> Tensor:
    return Tensor(name, dims, "int8", region, 0, dims, (0, 1, 2, 3), Layout.BLOCKED)
