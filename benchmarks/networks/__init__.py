"""Networks built by scripts, without a download: `tiny` (MLPerf Tiny topologies) and `zoo` (ImageNet topologies).

`quantized` makes the int8 model and keeps it in the cache folder, by what made it.
"""

import hashlib
from importlib.metadata import version
from pathlib import Path

from systolith.benchmarks.networks import tiny, weights, zoo
from systolith.compiler.quantize import calibration, fold_norms, own_constants, quantize
from systolith.file_io import write_whole
from systolith.sim.rtl.toolchain import cache_for

__all__ = ["SUITES", "quantized"]

BUILDERS = {"tiny": tiny, "zoo": zoo}
SUITES = {suite: tuple(module.NETWORKS) for suite, module in BUILDERS.items()}
"""Names of the networks of each suite."""


def quantized(suite: str, name: str) -> bytes:
    """The int8 QDQ model of a network: built and quantized the first time, the same bits each time."""
    module = BUILDERS[suite]
    makers = module, weights, quantize, calibration, fold_norms, own_constants
    sources = [Path(made_by.__file__ or "").read_bytes() for made_by in makers]
    versions = [version(package) for package in ("onnx", "onnxruntime", "numpy")]
    key = hashlib.sha256(b"\0".join([*sources, repr((name, versions)).encode()])).hexdigest()[:20]
    path = cache_for("networks") / f"{name}_{key}.onnx"
    if not path.exists():
        model = module.float_model(name)
        write_whole(path, quantize.quantize_model(model.SerializeToString(), module.calibration(model), where=name))
    return path.read_bytes()
