"""The unit EXECUTE: from instructions to the rows and weights that the array takes."""
