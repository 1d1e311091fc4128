"""Servers that run elsewhere, watched through what they tell. Knows no engine and no screen."""
