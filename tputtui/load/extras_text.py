"""Parses and writes what requests carry as text, for flags, the editor and marks. Pure.

cancel      share=0.02 after=1s~0.5     (median~sigma, or one time)
priority    0=0.9 10=0.1
lora        a=0.7 b=0.2
structured  share=0.3 schema=FILE       or regex=…, last, with anything in it
answers     n=2 logprobs=5
classes     chat share=0.7 prompt=256 output=64 goal=ttft_p99=500ms; batch share=0.3 priority=9
            chat at=8/s; batch at=16 in flight      (arrivals of their own instead of a share)
            batch at=16 requests=FILE [repeat] …    or trace=FILE …, quoted where it has spaces
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from tputtui.errors import UsageError
from tputtui.load.extras import (
    Adapters,
    Answers,
    Cancel,
    Priorities,
    Structured,
)
from tputtui.load.fields import NOTHING, Field, checked, settings
from tputtui.load.notation import (
    NUMBER,
    describe_arrivals,
    describe_lengths,
    named_reason,
    number,
    parse_arrivals,
    parse_lengths,
    seconds_of,
)
from tputtui.load.requests.notation import describe_requests, parse_requests
from tputtui.load.trace_text import describe_trace, parse_trace
from tputtui.load.workload import TrafficClass

__all__ = ["EXTRA_FIELDS", "EXTRA_PARSERS", "extra_form", "extra_texts"]

_TIME = re.compile(rf"(?P<median>{NUMBER}[smh]?)(?:~(?P<sigma>{NUMBER}))?")

EXTRA_FIELDS = (
    Field("cancel", "cancelled", "--cancel", (
        ("none", "none"),
        ("after a spread", "share=0.02 after=1s~0.5"),
        ("after one time", "share=0.02 after=1s"),
    )),
    Field("priority", "priority", "--priority", (
        ("none given", "none"),
        ("a mix", "0=0.9 10=0.1"),
    )),
    Field("lora", "LoRA adapters", "--lora-mix", (
        ("base model", "none"),
        ("a mix", "a=0.7 b=0.2 c=0.1"),
    )),
    Field("structured", "structured", "--structured", (
        ("free text", "none"),
        ("JSON schema", "share=0.3 schema=schema.json"),
        ("regex", "share=0.3 regex=[a-z]{8,32}"),
    )),
    Field("answers", "answers", "--answers", (
        ("one, plain", "none"),
        ("several", "n=2"),
        ("logprobs", "logprobs=5"),
    )),
    Field("classes", "classes", "--classes", (
        ("one kind", "none"),
        ("classes", "chat share=0.7 prompt=256 output=64 goal=ttft_p99=500ms; "
                    "batch share=0.3 prompt=1024 output=256 priority=9"),
        ("one beside", "batch at=16 prompt=1024 output=256 priority=9; chat share=1"),
        ("from files", "chat share=1; real at=8/s requests=batch.jsonl repeat"),
    )),
)  # fmt: skip


def extra_texts(workload: Any) -> dict[str, str]:
    """What the requests of a workload carry, as texts that `EXTRA_PARSERS` read back."""
    return {
        "cancel": _describe_cancel(workload.cancel),
        "priority": _describe_mix(workload.priority),
        "lora": _describe_mix(workload.lora),
        "structured": _describe_structured(workload.structured),
        "answers": _describe_answers(workload.answers),
        "classes": "; ".join(map(_describe_class, workload.classes or ())),
    }


def extra_form(name: str, value: Any) -> str:
    """The form of a field's value, by its name in EXTRA_FIELDS."""
    forms = next(field.forms for field in EXTRA_FIELDS if field.name == name)
    match value:
        case None:
            return forms[0][0]
        case Cancel(sigma=sigma):
            return "after a spread" if sigma else "after one time"
        case Structured(schema=schema):
            return "JSON schema" if schema else "regex"
        case Answers(n=n):
            return "several" if n > 1 else "logprobs"
    if name == "classes":
        if any(each.brings for each in value):
            return "from files"
        return "one beside" if any(each.arrivals is not None for each in value) else "classes"
    return "a mix"


# -- each field ----------------------------------------------------------------------------------


