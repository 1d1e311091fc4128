"""A server that runs elsewhere, driven like an engine."""
