"""ONNX operators, a file for each family: how a node becomes layers or a view."""
