"""tputtui: tune a real vLLM engine live, in a terminal."""

__version__ = "0.1.0"
