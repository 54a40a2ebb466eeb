"""Registry of operators: for each name, the function that maps descriptions of inputs to those of outputs."""

from systolith.compiler.frontend.operators.concat import concat, qlinear_concat
from systolith.compiler.frontend.operators.conv_transpose import conv_transpose
from systolith.compiler.frontend.operators.depth_space import depth_to_space, space_to_depth
from systolith.compiler.frontend.operators.elementwise import ELEMENTWISE, elementwise
from systolith.compiler.frontend.operators.pad import pad
from systolith.compiler.frontend.operators.pool import average_pool, global_average_pool, global_max_pool, max_pool
from systolith.compiler.frontend.operators.products import conv, gemm, matmul, qgemm, qlinear_conv, qlinear_matmul
from systolith.compiler.frontend.operators.qlinear import (
    qlinear_average_pool,
    qlinear_binary,
    qlinear_global_average_pool,
    qlinear_unary,
)
from systolith.compiler.frontend.operators.quantize_linear import dequantize
from systolith.compiler.frontend.operators.reduce import reduce_max, reduce_mean
from systolith.compiler.frontend.operators.resize import resize
from systolith.compiler.frontend.operators.shapes import (
    dropout,
    flatten,
    identity,
    reshape,
    squeeze,
    transpose,
    unsqueeze,
)
from systolith.compiler.frontend.operators.slice import gather, slice_, split
from systolith.compiler.frontend.values.constants import shape, size

__all__ = ["BOTH", "LAYERS", "MICROSOFT", "OPERATORS", "PLAIN", "VIEWS"]

VIEWS = {
    "DequantizeLinear": dequantize,
    "Dropout": dropout,
    "Flatten": flatten,
    "Identity": identity,
    "Reshape": reshape,
    "Shape": shape,
    "Size": size,
    "Squeeze": squeeze,
    "Transpose": transpose,
    "Unsqueeze": unsqueeze,
}
"""Operators that only look at a tensor in another way."""
PLAIN = {
    "AveragePool": average_pool,
    "GlobalAveragePool": global_average_pool,
    "ReduceMean": reduce_mean,
}
"""Operators whose layer waits for its QuantizeLinear."""
LAYERS = {
    **dict.fromkeys(ELEMENTWISE, elementwise),
    "Concat": concat,
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "DepthToSpace": depth_to_space,
    "Gather": gather,
    "Gemm": gemm,
    "GlobalMaxPool": global_max_pool,
    "MatMul": matmul,
    "MaxPool": max_pool,
    "Pad": pad,
    "QGemm": qgemm,
    "QLinearAdd": qlinear_binary,
    "QLinearAveragePool": qlinear_average_pool,
    "QLinearConcat": qlinear_concat,
    "QLinearConv": qlinear_conv,
    "QLinearGlobalAveragePool": qlinear_global_average_pool,
    "QLinearLeakyRelu": qlinear_unary,
    "QLinearMatMul": qlinear_matmul,
    "QLinearMul": qlinear_binary,
    "QLinearSigmoid": qlinear_unary,
    "ReduceMax": reduce_max,
    "Resize": resize,
    "Slice": slice_,
    "SpaceToDepth": space_to_depth,
    "Split": split,
}
"""Operators that append layers, before their own if that waits for its QuantizeLinear."""
MICROSOFT = (
    "FastGelu", "QGemm", "QLinearAdd", "QLinearAveragePool", "QLinearConcat", "QLinearGlobalAveragePool",
    "QLinearLeakyRelu", "QLinearMul", "QLinearSigmoid", "QuickGelu",
)  # fmt: skip
"""Those of domain com.microsoft alone."""
BOTH = ("DequantizeLinear", "Gelu", "QuantizeLinear")
OPERATORS = tuple(sorted([*VIEWS, *PLAIN, *LAYERS, "Constant", "QuantizeLinear"]))
"""Operators the front end accepts, apart from those it folds."""
