"""Writes a file of requests as text, and parses it. Pure.

FILE [repeat] [force-lengths] [no-detokenize] [temperature=0.7] [top_p=0.9] [tokenizer=FOLDER]
     [chat-template=FILE] [bad=0.05]
"""

from __future__ import annotations

import shlex
from typing import Any

import msgspec

from tputtui.errors import UsageError, nearest
from tputtui.load.notation import named_reason
from tputtui.load.requests.file import RequestFile, Sampling

__all__ = ["describe_requests", "describe_sampling", "parse_requests", "parse_sampling"]

_SWITCHES = {"repeat": ("repeat", True), "force-lengths": ("force_lengths", True),
             "no-detokenize": ("detokenize", False)}  # fmt: skip
_VALUES = {"tokenizer": "tokenizer", "chat-template": "chat_template", "bad": "bad"}
_SAMPLING = Sampling.__struct_fields__
_WHOLE = ("top_k", "seed")
_HINT = ("Write FILE [repeat] [force-lengths] [no-detokenize] [temperature=0.7] [top_p=0.9] "
         "[tokenizer=FOLDER] [chat-template=FILE] [bad=0.05].")  # fmt: skip


def parse_requests(text: str) -> RequestFile | None:
    """The file that `text` describes; None for none. Raises UsageError."""
    if text.strip().lower() in ("", "none", "off", "-"):
        return None
    try:
        path, *rest = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"Requests {text!r}: {error}.", "Quote a path that has spaces.") from None
    fields: dict[str, Any] = {"path": path}
    sampling: list[str] = []
    for place, word in enumerate(rest):
        name, equals, value = word.partition("=")
        if word in _SWITCHES:
            key, on = _SWITCHES[word]
            fields[key] = on
        elif equals and name in _VALUES:
            fields[_VALUES[name]] = value
        elif equals and name in _SAMPLING:
            sampling.append(word)
        else:
            close = nearest(name, (*_SWITCHES, *_VALUES, *_SAMPLING))
            hint = close or _HINT
            if place == 0 and not equals and not close:
                hint = f"""{_HINT} A path with spaces takes quotes of its own: "'{path} …'"."""
            raise UsageError(f"Requests {text!r}: {word!r} means nothing here.", hint)
    if "bad" in fields:
        try:
            fields["bad"] = float(fields["bad"])
        except ValueError:
            raise UsageError(f"Requests {text!r}: bad is no number.", "Write bad=0.05.") from None
    if sampling:
        fields["sampling"] = parse_sampling(",".join(sampling))
    try:
        return msgspec.convert(fields, RequestFile)
    except msgspec.ValidationError as error:
        raise UsageError(f"Requests {text!r}: {named_reason(error)}.", _HINT) from None


def parse_sampling(text: str) -> Sampling | None:
    """Sampling as `temperature=0.7,top_p=0.9`; None for none. Raises UsageError."""
    if text.strip().lower() in ("", "none", "off", "-"):
        return None
    hint = "Write temperature=0.7,top_p=0.9; known are " + ", ".join(_SAMPLING) + "."
    fields: dict[str, float] = {}
    for word in text.replace(",", " ").split():
        name, equals, value = word.partition("=")
        name = name.replace("-", "_")
        if not equals or name not in _SAMPLING:
            raise UsageError(f"Sampling {text!r}: {word!r} is not known here.",
                             nearest(name, _SAMPLING) or hint)  # fmt: skip
        try:
            fields[name] = int(value) if name in _WHOLE else float(value)
        except ValueError:
            raise UsageError(f"Sampling {text!r}: {name} is no number.", hint) from None
    try:
        return msgspec.convert(fields, Sampling)
    except msgspec.ValidationError as error:
        raise UsageError(f"Sampling {text!r}: {named_reason(error)}.", hint) from None


def describe_sampling(sampling: Sampling | None) -> str:
    """Sampling as `parse_sampling` reads it; empty for none."""
    given = sampling.given() if sampling else {}
    return ",".join(f"{name}={value}" for name, value in given.items())


def describe_requests(file: RequestFile | None) -> str:
    """A file of requests as `parse_requests` reads it; empty for none."""
    if file is None:
        return ""
    words = [shlex.quote(file.path)]
    words += [word for word, (name, on) in _SWITCHES.items() if getattr(file, name) is on]
    words += describe_sampling(file.sampling).split(",") if file.sampling else []
    words += [
        shlex.quote(f"{word}={value}")
        for word, name in _VALUES.items()
        if name != "bad" and (value := getattr(file, name))
    ]
    if file.bad != 0.05:
        words.append(f"bad={file.bad:g}")
    return " ".join(filter(None, words))
