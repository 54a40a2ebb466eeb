"""A convolutional network for handwritten digits; see README.md here."""
