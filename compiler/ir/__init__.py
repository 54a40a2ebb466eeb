"""The graph between front end and back end: its definition, its text, its verification."""
