"""Random models with operators that only the host runs."""
