"""The instruction simulator: the definition of what instructions do."""
