"""Report of a program: its description (META), and the map of activation SRAM."""
