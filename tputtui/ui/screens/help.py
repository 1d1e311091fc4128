"""Help: the keys, what the figures mean, and what the limits do."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Footer, Input, Static

from tputtui.knobs import KNOBS
from tputtui.ui.filter_line import filter_line

__all__ = ["HelpScreen"]

_MEANINGS = (
    ("window", "figures are about the present setting alone. After a change they settle until the "
     "limit is in force and every request that was in flight has left (settling: 25 of 96 old "
     "requests finished); then the window grows to 60 s."),
    ("TTFT", "time to first token, from when the request was due."),
    ("TPOT", "(last token - first token) / (tokens - 1), of finished requests."),
    ("ITL", "gaps between consecutive tokens, pooled over requests."),
    ("E2E", "last token, from when the request was due; of finished requests."),
    ("p99", "one number from 1,000 samples on; before that the interval it lies in, at 95 %, or "
     "its one end (≤ ≥) where both do not fit or are not known."),
    ("sequences", "running ÷ max_num_seqs in force."),
    ("step tokens", "scheduled ÷ max_num_batched_tokens in force: prefill, decode and drafts."),
    ("KV cache", "blocks used ÷ blocks usable, and in tokens."),
    ("cancelled", "given up by its client, as the load has it: misses no goal, and is no error."),
    ("cut", "ended short by a lowered max_model_len; never counted as finished."),
    ("clamped", "drawn longer than the limit, and sent shorter."),
    ("saturated", "more requests were due than ended, by more than chance explains."),
    ("steady", "tokens/s and requests in flight show no trend over the window; 'not steady': they "
     "do. Muted figures (settling, ramping, draining) are not yet this setting's own."),
    ("bound by", "the limit that holds the engine back now, the evidence, and what to try next: "
     "sequences, tokens, KV cache, model length, load, the GPU's power or heat, or the step."),
    ("✓ ✗ ?", "a goal is met, missed, or unresolved: the 95 % interval of the share of requests "
     "within the limit straddles the percentile asked for."),
    ("goodput", "requests that met every goal, a second; cut, aborted or failed ones did not."),
    ("plot", "one point for each setting measured for 10 s and 30 requests, a line for each "
     "setting of the limits; w there sweeps the load."),
    ("⠒", "on latency: p90 over the area of p50, each over the 5 seconds before; ▔ is the goal."),
    ("colours", "calm below 80 %, warning from 80 %, danger from 95 % of the KV cache; of a queue: "
     "up to a quarter of what may run, up to all of it, more."),
    ("64 / 256", "the limit asked for / its ceiling: what the engine booted with."),
    ("changes", "a setting against the one before, or the baseline: old → new, the change with its "
     "interval. ▲ better ▼ worse: the interval excludes no change; = the same: within ±2 %; ? "
     "cannot tell yet. ├─●─┤ is the interval on one scale for all rows. All rows together, "
     "however often looked at, hold with 95 %."),
    ("A/B", "legs of both settings by turns, with the same requests, from an empty engine; it ends "
     "by itself and puts everything back. It also sees through slow drift."),
    ("tuner", "searches limits, or the load as well, trial by trial on the warm engine, and "
     "compares the best with the start in pairs; then all is put back, to be taken or left."),
    ("verify", "an engine booted with exactly these values, against the one they were tuned on: "
     "memory profile and CUDA graphs follow what is booted."),
    ("guard", "a change after which it is broken is undone by itself, within its first window."),
    ("drafts", "speculation: what draft tokens take of a step. accepted: of those checked; "
     "length: tokens that a check brings, the model's own included; by place: of the first, "
     "second, … draft token. Drafts of random prompts are accepted otherwise than yours."),
    ("starves", "a token limit below what the running batch needs, its draft tokens included, "
     "serves its first sequences only."),
    ("┃ ╎ │", "on a chart: a limit or the load was changed, the engine booted or failed."),
)  # fmt: skip


class HelpScreen(ModalScreen[None]):
    """One page of keys and meanings.

    keys: (key, what it does). meanings: (text on the screen, what it means); empty for those of
    the board and of the limits.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "filter", key_display="/"),
        Binding("escape,question_mark,q", "leave", "back to the board", key_display="esc"),
    ]

    def __init__(
        self,
        keys: Iterable[tuple[str, str]],
        meanings: Iterable[tuple[str, str]] = (),
    ) -> None:
        super().__init__()
        self._keys = list(keys)
        self._meanings = list(meanings)
        self._page = Static("", markup=False)
        self._filter = filter_line()

    def compose(self) -> ComposeResult:
        """The page."""
        with VerticalScroll():
            yield self._page
        yield self._filter
        yield Footer(show_command_palette=False, compact=True)

    def on_mount(self) -> None:
        """Show everything."""
        self._filter.display = False
        self._filter.cursor_blink = False
        self._write()
        self.query_one(VerticalScroll).focus()

    def action_filter(self) -> None:
        """Show and focus the filter."""
        self._filter.display = True
        self._filter.focus()

    @on(Input.Changed)
    def _write(self) -> None:
        """Show the entries in which every word of the filter stands."""
        words = self._filter.value.lower().split()
        sections = [
            ("Keys", self._keys, 14),
            ("What the figures mean", self._meanings or _MEANINGS, 14),
        ]
        if not self._meanings:
            limits = [(k.name, f"{k.trade} {k.flag}, {k.reach}.") for k in KNOBS]
            sections.append(("Limits", limits, 31))
        lines: list[str] = []
        for title, entries, indent in sections:
            kept = [
                (name, meaning)
                for name, meaning in entries
                if all(word in f"{name} {meaning}".lower() for word in words)
            ]
            lines += _section(title, kept, indent) if kept else []
        self._page.update("\n".join(lines) or "No entry has these words.")

    @on(Input.Submitted)
    def _entered(self) -> None:
        self._filter.display = bool(self._filter.value)
        self.query_one(VerticalScroll).focus()

    def action_leave(self) -> None:
        """Show everything again; or back to the board."""
        if self._filter.display:
            self._filter.value = ""
            self._filter.display = False
            self.query_one(VerticalScroll).focus()
        else:
            self.dismiss()


def _section(title: str, entries: Iterable[tuple[str, str]], indent: int) -> list[str]:
    lines = [title, ""]
    for name, meaning in entries:
        lines += textwrap.wrap(
            meaning,
            74,
            initial_indent=f"  {name:<{indent - 2}}",
            subsequent_indent=" " * indent,
        )
    return [*lines, ""]