def _cancel(text: str) -> Cancel | None:
    hint = "Write share=0.02 after=1s~0.5 (median~sigma), or none."
    raw = settings(text, ("share", "after"), "cancel", hint)
    if raw is None:
        return None
    for name in ("share", "after"):
        if name not in raw:
            raise UsageError(f"Cancel {text!r}: {name} is missing.", hint)
    after = _TIME.fullmatch(raw["after"].lower())
    if after is None:
        raise UsageError(f"Cancel {text!r}: {raw['after']!r} is not a time.", hint)
    values = {
        "share": _share(raw["share"], f"Cancel {text!r}", hint),
        "after_s": seconds_of(after["median"]),
        "sigma": float(after["sigma"] or 0),
    }
    return checked(values, Cancel, "Cancel", text, hint)


def _describe_cancel(cancel: Cancel | None) -> str:
    if cancel is None:
        return ""
    spread = f"~{number(cancel.sigma)}" if cancel.sigma else ""
    return f"share={number(cancel.share)} after={number(cancel.after_s)}s{spread}"


def _priority(text: str) -> Priorities | None:
    hint = "Write 0=0.9 10=0.1: priority=share, a lower number is served earlier; or none."
    mix = _mix(text, "Priority", hint)
    if mix is None:
        return None
    try:
        raw = [(int(name), share) for name, share in mix]
    except ValueError:
        raise UsageError(f"Priority {text!r}: a priority is a whole number.", hint) from None
    made: Priorities = checked(raw, Priorities, "Priority", text, hint)
    return made


def _lora(text: str) -> Adapters | None:
    hint = "Write a=0.7 b=0.2: adapter=share, the rest goes to the base model; or none."
    mix = _mix(text, "LoRA mix", hint)
    if mix is None:
        return None
    made: Adapters = checked(mix, Adapters, "LoRA mix", text, hint)
    return made


def _mix(text: str, what: str, hint: str) -> list[tuple[str, float]] | None:
    plain = text.strip()
    if plain.lower() in NOTHING:
        return None
    mix = []
    for word in re.split(r"[\s,]+", plain):
        name, equals, share = word.rpartition("=")
        if not equals or not name:
            raise UsageError(f"{what} {text!r}: {word!r} has no share.", hint)
        mix.append((name, _share(share, f"{what} {text!r}", hint)))
    names = [name for name, _ in mix]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"{what} {text!r}: {twice} is there twice.", hint)
    total = math.fsum(share for _, share in mix)
    if total > 1 + 1e-9:
        raise UsageError(f"{what} {text!r}: the shares add up to {total:g}, more than 1.", hint)
    return mix


def _describe_mix(mix: Priorities | Adapters | None) -> str:
    return " ".join(f"{name}={number(share)}" for name, share in mix or ())


def _structured(text: str) -> Structured | None:
    hint = "Write share=0.3 schema=FILE, or share=0.3 regex=…, or none."
    # A regular expression is taken as it stands, up to the end.
    head, has_regex, regex = text.partition("regex=")
    if not has_regex and text.strip().lower() in NOTHING:
        return None
    try:
        # The shell's rules, so that a path can have spaces.
        words = shlex.split(head)
    except ValueError as error:
        raise UsageError(f"Structured {text!r}: {error}.", "Quote a path with spaces.") from None
    raw: dict[str, Any] = {"regex": regex.strip()} if has_regex else {}
    for word in words:
        name, equals, value = word.strip(",").partition("=")
        if not equals or name not in ("share", "schema"):
            raise UsageError(f"Structured {text!r}: {word!r} is not known here.", hint)
        raw[name] = value
    if "share" not in raw:
        raise UsageError(f"Structured {text!r}: share is missing.", hint)
    raw["share"] = _share(raw["share"], f"Structured {text!r}", hint)
    return checked(raw, Structured, "Structured", text, hint)


def _describe_structured(structured: Structured | None) -> str:
    if structured is None:
        return ""
    form = f"regex={structured.regex}"
    if structured.schema:
        form = f"schema={shlex.quote(structured.schema)}"
    return f"share={number(structured.share)} {form}"


def _answers(text: str) -> Answers | None:
    hint = "Write n=2, logprobs=5, or both; or none."
    raw = settings(text, ("n", "logprobs"), "answers", hint)
    if raw is None:
        return None
    try:
        values = {name: int(value) for name, value in raw.items()}
    except ValueError:
        raise UsageError(f"Answers {text!r}: whole numbers are expected.", hint) from None
    answers = checked(values, Answers, "Answers", text, hint)
    return None if answers == Answers() else answers


