"""Proof that a program is safe to run, from its bytes alone; shares no code with what made it."""
