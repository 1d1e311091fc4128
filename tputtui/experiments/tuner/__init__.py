"""The tuner: which setting to measure next, for how long, and the result."""
