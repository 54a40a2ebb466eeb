"""The ONNX model before the walk: read, checked, put in order, typed."""
