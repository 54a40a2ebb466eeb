"""The SRAM controllers of activations, weights and parameters, and the memory under them."""
