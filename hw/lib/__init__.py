"""Parts that several blocks use: queues, delays, decoders, retirement, and Verilog out of components."""
