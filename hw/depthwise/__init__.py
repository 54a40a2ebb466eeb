"""The unit DEPTHWISE: a convolution of each channel with taps of its own, beside the array."""
