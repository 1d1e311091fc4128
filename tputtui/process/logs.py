"""Sets up Python's loggers, vLLM's included, in the same way for both processes."""

from __future__ import annotations

import logging

from tputtui.redact import Redacting

__all__ = ["log_through"]


def log_through(handler: logging.Handler) -> None:
    """Point the root logger and vLLM's own at `handler`, in one format."""
    handler.setFormatter(Redacting("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S"))
    vllm = logging.getLogger("vllm")
    # Otherwise the log would contain each of its lines twice.
    vllm.propagate = False
    for log in (logging.getLogger(), vllm):
        log.addHandler(handler)
        log.setLevel(logging.INFO)
    logging.captureWarnings(True)
