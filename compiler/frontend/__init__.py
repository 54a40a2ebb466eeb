"""From an ONNX model to the compiler's graph: `importer` is the way in, `operators` lists what it knows."""
