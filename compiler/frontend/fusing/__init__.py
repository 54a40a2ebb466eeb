"""What joins ONNX nodes to layers: scale, bias, limits, tables, and the ends of layers."""
