"""One run, and everything a person can do with it. Front ends talk only to this room."""
