"""The report room: a recorded run as a page for a change ticket, and two runs side by side."""
