"""Passes, each a function from graph to graph."""
