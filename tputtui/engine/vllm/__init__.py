"""A real vLLM engine in this process. All that touches vLLM and torch is in this room.

`internals` lists what is relied on inside them.
"""
