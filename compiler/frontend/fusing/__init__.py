"""Fusing of ONNX nodes to layers: scale, bias, limits, tables, and requantization at the ends of layers."""
