"""Descriptions of tensors during the walk: arrays, views, roles of axes, constants."""
