"""One run, and what a person can do with it: all that a front end talks to."""
