"""From plans to steps: loads, compute, outputs, and the constants they need."""
