"""One ONNX node as the front end sees it: its attributes, each honoured or refused, and errors that name it."""

from typing import Any

from onnx import AttributeProto, NodeProto, helper

from systolith.errors import SystolithError, UnsupportedError

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
    notes : list of str
        Where `note` writes.
    """

    def __init__(self, proto: NodeProto, where: str, opset: int, notes: list[str] | None = None):
        self.proto, self.where, self.opset = proto, where, opset
        self.notes = [] if notes is None else notes
        self.op = proto.op_type
        self.name = proto.name or proto.output[0]

    def error(self, message: str) -> SystolithError:
        """An error that names file, operator and node."""
        return SystolithError(f"{self.where}: {self.op} '{self.name}': {message}")

    def unsupported(self, message: str) -> UnsupportedError:
        """Likewise, where the node is sound and only the accelerator cannot run it."""
        return UnsupportedError(f"{self.where}: {self.op} '{self.name}': {message}", self.proto.output[0])

    def note(self, message: str) -> None:
        """Something worth knowing about the node, for reports; once."""
        line = f"{self.op} '{self.name}': {message}"
        if line not in self.notes:
            self.notes.append(line)

    def attributes(self, **defaults: Any) -> dict[str, Any]:
        """Values of the attributes named in `defaults`, of the defaults' types (tuple: integers; None: any).

        Raises UnsupportedError for an attribute that is not among them, SystolithError for one of another type.
        """
        values = dict(defaults)
        for attribute in self.proto.attribute:
            name = attribute.name
            if name not in defaults:
                known = ", ".join(sorted(defaults)) or "none"
                raise self.unsupported(f"attribute '{name}' is not supported (supported: {known})")
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
        """Raises UnsupportedError for an attribute in `values` that is not as `expected`."""
        for name, value in expected.items():
            if values[name] != value:
                raise self.unsupported(f"attribute '{name}' must be {value!r}, not {values[name]!r}")
