"""What a boot was asked for, what vLLM made of it, and which of that is worth a warning. Pure.

vLLM resolves its arguments while it boots: some are left to it, some give way to others or to the
platform, often without more than a line in its log. Two boots are the same engine where all of
that came out the same, whatever was typed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tputtui.profile import EngineSpec

__all__ = ["AS_FITS", "CAPTURE_SIZES", "GRAPH_MODE", "LEFT", "Resolved", "from_runs",
           "gives_a_reason", "in_runs", "resolved", "same_engine", "silently",
           "unlike"]  # fmt: skip

AS_FITS = "as fits"
"""`max_model_len -1`: as long as the KV cache holds."""
LEFT = "left to vLLM"
GRAPH_MODE = "compilation_config.cudagraph_mode"
CAPTURE_SIZES = "cudagraph_capture_sizes"
_WHY_CHARS = 200
_EXPECTED_ON = ("enable_prefix_caching", "enable_chunked_prefill")
"""Which vLLM has on by itself wherever it can: off is news also to who did not ask for them."""
_ON_WHERE_TOLD = {"async_scheduling": "off", GRAPH_MODE: "NONE"}
"""What the platform may lack: off is news only where vLLM's log says why."""
_SAME = {"half": "float16", "float": "float32"}
_SUBJECTS = {
    "max_model_len": r"max_model_len",
    "dtype": r"casting torch",
    "quantization": r"quantization",
    "kv_cache_dtype": r"kv.?cache.?dtype|data type to store kv cache|fp8 kv",
    "block_size": r"block.?size",
    "enable_prefix_caching": r"prefix.?cach",
    "max_num_batched_tokens": r"max_num_batched_tokens",
    "enable_chunked_prefill": r"chunked.?prefill",
    "async_scheduling": r"async(hronous)?.?scheduling",
    "attention_backend": r"attention.?backend|using \w*(attn|flash|mla)\w* backend",
    "compilation_config.mode": r"torch\.compile|compilation mode",
    GRAPH_MODE: r"cuda.?graphs?\b|cudagraph_mode",
    CAPTURE_SIZES: r"cudagraph_capture_size",
    "disable_hybrid_kv_cache_manager": r"hybrid kv cache manager",
}
"""By argument: what a line of vLLM's log that gives a reason for it has in it."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """One argument of a boot. Values are texts, as a person would type them."""

    name: str
    """As a profile spells it; `compilation_config.cudagraph_mode` for a key of a section."""
    asked: str | None
    """Empty where it was left to vLLM; None where that is not known (a server's)."""
    got: str
    why: str = ""
    """What vLLM's log says about it; empty where that says nothing."""
    warns: bool = False
    """Whether it was asked for and is not so, or is off although nobody asked for that."""

    @property
    def short(self) -> str:
        """The name without its section."""
        return self.name.rpartition(".")[2]


def resolved(
    asked: Mapping[str, str] | None, got: Mapping[str, str], said: Iterable[str] = ()
) -> tuple[Resolved, ...]:
    """A row for each argument of `got`.

    asked: those that were given, by name; None where that is not known. said: lines of vLLM's log
    from the boot, oldest first.
    """
    lines = list(said)
    return tuple(_row(name, asked, value, lines) for name, value in got.items())


def gives_a_reason(line: str) -> bool:
    """Whether a line of vLLM's log is about an argument that a boot resolves."""
    return any(re.search(subject, line, re.IGNORECASE) for subject in _SUBJECTS.values())


def silently(rows: Sequence[Resolved]) -> str:
    """The rows that warn in a line; empty without any.

    "async_scheduling: asked on, got off", and the reason where only one row warns and has one.
    """
    warned = [row for row in rows if row.warns]
    clauses = [
        f"{row.short}: asked {row.asked}, got {row.got}"
        if row.asked
        else f"{row.short} is {row.got}, which nobody asked for"
        for row in warned
    ]
    why = f" ({warned[0].why})" if len(warned) == 1 and warned[0].why else ""
    return "; ".join(clauses) + why


def unlike(old: Mapping[str, str], new: Mapping[str, str]) -> str:
    """In what two boots came out differently: "block_size 16 → 32"; empty where in nothing."""
    return ", ".join(
        f"{name.rpartition('.')[2]} {old[name]} → {value}"
        for name, value in new.items()
        if name in old and old[name] != value
    )


def same_engine(
    old: EngineSpec, old_got: Mapping[str, str], new: EngineSpec, new_got: Mapping[str, str]
) -> bool:
    """Whether two boots gave the same engine: what they resolved to, and all other arguments.

    An argument that both resolved counts by what it came to; others, by what was given.
    """
    if unlike(old_got, new_got):
        return False
    both = old_got.keys() & new_got.keys()
    return old == new or (old.model, _others(old, both)) == (new.model, _others(new, both))


def in_runs(sizes: Sequence[int]) -> str:
    """Whole numbers in ascending order, with even steps drawn together: "1 2 4 8–256/8"."""
    parts: list[str] = []
    pending = list(sizes)
    while pending:
        step = pending[1] - pending[0] if len(pending) > 1 else 0
        count = 1
        while count < len(pending) and pending[count] - pending[count - 1] == step:
            count += 1
        if count > 3:
            by = f"/{step}" if step > 1 else ""
            parts.append(f"{pending[0]}–{pending[count - 1]}{by}")
            del pending[:count]
        else:
            parts.append(str(pending.pop(0)))
    return " ".join(parts)


def from_runs(text: str) -> tuple[int, ...]:
    """The numbers of which `in_runs` made the text."""
    numbers: list[int] = []
    for part in text.split():
        ends, _, step = part.partition("/")
        first, _, last = ends.partition("–")
        numbers += range(int(first), int(last or first) + 1, int(step or 1))
    return tuple(numbers)


# -- inside ------------------------------------------------------------------------------------


def _row(name: str, asked: Mapping[str, str] | None, got: str, lines: Sequence[str]) -> Resolved:
    wanted = None if asked is None else asked.get(name, "")
    if wanted is not None and _alike(wanted, got):
        return Resolved(name, wanted, got)
    why = _why(name, lines)
    return Resolved(name, wanted, got, why, _warns(name, wanted, got, why, asked or {}))


def _alike(asked: str, got: str) -> bool:
    wanted = _SAME.get(asked.lower(), asked.lower())
    return bool(wanted) and got.lower() in (wanted, f"{wanted}_e4m3")


def _warns(name: str, asked: str | None, got: str, why: str, all_asked: Mapping[str, str]) -> bool:
    if asked is None or asked == AS_FITS:
        return False
    if asked:
        return True
    if name == GRAPH_MODE and all_asked.get("enforce_eager") == "on":
        return False
    return (name in _EXPECTED_ON and got == "off") or bool(why and got == _ON_WHERE_TOLD.get(name))


def _why(name: str, lines: Sequence[str]) -> str:
    """The last line of the log that is about the argument, cut to its first sentences."""
    subject = _SUBJECTS.get(name)
    if subject is None:
        return ""
    about = [line for line in lines if re.search(subject, line, re.IGNORECASE)]
    return _brief(about[-1]) if about else ""


def _brief(line: str) -> str:
    text = " ".join(line.split())
    if len(text) <= _WHY_CHARS:
        return text.rstrip(".")
    cut = text[:_WHY_CHARS]
    sentence = cut.rpartition(". ")[0]
    return sentence or cut.rpartition(" ")[0] + " …"


def _others(spec: EngineSpec, names: Iterable[str]) -> dict[str, object]:
    """The given arguments that are none of `names`, a dotted one being a key of a section."""
    left, inner = set(names), dict[str, set[str]]()
    for name in left:
        section, dot, key = name.partition(".")
        if dot:
            inner.setdefault(section, set()).add(key)
    others: dict[str, object] = {}
    for name, value in spec.args.items():
        kept: object = value
        if name in inner and isinstance(value, dict):
            kept = {k: v for k, v in value.items() if k not in inner[name]} or None
        if name not in left and kept is not None:
            others[name] = kept
    return others
