"""From an ONNX model to the compiler's graph: `importer` is the way in, `registry` lists the operators it knows."""
