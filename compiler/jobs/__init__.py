"""Jobs: a layer as loops of the unit that runs it, and every way to run it."""
