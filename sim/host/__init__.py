"""The host's side of a run: files, tensors, the image of memory, faults."""
