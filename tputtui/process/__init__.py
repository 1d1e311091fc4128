"""This process: its terminal, its standard streams, its log, where it keeps files."""
