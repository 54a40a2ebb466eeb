"""The order of a program: hazards, tokens, drains, interleaved layers, instructions."""
