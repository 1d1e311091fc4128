"""Screens that lie over the board: dialogs, the engine log, help."""
