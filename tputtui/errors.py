"""The errors a person sees: one sentence of what failed, one of what to do next.

TputError
├── UsageError      bad flag, value or file; nothing was started        exit 2
│   ├── ProfileError    a profile that cannot be read or written
│   │   └── ProfileExists   a file of that name is there already
│   ├── OthersError     it would cost requests of other people something
│   └── KnobError       a limit outside its bounds
│       ├── CeilingError    above what was booted: a boot would raise it
│       └── BootNeeded      only another engine can do it
├── EngineError     the engine did not boot, or died                    exit 3
└── OutputError     the output could not be written                     exit 74
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from tputtui.redact import redacted

__all__ = ["BootNeeded", "CeilingError", "EngineError", "KnobError", "OthersError",
           "OutputError", "ProfileError", "ProfileExists", "TputError", "UsageError", "closest",
           "nearest"]  # fmt: skip


_LONG = re.compile(r"\S{400,}")


def _shortened(word: re.Match[str]) -> str:
    return f"{word[0][:80]}…{word[0][-20:]}"


class TputError(Exception):
    """A failure with a `message` (what failed) and a `hint` (what to do next).

    Secrets in either text are replaced.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        message = redacted(message)
        super().__init__(message)
        self.message = message
        self.hint = redacted(hint)

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class UsageError(TputError):
    """The person's input cannot be used; nothing has been changed.

    A very long word that was pasted in stands in the message with its beginning and its end.
    """

    exit_code = 2

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(_LONG.sub(_shortened, message), _LONG.sub(_shortened, hint))


class ProfileError(UsageError):
    """A profile is missing, malformed, holds a value of the wrong kind, or cannot be written."""


class ProfileExists(ProfileError):
    """A file of that name exists already; it is not overwritten."""


class OthersError(UsageError):
    """It would cost requests of other people something; done `anyway` where that is meant."""

    def __init__(self, message: str, hint: str = "`--anyway` does it all the same.") -> None:
        super().__init__(message, hint)


class KnobError(UsageError):
    """The running engine cannot take the limit that was asked for."""


class CeilingError(KnobError):
    """A limit above its ceiling; an engine booted with a higher ceiling could take it.

    name: the limit. value: what was asked for.
    """

    def __init__(self, message: str, hint: str, name: str, value: int) -> None:
        super().__init__(message, hint)
        self.name = name
        self.value = value

    def __reduce__(self) -> tuple[type[CeilingError], tuple[str, str, str, int]]:
        # By default, unpickling builds an exception from its message alone.
        return type(self), (self.message, self.hint, self.name, self.value)


class BootNeeded(KnobError):
    """The setting that was asked for needs another engine, and so a boot."""


class EngineError(TputError):
    """The engine did not boot, or stopped by itself."""

    exit_code = 3


class OutputError(TputError):
    """The output could not be written (a full disk, a failing device)."""

    exit_code = 74


def closest(word: str, known: Iterable[str]) -> str:
    """The word of `known` that a misspelt word most likely means; empty if none is close."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.7)
    return close[0] if close else ""


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint with the closest word of `known` ("Did you mean `x`?"); empty if none is close."""
    close = closest(word, known)
    return f"Did you mean `{close}`?" if close else ""
