"""Train the digits networks, export and quantize them: writes NAME_float.onnx and NAME_int8.onnx for both, digits and
residual, and digits_test.npz.

Run: .venv/bin/python examples/digits/train.py (about three minutes). The seed is fixed; another machine's float kernels
may still round differently, so the files differ in their last bits there.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from sklearn.datasets import load_digits

from systolith.examples.digits.export import export
from systolith.examples.digits.network import Adam, Network, plain, residual

HERE = Path(__file__).parent
SEED, BATCH = 1, 32
TEST_IMAGES = 360
Build = Callable[[np.random.Generator], Network]
NETWORKS: dict[str, tuple[Build, int]] = {"digits": (plain, 40), "residual": (residual, 100)}
"""How to build each network, and for how many epochs it is trained."""
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


def train(build: Build, epochs: int, x: np.ndarray, labels: np.ndarray) -> Network:
    rng = np.random.default_rng(SEED)
    network = build(rng)
    adam = Adam(network.parameters())
    for epoch in range(epochs):
        rate = 2e-3 * 0.5 * (1 + np.cos(np.pi * epoch / epochs))
        losses = []
        for chosen in np.array_split(rng.permutation(len(x)), len(x) // BATCH):
            losses.append(network.step(shifted(x[chosen], rng), labels[chosen]))
            adam.update(network.gradients(), rate)
        print(f"epoch {epoch + 1:2}  loss {np.mean(losses):.4f}")
    return network


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
    test, expected = x[-TEST_IMAGES:], labels[-TEST_IMAGES:]
    np.savez_compressed(HERE / "digits_test.npz", image=test, label=expected.astype(np.uint8))
    for name, (build, epochs) in NETWORKS.items():
        network = train(build, epochs, x[:-TEST_IMAGES], labels[:-TEST_IMAGES])
        float_path, int8_path = HERE / f"{name}_float.onnx", HERE / f"{name}_int8.onnx"
        float_path.write_bytes(export(network, name).SerializeToString())
        quantize_static(
            float_path,
            int8_path,
            Images(x[:CALIBRATION_IMAGES]),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        for path in (float_path, int8_path):
            share = accuracy(path, test, expected)
            print(f"{path.name:20} {path.stat().st_size:6} bytes  {100 * share:.2f} % of {TEST_IMAGES} test images")


if __name__ == "__main__":
    main()
