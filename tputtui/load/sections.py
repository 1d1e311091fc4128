"""Parses and writes the other fields of a load: prefixes, conversations, pairs, traces. Pure.

What requests carry beside (cancellations, adapters, …) is in `extras_text`.

prefix     share=0.8 tokens=256 groups=16 zipf=1
sessions   turns=1-6 think=5s
pairs      100/50=3,2000/100=1
trace      FILE [repeat] [tokenizer=PATH]
requests   FILE [repeat] [force-lengths] [temperature=0.7] …
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, cast

import msgspec

from tputtui.errors import UsageError
from tputtui.load.extras_text import EXTRA_FIELDS, EXTRA_PARSERS, extra_form, extra_texts
from tputtui.load.fields import NOTHING as _NOTHING
from tputtui.load.fields import Field
from tputtui.load.fields import checked as _checked
from tputtui.load.fields import settings as _settings
from tputtui.load.lengths import Fixed, Histogram, LogNormal, Normal, Pairs, Uniform, Zipf
from tputtui.load.levels import Bursts, Diurnal, Ramp, Steps
from tputtui.load.notation import (
    NUMBER,
    describe_all_arrivals,
    describe_arrivals,
    describe_lengths,
    number,
    parse_arrivals,
    parse_lengths,
    seconds_of,
)
from tputtui.load.requests.file import RequestFile
from tputtui.load.requests.notation import describe_requests, parse_requests
from tputtui.load.trace_text import describe_trace, parse_trace
from tputtui.load.workload import (
    ClosedLoop,
    Constant,
    Gamma,
    Poisson,
    Prefix,
    Recorded,
    Sessions,
    TraceFile,
    TrafficClass,
    Workload,
    level_of,
)

__all__ = ["FIELDS", "Field", "describe", "difference", "form_of", "from_texts", "to_texts"]

_LONG = 80
"""Characters of a change of classes that are told in full."""
_PAIR = re.compile(rf"(\d+)/(\d+)(?:={NUMBER})?")


FIELDS = (
    Field("arrivals", "arrivals", "--load", (
        ("closed loop", "96"),
        ("Poisson", "8/s"),
        ("constant rate", "constant:8/s"),
        ("gamma, bursty", "gamma(0.5):8/s"),
        ("linear ramp", "1..20/s over 60s"),
        ("exponential ramp", "1..20/s over 60s exp"),
        ("steps", "4,8,12,16/s each 30s"),
        ("bursts", "20/s for 5s, 2 for 10s"),
        ("diurnal", "0s=2, 40s=12, 80s=4/s every 120s"),
        ("ramp in flight", "8..128 over 60s"),
        ("as recorded", "recorded"),
    )),
    Field("prompt", "prompt tokens", "--prompt-tokens", (
        ("fixed", "256"),
        ("uniform", "64-512"),
        ("lognormal", "256~0.5[16-2048]"),
        ("normal", "normal:256±64[16-2048]"),
        ("Zipf", "zipf:1.2[1-2048]"),
        ("histogram", "hist:1-100=3,101-400=1"),
    )),
    Field("output", "output tokens", "--output-tokens", (
        ("fixed", "128"),
        ("uniform", "16-256"),
        ("lognormal", "128~0.5[8-1024]"),
        ("normal", "normal:128±32[8-512]"),
        ("Zipf", "zipf:1.2[1-512]"),
        ("histogram", "hist:1-50=3,51-200=1"),
    )),
    Field("pairs", "joint lengths", "--length-pairs", (
        ("independent", "none"),
        ("pairs", "100/50=3,800/100=1"),
    )),
    Field("prefix", "shared prefix", "--prefix", (
        ("none", "none"),
        ("one for all", "share=1 tokens=128"),
        ("popular groups", "share=0.8 tokens=128 groups=16 zipf=1"),
    )),
    Field("sessions", "conversations", "--sessions", (
        ("single requests", "none"),
        ("multi-turn", "turns=1-6 think=5s"),
    )),
    Field("trace", "trace file", "--trace", (
        ("none", "none"),
        ("a file", "trace.csv"),
        ("over and over", "trace.csv repeat"),
    )),
    Field("requests", "real requests", "--requests", (
        ("none", "none"),
        ("a file", "batch.jsonl"),
        ("over and over", "batch.jsonl repeat"),
        ("forced lengths", "batch.jsonl force-lengths"),
        ("own sampling", "batch.jsonl temperature=0.7 top_p=0.9"),
    )),
    *EXTRA_FIELDS,
)  # fmt: skip


def from_texts(base: Workload, texts: Mapping[str, str]) -> Workload:
    """`base` with the fields in `texts` (name → text) replaced. Raises UsageError.

    A field that excludes others removes them: a trace removes the lengths of `base`, and classes
    that all have arrivals of their own remove those of `base`.
    """
    changes: dict[str, Any] = {name: _PARSERS[name](text) for name, text in texts.items()}
    given = {name for name, value in changes.items() if value is not None}
    if "requests" in given:
        for name in ("prompt", "output", "pairs", "prefix", "sessions", "trace"):
            changes.setdefault(name, None)
    elif "trace" in given:
        for name in ("prompt", "output", "pairs", "prefix", "sessions", "requests"):
            changes.setdefault(name, None)
        changes.setdefault("arrivals", Recorded())
    elif "pairs" in given:
        changes |= {n: None for n in ("prompt", "output") if n not in given}
        changes.setdefault("trace", None)
        changes.setdefault("requests", None)
    elif given & {"prompt", "output"}:
        changes |= {n: None for n in ("pairs", "trace", "requests") if n not in given}
    if (classes := changes.get("classes")) and all(each.arrivals for each in classes):
        changes.setdefault("arrivals", ClosedLoop(0))
    fields = {name: getattr(base, name) for name in Workload.__struct_fields__} | changes
    try:
        return Workload(**fields)
    except ValueError as error:
        raise UsageError(f"The load does not fit together: {error}.") from None


def form_of(name: str, text: str) -> str:
    """The form that a text of field `name` has, by its name in FIELDS; "" for none of them.

    For a curve it is the form of the curve, not of the arrivals. Raises UsageError for a text that
    cannot be parsed.
    """
    value = _PARSERS[name](text)
    if name in EXTRA_PARSERS:
        return extra_form(name, value)
    if value is None:
        return {"pairs": "independent", "sessions": "single requests", "prompt": "",
                "output": ""}.get(name, "none")  # fmt: skip
    if name == "pairs":
        return "pairs"
    if isinstance(value, RequestFile):
        return _form_of_requests(value)
    if isinstance(value, TraceFile):
        return "over and over" if value.repeat else "a file"
    if isinstance(value, Prefix):
        return "popular groups" if value.groups > 1 else "one for all"
    if name == "arrivals":
        level = level_of(value)
        if isinstance(level, Ramp):
            if isinstance(value, ClosedLoop):
                return "ramp in flight"
            return f"{level.curve} ramp"
        return _FORMS.get(type(level)) or _FORMS[type(value)]
    return _FORMS[type(value)]


def to_texts(workload: Workload) -> dict[str, str]:
    """Every field of a load as text that `from_texts` can parse."""
    return {
        "arrivals": describe_arrivals(workload.arrivals),
        "prompt": describe_lengths(workload.prompt) if workload.prompt else "",
        "output": describe_lengths(workload.output) if workload.output else "",
        "pairs": _describe_pairs(workload.pairs),
        "prefix": _describe_prefix(workload.prefix),
        "sessions": _describe_sessions(workload.sessions),
        "trace": describe_trace(workload.trace),
        "requests": describe_requests(workload.requests),
        **extra_texts(workload),
    }


def describe(workload: Workload) -> str:
    """All fields except the arrivals, in one line."""
    texts = to_texts(workload)
    extras = "".join(f" · {name} {texts[name]}" for name in EXTRA_PARSERS if texts[name])
    for name in ("requests", "trace"):
        if getattr(workload, name) is not None:
            return f"{name} {texts[name]}{extras}"
    lengths = (
        f"pairs {texts['pairs']}"
        if workload.pairs is not None
        else f"prompt {texts['prompt']} · output {texts['output']}"
    )
    prefix = f" · prefix {texts['prefix']}" if workload.prefix else ""
    sessions = f" · sessions {texts['sessions']}" if workload.sessions else ""
    return lengths + prefix + sessions + extras


def difference(old: Workload, new: Workload) -> str:
    """The changes from one load to another, as the text of a mark."""
    before, after = to_texts(old), to_texts(new)
    before["arrivals"], after["arrivals"] = describe_all_arrivals(old), describe_all_arrivals(new)
    changes = []
    for name in before:
        if name == "classes" and _stilled(old) == _stilled(new):
            # Only when they arrive has changed, which is said of the load.
            continue
        if before[name] != after[name]:
            label = "load" if name == "arrivals" else name
            text = f"{label} {before[name] or 'none'} → {after[name] or 'none'}"
            if name == "classes" and len(text) > _LONG:
                text = _classes_changed(before[name], after[name])
            changes.append(text)
    if old.seed != new.seed:
        changes.append(f"seed {old.seed} → {new.seed} at the next start")
    return ", ".join(changes)


def _classes_changed(before: str, after: str) -> str:
    """What differs between two lists of classes, in the words of their notation, and no more."""
    old, new = _words_of(before), _words_of(after)
    if old.keys() != new.keys():
        return f"classes {_some(list(old))} → {_some(list(new))}"
    changed = [
        f"{name} {' '.join(w for w in old[name] if w not in new[name]) or 'none'} → "
        f"{' '.join(w for w in new[name] if w not in old[name]) or 'none'}"
        for name in new
        if old[name] != new[name]
    ]
    return f"classes {_some(changed)}"


def _words_of(classes: str) -> dict[str, list[str]]:
    parts = (each.split() for each in classes.split(";") if each.strip())
    return {name: words for name, *words in parts}


def _some(names: list[str]) -> str:
    more = f", {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more}" if names else "none"


def _stilled(load: Workload) -> tuple[TrafficClass, ...]:
    """The classes of a load, those with arrivals of their own at zero."""
    return tuple(
        each if each.arrivals is None else msgspec.structs.replace(each, arrivals=Poisson(0))
        for each in load.classes or ()
    )


# -- each section --------------------------------------------------------------------------------


def _pairs(text: str) -> Pairs | None:
    plain = text.strip().replace(" ", "")
    if plain.lower() in _NOTHING:
        return None
    hint = "Write 100/50=3,2000/100=1: prompt/output=weight, one or more."
    pairs = []
    for part in plain.split(","):
        match = _PAIR.fullmatch(part)
        if match is None or len(part) > 400:
            raise UsageError(f"{part!r} is not a pair of lengths.", hint)
        pairs.append((int(match[1]), int(match[2]), float(match[3] or 1)))
    return cast(Pairs, _checked(tuple(pairs), cast(Any, Pairs), "Pairs", text, hint))


def _describe_pairs(pairs: Pairs | None) -> str:
    return ",".join(f"{p}/{o}={number(w)}" for p, o, w in pairs or ())


def _prefix(text: str) -> Prefix | None:
    hint = "Write share=0.8 tokens=256 groups=16 zipf=1, or none."
    raw = _settings(text, ("share", "tokens", "groups", "zipf"), "prefix", hint)
    if raw is None:
        return None
    values: dict[str, float] = {}
    for name, value in raw.items():
        whole = name not in ("share", "zipf")
        try:
            values[name] = int(value) if whole else float(value)
        except ValueError:
            kind = "whole number" if whole else "number"
            raise UsageError(f"Prefix {text!r}: {name}: {value!r} is no {kind}.", hint) from None
    return _checked(values, Prefix, "Prefix", text, hint)


def _describe_prefix(prefix: Prefix | None) -> str:
    if prefix is None:
        return ""
    groups = f" groups={prefix.groups} zipf={number(prefix.zipf)}" if prefix.groups > 1 else ""
    return f"share={number(prefix.share)} tokens={prefix.tokens}{groups}"


def _sessions(text: str) -> Sessions | None:
    hint = "Write turns=1-6 think=5s (turns as lengths are written), or none."
    raw = _settings(text, ("turns", "think"), "sessions", hint)
    if raw is None:
        return None
    for name in ("turns", "think"):
        if name not in raw:
            raise UsageError(f"Sessions {text!r}: {name} is missing.", hint)
    try:
        think_s = seconds_of(raw["think"])
    except ValueError as error:
        raise UsageError(f"Sessions {text!r}: {error}.", hint) from None
    turns = msgspec.to_builtins(parse_lengths(raw["turns"]))
    return _checked({"turns": turns, "think_s": think_s}, Sessions, "Sessions", text, hint)


def _describe_sessions(sessions: Sessions | None) -> str:
    if sessions is None:
        return ""
    return f"turns={describe_lengths(sessions.turns)} think={number(sessions.think_s)}s"


def _form_of_requests(file: RequestFile) -> str:
    if file.force_lengths:
        return "forced lengths"
    if file.sampling is not None:
        return "own sampling"
    return "over and over" if file.repeat else "a file"


_PARSERS: Mapping[str, Callable[[str], Any]] = {
    "arrivals": parse_arrivals,
    "prompt": lambda text: None if text.strip().lower() in _NOTHING else parse_lengths(text),
    "output": lambda text: None if text.strip().lower() in _NOTHING else parse_lengths(text),
    "pairs": _pairs,
    "prefix": _prefix,
    "sessions": _sessions,
    "trace": parse_trace,
    "requests": parse_requests,
    **EXTRA_PARSERS,
}

_FORMS: Mapping[type, str] = {
    ClosedLoop: "closed loop", Poisson: "Poisson", Constant: "constant rate",
    Gamma: "gamma, bursty", Recorded: "as recorded", Steps: "steps", Bursts: "bursts",
    Diurnal: "diurnal", Fixed: "fixed", Uniform: "uniform", LogNormal: "lognormal",
    Normal: "normal", Zipf: "Zipf", Histogram: "histogram", Sessions: "multi-turn",
}  # fmt: skip
