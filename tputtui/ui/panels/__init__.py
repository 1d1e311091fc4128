"""What the panels say: pure functions from a frame to rows, one file per visible thing."""
