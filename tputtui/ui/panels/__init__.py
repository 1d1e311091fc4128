"""What the panels show: pure functions from a frame to rows, one file per visible thing."""
