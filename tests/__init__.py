"""Tests. They wait for events, never for a time: a machine may be as busy as it likes."""

PATIENCE_S = 600.0
"""How long a test waits for an event before it says what it waited for in vain."""
