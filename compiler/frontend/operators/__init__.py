"""ONNX operators, a file for each family: what its nodes become."""
