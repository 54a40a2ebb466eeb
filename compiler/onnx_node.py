"""One ONNX node as the front end sees it: its attributes, each honoured or refused, and errors that name it."""

from typing import Any

from onnx import AttributeProto, NodeProto, helper

from systolith.errors import SystolithError

__all__ = ["Node"]

KINDS = {int: AttributeProto.INT, float: AttributeProto.FLOAT, str: AttributeProto.STRING, tuple: AttributeProto.INTS}


class Node:
    """A node of a file.

    Parameters
    ----------
    proto : NodeProto
        The node.
    where : str
        Name of the file, for errors.
    opset : int
        Version of the operator set of its domain.
    """

    def __init__(self, proto: NodeProto, where: str, opset: int):
        self.proto, self.where, self.opset = proto, where, opset
        self.op = proto.op_type
        self.name = proto.name or proto.output[0]

    def error(self, message: str) -> SystolithError:
        """An error that names file, operator and node."""
        return SystolithError(f"{self.where}: {self.op} '{self.name}': {message}")

    def attributes(self, **defaults: Any) -> dict[str, Any]:
        """Values of the attributes named in `defaults`, of the defaults' types (tuple: integers; None: any).

        Raises SystolithError for an attribute that is not among them, or has another type.
        """
        values = dict(defaults)
        for attribute in self.proto.attribute:
            name = attribute.name
            if name not in defaults:
                known = ", ".join(sorted(defaults)) or "none"
                raise self.error(f"attribute '{name}' is not supported (supported: {known})")
            kind = type(defaults[name])
            if attribute.ref_attr_name or (kind in KINDS and attribute.type != KINDS[kind]):
                found = AttributeProto.AttributeType.Name(attribute.type)
                raise self.error(f"attribute '{name}' must be of type {kind.__name__}, not {found}")
            value = helper.get_attribute_value(attribute)
            if isinstance(value, bytes):
                value = value.decode(errors="replace")
            values[name] = tuple(value) if isinstance(value, list) else value
        return values

    def require(self, values: dict[str, Any], **expected: Any) -> None:
        """Raises SystolithError for an attribute in `values` that is not as `expected`."""
        for name, value in expected.items():
            if values[name] != value:
                raise self.error(f"attribute '{name}' must be {value!r}, not {values[name]!r}")
