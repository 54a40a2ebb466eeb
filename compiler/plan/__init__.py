"""Plan of a graph: tiles of each layer, places of tensors, costs."""
