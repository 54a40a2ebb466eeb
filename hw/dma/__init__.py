"""The way between memory and SRAM: LOAD.W, LOAD.A and STORE behind one AXI master."""
