"""tputtui: tune a real vLLM engine live, in a terminal."""

__version__ = "0.2.0"
