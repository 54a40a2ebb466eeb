"""Strides, dilations and pads of convolutions and pools, from the attributes of their nodes."""

from dataclasses import dataclass
from typing import Any

from systolith.compiler.frontend.model.node import Node

__all__ = ["Geometry", "explicit_pads", "geometry", "numbers", "steps"]

AUTO_PADS = ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")


@dataclass(frozen=True)
class Geometry:
    """As `ir.Conv` has it, two-dimensional; `size` is the output's height and width."""

    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    size: tuple[int, int] = (1, 1)


def geometry(node: Node, attributes: dict[str, Any], sizes: tuple[int, ...], kernel: tuple[int, ...]) -> Geometry:
    """The geometry for an input of `sizes` (height and width, or a length) and weights of size `kernel`."""
    rank = len(sizes)
    stride, dilation, extent = steps(node, attributes, kernel)
    pads = _pads(node, attributes, sizes, stride, extent)
    padded = tuple(n + pads[i] + pads[rank + i] for i, n in enumerate(sizes))
    more = [step - 1 if attributes.get("ceil_mode") else 0 for step in stride]
    if any(n + m < e for n, m, e in zip(padded, more, extent, strict=True)):
        raise node.unsupported(
            f"input with pads must be at least as large as the kernel, {list(extent)}, not {list(padded)}"
        )
    size = tuple((n - e) // s + 1 for n, e, s in zip(padded, extent, stride, strict=True))
    if rank == 1:
        return Geometry((1, stride[0]), (1, dilation[0]), (0, pads[0], 0, pads[1]), (1, size[0]))
    return Geometry(
        (stride[0], stride[1]), (dilation[0], dilation[1]), (pads[0], pads[1], pads[2], pads[3]), (size[0], size[1])
    )


def _pads(
    node: Node, attributes: dict[str, Any], sizes: tuple[int, ...], stride: tuple[int, ...], extent: tuple[int, ...]
) -> tuple[int, ...]:
    """Pads before each axis, then those after, `auto_pad` worked out."""
    auto, pads = explicit_pads(node, attributes, len(sizes))
    if auto in ("NOTSET", "VALID"):
        return pads
    total = [max((-(-n // s) - 1) * s + e - n, 0) for n, s, e in zip(sizes, stride, extent, strict=True)]
    less, more = tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
    return less + more if auto == "SAME_UPPER" else more + less


def steps(
    node: Node, attributes: dict[str, Any], kernel: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Strides and dilations for weights of size `kernel`, and from the first tap to the last, along each axis."""
    if attributes["kernel_shape"] and attributes["kernel_shape"] != kernel:
        raise node.error(
            f"attribute 'kernel_shape' must be {list(kernel)} as the weights are, "
            f"not {list(attributes['kernel_shape'])}"
        )
    ones = (1,) * len(kernel)
    stride = numbers(node, attributes, "strides", ones, 1)
    dilation = numbers(node, attributes, "dilations", ones, 1)
    return stride, dilation, tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))


def explicit_pads(node: Node, attributes: dict[str, Any], rank: int) -> tuple[str, tuple[int, ...]]:
    """`auto_pad`, and `pads`: those before each axis, then those after."""
    auto = attributes["auto_pad"]
    if auto not in AUTO_PADS:
        raise node.error(f"attribute 'auto_pad' must be one of {', '.join(AUTO_PADS)}, not {auto!r}")
    pads = numbers(node, attributes, "pads", (0,) * (2 * rank), 0)
    if auto != "NOTSET" and any(pads):
        raise node.unsupported(f"attribute 'pads' must not be set together with auto_pad {auto}, not {list(pads)}")
    return auto, pads


def numbers(node: Node, attributes: dict[str, Any], name: str, default: tuple[int, ...], least: int) -> tuple[int, ...]:
    """An attribute of as many integers as `default` has, each of at least `least`."""
    values = attributes[name] or default
    if len(values) != len(default) or min(values) < least:
        raise node.error(f"attribute '{name}' must be {len(default)} integers of at least {least}, not {list(values)}")
    return values
