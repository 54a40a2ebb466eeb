"""The Verilog under simulation: builds, backends, and the tools they need."""
