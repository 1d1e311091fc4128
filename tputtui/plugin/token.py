"""The control token of a server: read from a file that only its owner can read."""

from __future__ import annotations

import os
import stat
from hmac import compare_digest
from pathlib import Path

__all__ = ["VARIABLE", "ControlToken"]

VARIABLE = "TPUTTUI_CONTROL_TOKEN_FILE"


class ControlToken:
    """Whoever shows this token may take control.

    why_not: why nobody can, in a sentence; empty where somebody can. Never in argv, never in a log.
    """

    def __init__(self) -> None:
        self._token = b""
        self.why_not = ""
        named = os.environ.get(VARIABLE, "")
        if not named:
            self.why_not = f"The server was started without {VARIABLE}: it can only be watched."
            return
        try:
            path = Path(named).expanduser()
            mode = path.stat().st_mode
            self._token = path.read_bytes().strip()
        except (OSError, RuntimeError) as error:
            why = getattr(error, "strerror", None) or error
            self.why_not = f"{VARIABLE} cannot be read: {why}."
            return
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            self._token = b""
            self.why_not = f"{VARIABLE} can be read by others (chmod 600 it): nobody can control."
        elif len(self._token) < 16:
            self._token = b""
            self.why_not = f"The token in {VARIABLE} is shorter than 16 characters."

    def is_shown(self, text: str) -> bool:
        """Whether `text` is the token."""
        return bool(self._token) and compare_digest(text.encode(), self._token)
