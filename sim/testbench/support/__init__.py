"""Models, drivers and tops that the testbenches share."""
