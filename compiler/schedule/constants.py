"""Constants and buffers that go on from layer to layer: weights and parameters in rings of SRAM, accumulator halves."""

from collections.abc import Hashable
from dataclasses import dataclass, field

import numpy as np

from systolith.compiler.ir.graph import Conv
from systolith.compiler.jobs.job import Job, KSlice
from systolith.compiler.plan.placement import Ring, aligned
from systolith.compiler.schedule.pack_weights import pack_parameter, pack_parameters, pack_weights
from systolith.compiler.schedule.step import Step
from systolith.config import Config
from systolith.isa import LoadTarget, Region, Unit

__all__ = ["Streams"]


@dataclass
class Streams:
    """Rings of weight and parameter SRAM, the content of region WEIGHTS, and the halves of accumulators in use.

    The methods that load are generators: they yield the steps that are needed, if any, and return the address.
    """

    config: Config
    weights: Ring
    params: Ring
    data: bytearray = field(default_factory=bytearray)
    offsets: dict = field(default_factory=dict)
    halves: dict[Unit, int] = field(default_factory=dict)

    @classmethod
    def of(cls, config: Config) -> "Streams":
        return cls(config, Ring(0, config.weight_depth), Ring(0, config.param_depth))

    def half(self, unit: Unit) -> int:
        """The half of its accumulators that a unit fills next: they take turns."""
        self.halves[unit] = 1 - self.halves.get(unit, 1)
        return self.halves[unit]

    def load_weights(self, job: Job, block: int, box: KSlice):
        """Word of weight SRAM with the K tiles, or taps, of a box."""
        key, words = (job.index, block, box), job.weight_words(box, self.config.array)
        address = self.weights.find(key)
        if address is None:
            address = self.weights.take(key, words)
            offset = self._offset(key, lambda: pack_weights(job, block, box))
            yield _load(job.index, offset, address, words, LoadTarget.WEIGHTS)
        return address

    def load_channels(self, job: Job, layer: Conv, block: int):
        """Word of parameter SRAM for an output block. Blocks come in pieces of up to half of it."""
        piece = min(job.out_blocks, self.config.param_depth // 2)
        first, count = block - block % piece, min(piece, job.out_blocks - (block - block % piece))
        start = self._offset(
            (job.index, "parameters"), lambda: pack_parameters(layer, job.pad_value, self.config.array)
        )
        offset = start + first * 8 * self.config.array
        address = yield from self._load_parameters(job.index, (job.index, "parameters", first), offset, count)
        return address + block - first

    def load_alike(self, job: Job, bias: int, scale: np.float32):
        """Word of parameter SRAM with one bias and scale for all channels."""
        key = bias, scale
        offset = self._offset(key, lambda: pack_parameter(bias, scale, self.config.array))
        return (yield from self._load_parameters(job.index, key, offset, 1))

    def _load_parameters(self, layer: int, key: Hashable, offset: int, count: int):
        address = self.params.find(key)
        if address is None:
            address = self.params.take(key, count)
            yield _load(layer, offset, 8 * address, 8 * count, LoadTarget.PARAMETERS)
        return address

    def _offset(self, key, content) -> int:
        """Where `content()` is in region WEIGHTS; appended when it is asked for first."""
        if key not in self.offsets:
            self.data.extend(bytes(aligned(len(self.data)) - len(self.data)))
            self.offsets[key] = len(self.data)
            self.data.extend(content())
        return self.offsets[key]


def _load(layer: int, offset: int, sram: int, words: int, target: LoadTarget) -> Step:
    fields = {"region": Region.WEIGHTS, "offset": offset, "sram": sram, "words": words, "target": target}
    return Step("LOAD.W", fields, {}, layer)
