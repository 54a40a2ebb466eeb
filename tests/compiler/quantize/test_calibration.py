"""What runs of a model take of its samples, by the shapes of its inputs; what does not fit is one line."""

from math import prod

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from systolith import SystolithError
from systolith.compiler.quantize.calibration import Samples

TYPES = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64, "bool": TensorProto.BOOL}


def samples(shapes: dict, arrays: dict, **options) -> Samples:
    """Of inputs with these shapes; arrays by shape, filled with their entries' numbers."""
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in shapes.items()]
    return Samples(ports, {name: numbered(*shape) for name, shape in arrays.items()}, **options)


def numbered(*shape: int) -> np.ndarray:
    """Each entry of the first axis has its number."""
    count = shape[0] if shape else 1
    return np.repeat(np.arange(count, dtype=np.float32), prod(shape[1:])).reshape(shape)


IMAGE = ["batch", 3]


@pytest.mark.parametrize(
    ("shapes", "arrays", "expected"),
    [
        # Samples of an open batch, 8 at a time, the last one again.
        ({"x": IMAGE}, {"x": (10, 3)}, [{"x": [*range(8)]}, {"x": [8, *[9] * 7]}]),
        ({"x": [4, 3]}, {"x": (6, 3)}, [{"x": [0, 1, 2, 3]}, {"x": [4, 5, 5, 5]}]),
        ({"x": [4, 3], "z": IMAGE}, {"x": (6, 3), "z": (6, 3)},
         [{"x": [0, 1, 2, 3], "z": [0, 1, 2, 3]}, {"x": [4, 5, 5, 5], "z": [4, 5, 5, 5]}]),
        # Inputs of different first dimensions, for as many runs.
        ({"x": [2, 3], "z": [1, 3]}, {"x": (4, 3), "z": (2, 3)}, [{"x": [0, 1], "z": [0]}, {"x": [2, 3], "z": [1]}]),
        # Scalars and states behind an axis more, or once for all.
        ({"t": []}, {"t": (2,)}, [{"t": 0}, {"t": 1}]),
        ({"x": IMAGE, "t": []}, {"x": (2, 3), "t": ()}, [{"x": [0, 1], "t": 0}]),
        ({"x": IMAGE, "t": []}, {"x": (2, 3), "t": (2,)}, [{"x": [0], "t": 0}, {"x": [1], "t": 1}]),
        ({"x": [1, 3], "h": [2, 1]}, {"x": (2, 3), "h": (2, 1)}, [{"x": [0], "h": [0, 1]}, {"x": [1], "h": [0, 1]}]),
        ({"x": [1, 3], "h": [1, 1, 4]}, {"x": (2, 3), "h": (2, 1, 1, 4)}, [{"x": [0], "h": [0]}, {"x": [1], "h": [1]}]),
        ({"x": [1, 3], "h": [1, 1, 4]}, {"x": (2, 3), "h": (2, 1, 4)}, [{"x": [0], "h": [0]}, {"x": [1], "h": [1]}]),
        ({"x": [6, "batch", 3], "h": [1, "batch", 4]}, {"x": (2, 6, 1, 3), "h": (1, 1, 4)},
         [{"x": [0] * 6, "h": [0]}, {"x": [1] * 6, "h": [0]}]),
        ({"x": [3]}, {"x": (2, 3)}, [{"x": [0] * 3}, {"x": [1] * 3}]),
        ({"x": [3]}, {"x": (6,)}, [{"x": [0, 1, 2]}, {"x": [3, 4, 5]}]),
    ],
)  # fmt: skip
def test_runs(shapes, arrays, expected):
    found = list(samples(shapes, arrays))
    assert len(found) == len(expected)
    for run, values in zip(found, expected, strict=True):
        for name, numbers in values.items():
            dims = [dim if isinstance(dim, int) else run[name].shape[i] for i, dim in enumerate(shapes[name])]
            assert run[name].shape == tuple(dims) and run[name].dtype == np.float32
            assert run[name].reshape(*dims[:1], -1)[..., 0].tolist() == numbers


@pytest.mark.parametrize("shape", [[0, 4], [2, 0, 4]])
@pytest.mark.parametrize("each", [False, True])
def test_an_input_without_elements(shape, each):
    """One array for all runs, or one for each."""
    found = samples({"x": [1, 3], "e": shape}, {"x": (2, 3), "e": (2, *shape) if each else tuple(shape)})
    assert [run["e"].shape for run in found] == [tuple(shape)] * 2


