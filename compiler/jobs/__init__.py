"""Jobs: what a layer is to the unit that runs it, and every way to run it."""
