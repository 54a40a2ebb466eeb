"""Tests of everything at once: random networks and ONNX's node tests."""
