"""This process: its terminal, its standard streams, its log, the place of its files."""