def test_counts():
    several = samples({"x": [1, 3], "h": [1, 1, 4]}, {"x": (5, 3), "h": (1, 1, 4)})
    assert (several.count, several.batch, len(several)) == (5, 1, 5)
    free = samples({"x": IMAGE}, {"x": (10, 3)}, most=3)
    assert (free.count, free.batch, len(free)) == (10, 3, 4)


@pytest.mark.parametrize(
    ("shapes", "arrays", "message"),
    [
        ({"x": IMAGE}, {"x": (3,)}, "must have shape (samples, 3), or (samples, batch, 3), not (3,)"),
        ({"x": [2, None]}, {"x": (2, 3, 4, 5)}, "must have shape (samples, ?), or (samples, 2, ?), not (2, 3, 4, 5)"),
        ({"x": IMAGE, "e": [0, 4]}, {"x": (2, 3), "e": (2, 4)}, "(0, 4), or (samples, 0, 4), not (2, 4)"),
        ({"x": IMAGE, "e": [0, 4]}, {"x": (2, 3), "e": (0, 0, 4)}, "at least one sample; its shape is (0, 0, 4)"),
        ({"t": []}, {"t": (2, 1)}, "'t' must have shape (samples), not (2, 1)"),
        ({"x": [2, 3]}, {"x": (5, 1, 3)}, "must have shape (samples, 3), or (samples, 2, 3), not (5, 1, 3)"),
        ({"x": IMAGE, "z": IMAGE}, {"x": (5, 3), "z": (6, 3)}, "as many samples of each input, not {'x': 5, 'z': 6}"),
        ({"x": [4, 3], "z": [4, 3]}, {"x": (6, 3), "z": (7, 3)}, "as many samples of each input, not {'x': 6, 'z': 7}"),
        ({"x": [2, 3], "z": [1, 3]}, {"x": (4, 3), "z": (4, 3)},
         "as many runs of the model in each input, not {'x': 2, 'z': 4}"),
        ({"x": [1, 3], "t": []}, {"x": (4, 3), "t": (3,)}, "as many samples of each input, not {'x': 4, 't': 3}"),
    ],
)  # fmt: skip
def test_what_does_not_fit(shapes, arrays, message):
    with pytest.raises(SystolithError) as error:
        samples(shapes, arrays)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_strings_and_what_is_no_tensor():
    port = helper.make_tensor_value_info("s", TensorProto.STRING, ["n"])
    assert Samples([port], {"s": np.array(["a", "b"])})[0]["s"].tolist() == ["a", "b"]
    with pytest.raises(SystolithError, match="input 's' must be object, not int64"):
        Samples([port], {"s": np.arange(2)})
    for port in (
        helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, [2]),
        helper.make_value_info("s", helper.make_optional_type_proto(helper.make_tensor_type_proto(1, [2]))),
    ):
        with pytest.raises(SystolithError, match=r"must be for a tensor; the model's is of type (sequence|optional)$"):
            Samples([port], {"s": np.zeros((2, 2), np.float32)})
    with pytest.raises(SystolithError, match="must be for an input with a shape; the model's has none"):
        Samples([helper.make_tensor_value_info("x", 1, None)], {"x": np.zeros(2, np.float32)})
    with pytest.raises(SystolithError, match="must be a NumPy array, not list"):
        Samples([helper.make_tensor_value_info("x", 1, [2])], {"x": [1.0, 2.0]})


def reshaping(rows: int):
    """A model with an open batch which it then gives a size."""
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["r"]), helper.make_node("MatMul", ["r", "w"], ["y"])]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 6]) for name in "xy")
    stored = [numpy_helper.from_array(values, name) for name, values in
              (("shape", np.array([rows, -1])), ("w", np.ones((6, 6), np.float32)))]  # fmt: skip
    graph = helper.make_graph(nodes, "g", [x], [y], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_a_model_that_runs_one_at_a_time():
    """Its batch is open, but a Reshape inside is for one."""
    found = Samples.that_run(reshaping(1), {"x": np.zeros((5, 6), np.float32)}, "net")
    assert (found.batch, len(found)) == (1, 5)
    with pytest.raises(SystolithError, match=r"^net: ONNX Runtime cannot run it on the first samples: .*Reshape"):
        Samples.that_run(reshaping(4), {"x": np.zeros((5, 6), np.float32)}, "net")
