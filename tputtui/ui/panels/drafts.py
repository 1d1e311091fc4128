"""Speculation: what draft tokens take of a step, and how many of them are accepted. Pure."""

from __future__ import annotations

import math

from tputtui.frame import Frame
from tputtui.knobs import UNTOLD
from tputtui.load.members import sending
from tputtui.load.workload import Workload
from tputtui.profile.spelling import canonical
from tputtui.text.format import percent
from tputtui.ui.rows import Row, width_of

__all__ = ["draft_rows", "drafts_are_of_chance", "drafts_in_short"]

_OF_CHANCE = ("random prompts: yours are accepted otherwise", "random prompts")


def drafts_are_of_chance(frame: Frame) -> bool:
    """Whether the acceptance says nothing about production: prompts are random token ids.

    Not for real prompts, other people's traffic, or an acceptance that vLLM makes up as asked.
    """
    facts, spec = frame.status.facts, frame.status.spec
    if facts is None or facts.live or all(map(_real, sending(frame.profile.load).values())):
        return False
    config = canonical(spec.args).get("speculative_config") if spec is not None else None
    synthetic = isinstance(config, dict) and config.get("rejection_sample_method") == "synthetic"
    return not synthetic


def draft_rows(frame: Frame, width: int) -> list[Row]:
    """The rows about draft tokens; none for an engine that drafts none."""
    facts, knobs = frame.status.facts, frame.status.knobs
    if facts is None or knobs is None or not 0 < facts.ceilings.num_speculative_tokens < UNTOLD:
        return []
    seen, now = frame.figures.acceptance, frame.now
    if not knobs.num_speculative_tokens and not seen.drafts:
        return [[("drafts", "label"), ("  none", "text"), ("  num_speculative_tokens 0", "muted")]]
    length = f"{seen.length:.2f}" if math.isfinite(seen.length) else "–"
    rows: list[Row] = [
        [
            ("drafts", "label"),
            (percent(now.draft_frac, 5), "text"),
            (" accepted", "label"),
            (percent(seen.frac, 5), "text"),
            (" length ", "label"),
            (length, "text"),
        ]
    ]
    places = "".join(f" {percent(share, 0)}" for share in seen.at)
    last: Row = [("by place", "label"), (places, "text")] if places else []
    if not drafts_are_of_chance(frame):
        return [*rows, last] if last else rows
    for notice in _OF_CHANCE:
        if last and width_of(last) + 2 + len(notice) <= width:
            return [*rows, [*last, (f"  {notice}", "warn")]]
    notice = next((text for text in _OF_CHANCE if len(text) <= width), "")
    return [*rows, *([last] if last else []), [(notice, "warn")]]


def drafts_in_short(frame: Frame) -> Row:
    """What stands for those rows in a panel that has no room for them."""
    share = percent(frame.figures.acceptance.frac, 5)
    about: Row = [("drafts accepted", "label"), (share, "text")]
    if drafts_are_of_chance(frame):
        return [*about, (f" {_OF_CHANCE[-1]}", "warn")]
    return [("decode", "label"), (percent(frame.now.decode_frac), "text"), ("  ", "text"), *about]


def _real(load: Workload) -> bool:
    """Whether prompts are somebody's text: of requests, or of ShareGPT, the only trace with any."""
    trace = load.trace
    text = trace is not None and (bool(trace.tokenizer) or trace.path.lower().endswith(".json"))
    return text or load.requests is not None
