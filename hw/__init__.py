"""The hardware: blocks in Amaranth, joined by `top`, written as Verilog by `generate`."""
