"""Schedule: plans to steps, which are loads, compute, outputs, and the constants they need."""
