"""`python -m tputtui`."""

from tputtui.cli import main

# vLLM's tensor-parallel workers are spawned: they import this module again.
if __name__ == "__main__":
    raise SystemExit(main())
