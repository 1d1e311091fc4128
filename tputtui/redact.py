"""Keeps secrets out of all output: recognises them by their name and by their form.

redacted(text)   for everything that goes to a log, a screen or a file
conceal(value)   treats `value` as a secret from now on (a token that was read from a file)
secret_in(args)  for engine arguments, which appear in profiles and in the list of processes
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Collection, Iterator, Mapping

__all__ = ["Redacting", "conceal", "redacted", "secret_in", "secrets_of"]

_GONE = "‹secret›"
_SHORTEST = 8
_SHORTEST_GIVEN = 4
_NAMED = re.compile(
    r"(^|_)(TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|ACCESS_KEY|PRIVATE_KEY|CREDENTIALS?)(_|$)", re.I
)
"""Names of environment variables that hold a secret."""
_SHAPED = re.compile(
    r"\bhf_[A-Za-z0-9]{16,}|\bsk-[A-Za-z0-9_-]{16,}|\bgh[pousr]_[A-Za-z0-9]{16,}"
    r"|\bAKIA[A-Z0-9]{16}\b|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)|(?<=Bearer )[\w.~+/=-]{8,}"
)
"""Tokens of Hugging Face, OpenAI, GitHub and AWS; a password in a URL; an authorization header."""
_KEYS = frozenset({
    "hf_token", "token", "auth_token", "access_token", "api_key", "apikey", "password", "passwd",
    "secret", "secret_key", "access_key", "secret_access_key", "aws_secret_access_key",
})  # fmt: skip
"""Keys of engine arguments, at any depth, whose text is a secret."""


_CONCEALED: set[str] = set()


def conceal(value: str) -> None:
    """Keep `value` out of all output."""
    # A shorter value occurs in too many other words.
    if len(value) >= _SHORTEST_GIVEN:
        _CONCEALED.add(value)


def redacted(text: str) -> str:
    """`text` with every secret in it replaced by ‹secret›."""
    for value in (*sorted(_CONCEALED, key=len, reverse=True), *_in_environment()):
        text = text.replace(value, _GONE)
    return _SHAPED.sub(_GONE, text)


def secret_in(args: Mapping[str, object]) -> str | None:
    """The name of an engine argument that holds a secret, at any depth; None where none does."""
    return next((name for name, value in args.items() if _holds(name, value)), None)


def secrets_of(args: Mapping[str, object], names: Collection[str] = ()) -> Iterator[str]:
    """The secrets among arguments, at any depth, recognised by their key; names: further keys."""
    for name, value in args.items():
        if isinstance(value, Mapping):
            yield from secrets_of(value, names)
        elif _key(name) in _KEYS or name in names:
            yield from (str(each) for each in (value if isinstance(value, list) else [value]))


class Redacting(logging.Formatter):
    """A log formatter whose lines, tracebacks included, contain no secret."""

    def format(self, record: logging.LogRecord) -> str:
        """The formatted line without secrets."""
        return redacted(super().format(record))


def _in_environment() -> list[str]:
    """Values of environment variables with a secret's name; the longest first."""
    secrets = {
        value
        for name, value in os.environ.items()
        # A path names a secret's file; the path itself is not secret.
        if _NAMED.search(name) and len(value) >= _SHORTEST and not value.startswith(("/", "~"))
    }
    return sorted(secrets, key=len, reverse=True)


def _holds(name: str, value: object) -> bool:
    if isinstance(value, Mapping):
        return any(_holds(str(key), inner) for key, inner in value.items())
    if isinstance(value, list | tuple):
        return any(_holds(name, inner) for inner in value)
    if not isinstance(value, str) or not value:
        return False
    return _key(name) in _KEYS or redacted(value) != value


def _key(name: str) -> str:
    return name.rpartition(".")[2].replace("-", "_").lower()
