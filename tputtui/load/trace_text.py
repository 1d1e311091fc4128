"""Writes a trace file as text, and parses it: FILE [repeat] [tokenizer=PATH]. Pure."""

from __future__ import annotations

import re
import shlex

from tputtui.errors import UsageError, nearest
from tputtui.load.fields import NOTHING
from tputtui.load.workload import TraceFile

__all__ = ["describe_trace", "parse_trace"]


def parse_trace(text: str) -> TraceFile | None:
    """The trace that `text` describes; None for none. Raises UsageError."""
    if text.strip().lower() in NOTHING:
        return None
    try:
        path, *rest = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"Trace {text!r}: {error}.", "Quote a path that has spaces.") from None
    repeat, tokenizer = False, ""
    for index, word in enumerate(rest):
        if word == "repeat":
            repeat = True
        elif word.startswith("tokenizer="):
            tokenizer = word.removeprefix("tokenizer=")
        else:
            hint = "Write FILE [repeat] [tokenizer=PATH]."
            if index == 0:
                # The text before the first known word may be one path with spaces.
                known = re.split(r"\s+(?=repeat\b|tokenizer=)", text.strip())[0]
                hint = f"""A path with spaces takes quotes of its own: --trace "'{known}'"."""
            raise UsageError(
                f"Trace {text!r}: {word!r} means nothing here.",
                nearest(word, ("repeat", "tokenizer=")) or hint,
            )
    return TraceFile(path, tokenizer, repeat)


def describe_trace(trace: TraceFile | None) -> str:
    """A trace as `parse_trace` reads it; empty for none."""
    if trace is None:
        return ""
    words = [shlex.quote(trace.path)]
    if trace.repeat:
        words.append("repeat")
    if trace.tokenizer:
        words.append(shlex.quote(f"tokenizer={trace.tokenizer}"))
    return " ".join(words)
