"""ONNX's own node tests on the accelerator, and the page that lists their results."""
