"""Where the elements of a value lie in its tensor."""
