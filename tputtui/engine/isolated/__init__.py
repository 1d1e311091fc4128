"""The loop and its engine in a process of their own, which this one outlives."""
