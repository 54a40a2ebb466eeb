"""What the front end knows of tensors: arrays, views, roles of axes, constants."""
