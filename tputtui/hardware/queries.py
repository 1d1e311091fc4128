"""Asks a GPU driver's Python module single queries; a failed query only yields None itself."""

from __future__ import annotations

import contextlib
from typing import Any


class Queries:
    """Queries to `module`, which raises `failures` when a query fails."""

    def __init__(self, module: Any, failures: type[Exception]) -> None:
        # Any: neither pynvml nor amdsmi carries types.
        self._module = module
        self._failures = failures

    def ask(self, query: str, *args: Any, older: str | None = None) -> Any:
        """The answer to `query`, else the answer to its `older` name, else None.

        The answer is None if an argument is None (a missing handle or constant).
        """
        if any(arg is None for arg in args):
            return None
        for name in (query, older):
            function = getattr(self._module, name, None) if name else None
            if function is not None:
                with contextlib.suppress(self._failures):
                    return function(*args)
        return None

    def did(self, command: str, *args: Any) -> bool:
        """Whether the driver carried the command out."""
        function = getattr(self._module, command, None)
        if function is None or any(arg is None for arg in args):
            return False
        try:
            function(*args)
        except self._failures:
            return False
        return True

    def constant(self, name: str) -> Any:
        """A constant of the module, or (with a dot) of an enumeration in it; None if missing."""
        value = self._module
        for part in name.split("."):
            value = getattr(value, part, None)
        return value
