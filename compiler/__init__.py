"""The compiler: ONNX to programs. `pipeline` compiles one graph, `network` a model with host parts."""