def _describe_answers(answers: Answers | None) -> str:
    if answers is None:
        return ""
    logprobs = f"logprobs={answers.logprobs}" if answers.logprobs is not None else ""
    return " ".join(filter(None, (f"n={answers.n}" if answers.n > 1 else "", logprobs)))


def _classes(text: str) -> tuple[TrafficClass, ...] | None:
    if text.strip().lower() in NOTHING:
        return None
    classes = []
    for part in filter(None, (each.strip() for each in _split(text, ";"))):
        name, _, rest = part.partition(" ")
        raw = _settings_of_class(name, rest)
        if "at" in raw:
            raw["arrivals"] = msgspec.to_builtins(parse_arrivals(raw.pop("at")))
        for length in raw.keys() & {"prompt", "output"}:
            raw[length] = msgspec.to_builtins(parse_lengths(raw[length]))
        for key, parsed in (("trace", parse_trace), ("requests", parse_requests)):
            if key in raw:
                raw[key] = msgspec.to_builtins(parsed(raw[key]))
        goals = [goal.partition("=") for goal in raw.pop("goal", "").split(",") if goal]
        values = raw | {"name": name, "goal": {goal: limit for goal, _, limit in goals}}
        try:
            classes.append(msgspec.convert(values, TrafficClass, strict=False))
        except msgspec.ValidationError as error:
            why = named_reason(error).removeprefix(f"class {name}: ")
            raise UsageError(f"Class {name}: {why}.", _CLASS_HINT) from None
    return tuple(classes) or None


_CLASS_HINT = (
    "Write chat share=0.7 prompt=256 output=64 goal=ttft_p99=500ms; batch share=0.3 …, "
    "or at=8/s for arrivals of its own in place of a share."
)
_CLASS_KEYS = (
    "share", "at", "prompt", "output", "trace", "requests", "priority", "adapter", "goal",
)  # fmt: skip
_SPACED_KEYS = ("at", "trace", "requests")
"""Keys of a class whose value may have several words: it goes on until the next key."""


def _settings_of_class(name: str, text: str) -> dict[str, Any]:
    """The settings in the text of one class, by key. Raises UsageError."""
    found: dict[str, Any] = {}
    for word in _split(text.strip(" ,"), rf"[\s,]+(?=(?:{'|'.join(_CLASS_KEYS)})=)"):
        key, _, value = word.partition("=")
        if key in _SPACED_KEYS and value:
            found[key] = value.strip(" ,")
        else:
            found |= settings(word, _CLASS_KEYS, f"class {name}", _CLASS_HINT) or {}
    return found


def _split(text: str, at: str) -> list[str]:
    """`text` split at a pattern, but not inside quotes."""
    masked = re.sub(r"'[^']*'|\"[^\"]*\"", lambda quoted: "_" * len(quoted[0]), text)
    parts, start = [], 0
    for found in re.finditer(at, masked):
        parts.append(text[start : found.start()])
        start = found.end()
    return [*parts, text[start:]]


def _describe_class(each: TrafficClass) -> str:
    words = [each.name]
    if each.share is not None:
        words.append(f"share={number(each.share)}")
    if each.arrivals is not None:
        words.append(f"at={describe_arrivals(each.arrivals)}")
    if each.prompt is not None and each.output is not None:
        words += [f"prompt={describe_lengths(each.prompt)}"]
        words += [f"output={describe_lengths(each.output)}"]
    if each.trace is not None:
        words.append(f"trace={describe_trace(each.trace)}")
    if each.requests is not None:
        words.append(f"requests={describe_requests(each.requests)}")
    if each.priority is not None:
        words.append(f"priority={each.priority}")
    if each.adapter:
        words.append(f"adapter={each.adapter}")
    if each.goal:
        words.append("goal=" + ",".join(f"{name}={limit}" for name, limit in each.goal.items()))
    return " ".join(words)


def _share(text: str, what: str, hint: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not 0 <= share <= 1:
        raise UsageError(f"{what}: {text!r} is not a share from 0 to 1.", hint)
    return share


EXTRA_PARSERS: Mapping[str, Callable[[str], Any]] = {
    "cancel": _cancel,
    "priority": _priority,
    "lora": _lora,
    "structured": _structured,
    "answers": _answers,
    "classes": _classes,
}
