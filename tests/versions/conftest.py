"""These tests run on a vLLM of their own (`make test-versions`), never with the others."""

from __future__ import annotations

import os

# They would only repeat tests/engine on the vLLM of .venv; run.py says which release is there.
if "TPUTTUI_VLLM_RELEASE" not in os.environ:
    collect_ignore_glob = ["test_*.py"]
