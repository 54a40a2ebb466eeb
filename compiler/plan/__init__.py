"""The plan of a graph: how each layer is tiled, where each tensor lies, at what cost."""
