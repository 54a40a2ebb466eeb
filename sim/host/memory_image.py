"""The memory an accelerator sees: every region of a program in one flat array of bytes, and tensors in and out of it.

`build` puts each region at a 4 KiB boundary (or, with `seed`, at a random byte after one, and in random order), with
guard bytes between regions, and fills what nobody has written with seeded garbage, so that reliance on it shows. CODE
alone has to lie at a multiple of the beat.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from systolith.errors import SystolithError
from systolith.isa import Region
from systolith.program import Layout, Program, Tensor

__all__ = ["PAGE", "Image", "build", "pack", "unpack"]

PAGE = 4096
ORIGIN = 0x4000_0000
LARGEST_BEAT = 32
WRITABLE = (Region.OUTPUT, Region.SCRATCH)


@dataclass(frozen=True, eq=False)
class Image:
    """`data[0]` is the byte at address `origin`; region r is the `limits[r]` bytes from address `bases[r]`."""

    data: NDArray[np.uint8]
    origin: int
    bases: Mapping[Region, int]
    limits: Mapping[Region, int]

    def region(self, region: Region) -> NDArray[np.uint8]:
        """A view of a region's bytes."""
        start = self.bases[region] - self.origin
        return self.data[start : start + self.limits[region]]

    def output(self, tensor: Tensor, array: int) -> NDArray[np.int8]:
        """The int8 values, in the tensor's dims, of a tensor as it lies in memory now."""
        data = self.region(tensor.region)[tensor.offset :][: tensor.stored_bytes(array)]
        return unpack(data, tensor.dims, tensor.layout, array)

    def copy(self) -> "Image":
        """The same image with memory of its own."""
        return Image(self.data.copy(), self.origin, self.bases, self.limits)

    def stray_writes(self, before: "Image") -> list[int]:
        """Addresses (the first few) that changed since `before` and lie neither in OUTPUT nor in SCRATCH."""
        changed = self.data != before.data
        for region in WRITABLE:
            start = self.bases[region] - self.origin
            changed[start : start + self.limits[region]] = False
        return [self.origin + int(i) for i in np.flatnonzero(changed)[:8]]


def build(
    program: Program, inputs: Mapping[str, NDArray[np.int8]], seed: int | None = None, origin: int = ORIGIN
) -> Image:
    """Memory ready for a run: code, weights and the inputs (int8, in their tensor's dims, by name) in place."""
    rng = np.random.default_rng(seed)
    sizes = program.region_bytes()
    order = list(sizes) if seed is None else [list(sizes)[i] for i in rng.permutation(len(sizes))]
    bases, end = {}, origin + PAGE
    for region in order:
        step = LARGEST_BEAT if region == Region.CODE else 1
        bases[region] = end + (0 if seed is None else int(rng.integers(PAGE // step)) * step)
        end = (bases[region] + sizes[region] + 2 * PAGE - 1) // PAGE * PAGE
    data = rng.integers(0, 256, end - origin, dtype=np.uint8)
    image = Image(data, origin, bases, sizes)
    image.region(Region.CODE)[:] = np.frombuffer(program.code, np.uint8)
    image.region(Region.WEIGHTS)[:] = np.frombuffer(program.weights, np.uint8)
    for tensor in program.inputs:
        packed = pack(inputs[tensor.name], tensor, program.array)
        image.region(tensor.region)[tensor.offset :][: packed.size] = packed
    return image


def pack(values: NDArray[np.int8], tensor: Tensor, array: int) -> NDArray[np.uint8]:
    """The bytes of a tensor (int8, in its dims) in its layout; channels past the end are zeros."""
    if values.dtype != np.int8 or values.shape != tensor.dims:
        raise SystolithError(
            f"Tensor '{tensor.name}' must be packed from int8 {tensor.dims}, not {values.dtype} {values.shape}"
        )
    batch, channels, height, width = tensor.dims
    if tensor.layout == Layout.PIXELS:
        return _flat(values.transpose(0, 2, 3, 1))
    blocks = -(-channels // array)
    padded = np.zeros((batch, blocks * array, height, width), np.int8)
    padded[:, :channels] = values
    return _flat(padded.reshape(batch, blocks, array, height, width).transpose(0, 1, 3, 4, 2))


def unpack(data: NDArray[np.uint8], dims: tuple[int, int, int, int], layout: Layout, array: int) -> NDArray[np.int8]:
    """The inverse of `pack`; whatever lies in channels past the end is dropped."""
    batch, channels, height, width = dims
    values = data.view(np.int8)
    if layout == Layout.PIXELS:
        return values.reshape(batch, height, width, channels).transpose(0, 3, 1, 2).copy()
    blocks = -(-channels // array)
    values = values.reshape(batch, blocks, height, width, array).transpose(0, 1, 4, 2, 3)
    return values.reshape(batch, blocks * array, height, width)[:, :channels].copy()


def _flat(values: NDArray[np.int8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8)
