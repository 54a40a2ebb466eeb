"""Layout: word addresses of a value in its tensor."""
