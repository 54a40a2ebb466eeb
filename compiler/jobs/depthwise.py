"""Depthwise convolutions on the depthwise unit: a word of weights for each tap and block of channels."""

import numpy as np

from systolith.compiler.ir.graph import Conv, Graph
from systolith.compiler.jobs.array import made_size
from systolith.compiler.jobs.job import LARGEST_STEP, Job, check_window, input_strides, operand_of
from systolith.compiler.layout.layout import blocks_of, layout_of
from systolith.config import Config
from systolith.isa import Unit

__all__ = ["cycles", "depthwise", "is_depthwise", "passes"]

SHIFT = 3
"""Words in the shift register, which fills for each row."""


def is_depthwise(layer: Conv, config: Config) -> bool:
    """Whether the configuration has a depthwise unit, and it can run the layer."""
    outputs, inputs, kernel_y, kernel_x = layer.weights.shape
    fits = max(kernel_y, kernel_x) <= LARGEST_STEP and kernel_y * kernel_x <= config.weight_depth // 2
    return config.dw_taps > 0 and layer.groups == outputs and inputs == 1 and fits


def depthwise(graph: Graph, index: int, layer: Conv, array: int) -> Job:
    """The layer as a job of the depthwise unit."""
    check_window(layer)
    images, _, height, width = graph.values[layer.input].dims
    channels, _, kernel_y, kernel_x = layer.weights.shape
    blocks = blocks_of(channels, array)
    taps = np.zeros((blocks * array, kernel_y, kernel_x), np.int8)
    taps[:channels] = layer.weights[:, 0]
    return Job(
        index,
        layer,
        Unit.DEPTHWISE,
        graph.values[layer.input].zero_point,
        images,
        height,
        width,
        1,
        tuple(range(blocks)),
        (kernel_y, kernel_x),
        layer.stride,
        layer.dilation,
        layer.pads[:2],
        *made_size(graph, layer),
        blocks,
        input_strides(graph, layer, array),
        layout_of(graph, layer.output, array).strides,
        taps.reshape(blocks, array, kernel_y, kernel_x).transpose(0, 2, 3, 1)[:, :, :, None],
        operand=operand_of(graph, layer, array),
        pool=layer.pool.stride if layer.pool else (1, 1),
    )


def cycles(config: Config, kernel: tuple[int, int], stride_x: int, dilation_x: int, rows: int, cols: int) -> int:
    """What the depthwise unit takes for a tile of `rows` x `cols` outputs, about."""
    words = cols if _single(config, dilation_x) else (cols - 1) * stride_x + SHIFT
    return rows * words * passes(config, kernel, dilation_x)


def passes(config: Config, kernel: tuple[int, int], dilation_x: int) -> int:
    """How often the depthwise unit goes over a tile's input, about."""
    if _single(config, dilation_x):
        return kernel[0] * kernel[1]
    return -(-kernel[1] // SHIFT) * (-(-kernel[0] // SHIFT) if config.dw_taps == 9 else kernel[0])


def _single(config: Config, dilation_x: int) -> bool:
    """Whether taps are taken one by one."""
    return config.dw_taps == 1 or dilation_x > 1
