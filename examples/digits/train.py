"""Train the digits network, export and quantize it: writes digits_float.onnx, digits_int8.onnx and digits_test.npz.

Run: .venv/bin/python examples/digits/train.py (about a minute). The seed is fixed; another machine's float kernels may
still round differently, so the files differ in their last bits there.
"""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from sklearn.datasets import load_digits

from systolith.examples.digits.network import Adam, Convolution, Network

HERE = Path(__file__).parent
SEED, EPOCHS, BATCH = 1, 40, 32
TEST_IMAGES = 360
CALIBRATION_IMAGES = 256


def load() -> tuple[np.ndarray, np.ndarray]:
    """Images [1797, 1, 8, 8] from 0 to 1 and their labels in one fixed order; the last TEST_IMAGES are held out."""
    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(SEED).permutation(len(labels))
    return (pixels.reshape(-1, 1, 8, 8)[order] / 16).astype(np.float32), labels[order]


def shifted(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The images, half of them moved by up to one pixel."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    corners = np.where(rng.random((len(x), 1)) < 0.5, rng.integers(0, 3, (len(x), 2)), 1)
    return np.stack(
        [image[:, top : top + 8, left : left + 8] for image, (top, left) in zip(padded, corners, strict=True)]
    )


def train(x: np.ndarray, labels: np.ndarray) -> Network:
    rng = np.random.default_rng(SEED)
    network = Network(rng)
    adam = Adam(network.parameters())
    for epoch in range(EPOCHS):
        rate = 2e-3 * 0.5 * (1 + np.cos(np.pi * epoch / EPOCHS))
        losses = []
        for chosen in np.array_split(rng.permutation(len(x)), len(x) // BATCH):
            losses.append(network.step(shifted(x[chosen], rng), labels[chosen]))
            adam.update(network.gradients(), rate)
        print(f"epoch {epoch + 1:2}  loss {np.mean(losses):.4f}")
    return network


def export(network: Network, path: Path) -> None:
    """The network as ONNX: Conv, Relu ... Flatten, Gemm; the batch is left open."""
    nodes, initializers, value = [], [], "image"
    for i, layer in enumerate(network.layers, 1):
        kind = "conv" if isinstance(layer, Convolution) else "classes"
        name = f"{kind}{i}" if kind == "conv" else kind
        initializers += [
            numpy_helper.from_array(layer.weights, f"{name}.weight"),
            numpy_helper.from_array(layer.bias, f"{name}.bias"),
        ]
        inputs = [value, f"{name}.weight", f"{name}.bias"]
        if isinstance(layer, Convolution):
            nodes += [
                helper.make_node(
                    "Conv",
                    inputs,
                    [f"{name}.sum"],
                    name,
                    kernel_shape=[3, 3],
                    pads=[1, 1, 1, 1],
                    strides=[layer.stride, layer.stride],
                ),
                helper.make_node("Relu", [f"{name}.sum"], [f"{name}.out"], f"{name}.relu"),
            ]
            value = f"{name}.out"
        else:
            nodes += [
                helper.make_node("Flatten", [value], ["flat"], "flatten"),
                helper.make_node("Gemm", ["flat", *inputs[1:]], ["logits"], name, transB=1),
            ]
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


class Images(CalibrationDataReader):
    """Feeds training images to the quantizer, one by one."""

    def __init__(self, x: np.ndarray):
        self.images = iter(x)

    def get_next(self) -> dict:
        image = next(self.images, None)
        return {} if image is None else {"image": image[None]}


def accuracy(path: Path, x: np.ndarray, labels: np.ndarray) -> float:
    (logits,) = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"image": x})
    return float((np.asarray(logits).argmax(1) == labels).mean())


def main() -> None:
    x, labels = load()
    network = train(x[:-TEST_IMAGES], labels[:-TEST_IMAGES])
    float_path, int8_path = HERE / "digits_float.onnx", HERE / "digits_int8.onnx"
    export(network, float_path)
    quantize_static(
        float_path,
        int8_path,
        Images(x[:CALIBRATION_IMAGES]),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    test, expected = x[-TEST_IMAGES:], labels[-TEST_IMAGES:]
    np.savez_compressed(HERE / "digits_test.npz", image=test, label=expected.astype(np.uint8))
    for path in (float_path, int8_path):
        share = accuracy(path, test, expected)
        print(f"{path.name:18} {path.stat().st_size:6} bytes  {100 * share:.2f} % of {TEST_IMAGES} test images")


if __name__ == "__main__":
    main()
