"""The record room: a run written down as it goes, and looked at again."""
