"""Functions of a model (`model.functions`): their nodes in place of each call.

ONNX's inliner knows neither the default values of a function's attributes nor the domains that its nodes need.
"""

import onnx.inliner
import onnx.shape_inference
from onnx import AttributeProto, FunctionProto, ModelProto, NodeProto

from systolith.errors import SystolithError
from systolith.stored_models import nodes

__all__ = ["inline_functions"]

Key = tuple[str, str, str]


def inline_functions(model: ModelProto, where: str) -> ModelProto:
    """A copy without functions. Raises SystolithError, which names the function, for one that cannot be inlined."""
    filled = ModelProto()
    filled.CopyFrom(model)
    functions = {(f.domain, f.name, f.overload): f for f in filled.functions}
    # What a function takes from one that it calls, its callers take from it.
    while any(_fill(node, functions, f, where) for f in filled.functions for node in nodes(f)):
        pass
    for node in nodes(filled.graph):
        _fill(node, functions, None, where)
    _import_domains(filled)
    versions = {opset.version for f in (filled, *filled.functions) for opset in f.opset_import if not opset.domain}
    if len(versions) > 1:  # What converts nodes must know the types of tensors.
        filled = onnx.shape_inference.infer_shapes(filled)
    inlined = onnx.inliner.inline_local_functions(filled, convert_version=len(versions) > 1)
    for node in nodes(inlined.graph):
        if function := functions.get(_key(node)):
            versions = {opset.domain: opset.version for opset in function.opset_import}
            raise SystolithError(
                f"{where}: function '{function.name}' must be one that can be brought to the opset of the model; "
                f"it has opset {versions.get('', 'none')}"
            )
    return inlined


def _key(node: NodeProto) -> Key:
    return node.domain, node.op_type, node.overload


def _fill(node: NodeProto, functions: dict[Key, FunctionProto], caller: FunctionProto | None, where: str) -> bool:
    """Give a call the default values of attributes that it does not give. Whether its caller has new ones by that."""
    called = functions.get(_key(node))
    given = {attribute.name: attribute for attribute in node.attribute}
    taken = False
    for default in called.attribute_proto if called is not None else ():
        if default.name not in given:
            node.attribute.append(default)
        elif caller is not None and given[default.name].ref_attr_name in caller.attribute:
            _take(caller, given[default.name].ref_attr_name, default, where)
            taken = True
    return taken


def _take(function: FunctionProto, name: str, default: AttributeProto, where: str) -> None:
    """Where a function gives its attribute `name`, which has no default, to one that it calls, it has that one's."""
    used = [attribute for node in nodes(function) for attribute in node.attribute if attribute.ref_attr_name == name]
    if len(used) > 1:
        raise SystolithError(f"{where}: attribute '{name}' of function '{function.name}' must have a default value")
    function.attribute.remove(name)
    taken = function.attribute_proto.add()
    taken.CopyFrom(default)
    taken.name = name


def _import_domains(model: ModelProto) -> None:
    """The model imports what its functions do."""
    known = {opset.domain for opset in model.opset_import}
    for function in model.functions:
        for opset in function.opset_import:
            if opset.domain not in known:
                known.add(opset.domain)
                model.opset_import.append(opset)
