"""Float ONNX models to int8."""
