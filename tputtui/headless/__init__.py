"""The headless room: the same session without a screen. Imports no Textual."""
