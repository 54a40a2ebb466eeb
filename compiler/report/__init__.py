"""What a program tells of itself: META, and the map of activation SRAM."""
