"""The engine room: the loop (`host`) and the engines it can drive."""
