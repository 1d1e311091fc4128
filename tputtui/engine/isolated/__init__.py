"""The loop and its engine in a child process, whose death this process survives."""
