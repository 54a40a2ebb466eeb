"""A run against its references: outputs, programs, faults, whole networks."""
