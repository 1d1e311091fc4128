"""Keeps prompts and answers out of the log, from the moment real ones are in this process.

Messages of libraries, and of exceptions, may quote what they are given. So once `keep_private` was
called, a log line keeps its place in the code and what its author wrote, and loses every value that
is not a number; an exception keeps its type and its frames, and loses its message. What any Python
code prints is dropped. It is never switched off again: an exception may keep a text for long.
"""

from __future__ import annotations

import ast
import logging
import sys
import threading
import traceback
from functools import lru_cache
from types import TracebackType
from typing import Any

__all__ = ["is_private", "keep_private", "plain_traceback", "withheld"]

GONE = "‹withheld›"
_OURS = "tputtui"


class _State:
    private = False


def keep_private() -> None:
    """Let no text of a request reach the log, from now to the end of this process."""
    if _State.private:
        return
    _State.private = True
    # Python's own hooks print an exception's message to standard error, which is the log.
    sys.excepthook = _uncaught
    threading.excepthook = lambda args: _uncaught(args.exc_type, args.exc_value, args.exc_traceback)
    sys.unraisablehook = lambda args: _uncaught(args.exc_type, args.exc_value, args.exc_traceback)


def is_private() -> bool:
    """Whether `keep_private` was called."""
    return _State.private


def withheld(record: logging.LogRecord) -> logging.LogRecord:
    """A copy of `record` without what may be of a request."""
    safe = logging.makeLogRecord(record.__dict__)
    ours = record.name.split(".")[0] == _OURS
    if ours or (isinstance(record.msg, str) and record.msg in _constants(record.pathname)):
        safe.args = _numbers(record.msg, record.args, texts=ours)
    else:
        # An f-string, or an object: what of it is the author's cannot be told.
        safe.msg, safe.args = f"{GONE} ({record.filename}:{record.lineno})", ()
    if record.exc_info and record.exc_info[1] is not None:
        safe.exc_text = plain_traceback(record.exc_info[1])
    safe.exc_info = safe.stack_info = None
    try:
        safe.getMessage()
    except (TypeError, ValueError, KeyError):
        # A conversion that wants a number got what was withheld.
        safe.msg, safe.args = f"{GONE} ({record.filename}:{record.lineno})", ()
    return safe


def plain_traceback(error: BaseException) -> str:
    """Frames and types of an exception and of those behind it, without their messages."""
    lines: list[str] = []
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        frames = "".join(traceback.format_tb(link.__traceback__))
        lines.insert(0, f"Traceback (most recent call last):\n{frames}{_type(link)}: {GONE}")
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return "\nthen:\n".join(lines)


def _numbers(message: object, args: Any, *, texts: bool) -> Any:
    """`args` of a record with every value replaced that is no number (and no text of ours)."""
    if isinstance(args, dict):
        # One object given for a `%s` is stored as these are: its keys are not the author's.
        named = {k: _number(v, texts) for k, v in args.items() if f"%({k})" in str(message)}
        return named or (GONE,)
    return tuple(_number(value, texts) for value in args or ())


def _number(value: object, texts: bool) -> object:
    kept = (bool, int, float, str) if texts else (bool, int, float)
    if value is None or type(value) in kept:
        return value
    return _type(value) if isinstance(value, BaseException) else GONE


def _type(value: object) -> str:
    return type(value).__name__


@lru_cache(maxsize=256)
def _constants(path: str) -> frozenset[str]:
    """The plain text constants in a source file: messages with nothing of a request in them."""
    try:
        with open(path, "rb") as file:
            tree = ast.parse(file.read())
    except (OSError, SyntaxError, ValueError):
        return frozenset()
    # A part of an f-string is a constant as well, so these do not count.
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)
             for part in node.values}  # fmt: skip
    return frozenset(
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts
    )


def _uncaught(
    kind: type[BaseException], error: BaseException | None, _: TracebackType | None
) -> None:
    text = plain_traceback(error) if error is not None else kind.__name__
    logging.getLogger(_OURS).error("%s", text)
