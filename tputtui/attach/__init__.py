"""Watches servers that run elsewhere through what they publish. Knows no engine and no screen."""
