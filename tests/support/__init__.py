"""Helpers that tests share: models, graphs, programs, comparisons."""
