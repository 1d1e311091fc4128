"""Numbers and charts as text. Pure."""
