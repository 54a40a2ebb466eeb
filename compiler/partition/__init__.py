"""The split of a model between accelerator and host."""
