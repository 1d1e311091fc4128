"""Sets up Python's loggers, vLLM's included, in the same way for both processes."""

from __future__ import annotations

import logging

from tputtui.process.privacy import is_private, withheld
from tputtui.redact import Redacting

__all__ = ["log_through"]


class _Private(Redacting):
    """A formatter whose lines contain no secret, and nothing of a real request."""

    def format(self, record: logging.LogRecord) -> str:
        return super().format(withheld(record) if is_private() else record)


def log_through(handler: logging.Handler) -> None:
    """Point the root logger and vLLM's own at `handler`, in one format."""
    handler.setFormatter(_Private("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S"))
    vllm = logging.getLogger("vllm")
    # Otherwise the log would contain each of its lines twice.
    vllm.propagate = False
    for log in (logging.getLogger(), vllm):
        log.addHandler(handler)
        log.setLevel(logging.INFO)
    logging.captureWarnings(True)
