"""The graph between front end and back end: its definition, its text, what must hold for it."""
