"""ONNX Runtime as the independent reference."""
