"""Examples that the command line can run."""
