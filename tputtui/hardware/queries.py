"""A GPU driver's Python module, asked one thing at a time: a question that fails is None alone."""

from __future__ import annotations

import contextlib
from typing import Any


class Queries:
    """What `module` answers; `failures` is what it raises when it does not."""

    def __init__(self, module: Any, failures: type[Exception]) -> None:
        # Any: neither pynvml nor amdsmi carries types.
        self._module = module
        self._failures = failures

    def ask(self, query: str, *args: Any, older: str | None = None) -> Any:
        """The answer, else that to the `older` name of the query, else None.

        A query on None (a handle that could not be had, a constant that is missing) is None.
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
        """A constant of the module, or (with a dot) of an enumeration in it; None without one."""
        found = self._module
        for part in name.split("."):
            found = getattr(found, part, None)
        return found
