"""Known topologies with random weights, built by hand: for what depends on shapes alone."""

from systolith.compiler.ir.graph import Graph
from tests.support.graph_builder import Network

__all__ = ["TINY", "autoencoder", "ds_cnn", "mobilenet", "resnet8", "resnet50"]

SAME = (1, 1, 1, 1)
SAME_STRIDE_2 = (0, 0, 1, 1)


def resnet8() -> Graph:
    """MLPerf Tiny's image classification, 32 x 32 x 3."""
    net = Network((1, 3, 32, 32))
    x = net.conv(net.x, 16, pads=SAME)
    for channels, stride in ((16, 1), (32, 2), (64, 2)):
        y = net.conv(x, channels, stride=(stride, stride), pads=SAME if stride == 1 else SAME_STRIDE_2)
        y = net.conv(y, channels, pads=SAME)
        x = net.conv(x, channels, (1, 1), stride=(2, 2)) if stride == 2 else x
        x = net.add(y, x)
    return net.graph(net.conv(net.pool(x, "average", kernel=(8, 8)), 10, (1, 1)))


def ds_cnn() -> Graph:
    """MLPerf Tiny's keyword spotting, 49 x 10 x 1."""
    net = Network((1, 1, 49, 10))
    x = net.conv(net.x, 64, (10, 4), stride=(2, 2), pads=(4, 1, 5, 1))
    for _ in range(4):
        x = net.conv(net.depthwise(x, pads=SAME), 64, (1, 1))
    x = net.pool(x, "average", kernel=net.values[x].dims[2:])
    return net.graph(net.conv(x, 12, (1, 1)))


def mobilenet() -> Graph:
    """MLPerf Tiny's visual wake words: MobileNetV1 0.25, 96 x 96 x 3."""
    net = Network((1, 3, 96, 96))
    x = net.conv(net.x, 8, stride=(2, 2), pads=SAME_STRIDE_2)
    layers = [(16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *[(128, 1)] * 5, (256, 2), (256, 1)]
    for channels, stride in layers:
        x = net.depthwise(x, stride=(stride, stride), pads=SAME if stride == 1 else SAME_STRIDE_2)
        x = net.conv(x, channels, (1, 1))
    x = net.pool(x, "average", kernel=(3, 3))
    return net.graph(net.conv(x, 2, (1, 1)))


def autoencoder() -> Graph:
    """MLPerf Tiny's anomaly detection, 640 numbers."""
    net = Network((1, 640, 1, 1))
    x = net.x
    for channels in (128, 128, 128, 128, 8, 128, 128, 128, 128, 640):
        x = net.conv(x, channels, (1, 1))
    return net.graph(x)


def resnet50() -> Graph:
    """ResNet-50, 224 x 224 x 3."""
    net = Network((1, 3, 224, 224))
    x = net.conv(net.x, 64, (7, 7), stride=(2, 2), pads=(3, 3, 3, 3))
    x = net.pool(x, "max", kernel=(3, 3), stride=(2, 2), pads=SAME)
    for stage, (channels, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3))):
        for block in range(blocks):
            stride = (2, 2) if block == 0 and stage else (1, 1)
            y = net.conv(net.conv(x, channels, (1, 1)), channels, stride=stride, pads=SAME)
            y = net.conv(y, 4 * channels, (1, 1))
            x = net.conv(x, 4 * channels, (1, 1), stride=stride) if block == 0 else x
            x = net.add(y, x)
    x = net.pool(x, "average", kernel=(7, 7))
    return net.graph(net.conv(x, 1000, (1, 1)))


TINY = {"resnet8": resnet8, "ds_cnn": ds_cnn, "mobilenet": mobilenet, "autoencoder": autoencoder}
