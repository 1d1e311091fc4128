"""Writes the session log of a run, reads it, and replays it."""
