"""Which setting to try next, given what the last ones gave. Pure: measures nothing itself."""
