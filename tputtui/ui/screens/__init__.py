"""Screens over the board: dialogs, forms, tables, the engine log, help."""
