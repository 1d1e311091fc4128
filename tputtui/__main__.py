"""`python -m tputtui`."""

from tputtui.cli import program

# vLLM's tensor-parallel workers are spawned: they import this module again.
if __name__ == "__main__":
    program()
