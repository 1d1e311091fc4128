"""Help: the keys, what the figures mean, and what the limits do."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widgets import Footer, MarkdownViewer

from tputtui.knobs import KNOBS

__all__ = ["HelpScreen"]

_TEXT = """
# Keys

| key | does |
|---|---|
| ↑ ↓ | choose a limit |
| ← → | one small step |
| [ ] | halve, double |
| Enter | type the exact value |
| u | undo the last turn of a limit or of the load |
| Space | hold the load, let it run again |
| - + | a fifth less, a quarter more load |
| l | edit the load: arrivals, prompt and output lengths |
| x | stop the load: abort what is in flight, back to request 0 |
| s | save limits, load and figures as a profile |
| g | the engine's log |
| b | boot again, after a failure |
| 1 … 6 | one panel over the whole screen; Esc brings the board back |
| Ctrl+P | everything else: themes, panels, commands |
| q, Ctrl+C | stop load and engine, leave; Ctrl+C again leaves at once |

# What the figures mean

* **window**: figures are about the present setting alone. After a turn they settle until the
  limit is in force and every request that was in flight has left; then the window grows to 60 s.
* **TTFT** first token − *due*; **E2E** last token − *due*; **TPOT** (last − first) / (n − 1) of
  finished requests; **ITL** gaps between output tokens, pooled over requests.
* **p99** is one number from 1,000 samples on; before, the interval it lies in at 95 %.
* **sequences**, **step tokens**: against the limit in force. **KV cache**: blocks used of
  blocks usable.
* **cut**: ended short by a lowered max_model_len; never counted as finished. **clamped**: drawn
  longer than the limit and sent shorter.
* **saturated**: more requests were due than ended, by more than chance explains.

# Limits

"""


class HelpScreen(ModalScreen[None]):
    """One page."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q", "leave", "back to the board", key_display="esc"),
    ]

    def compose(self) -> ComposeResult:
        """The page."""
        limits = "\n".join(f"* **{knob.name}** ({knob.flag}): {knob.trade}" for knob in KNOBS)
        yield MarkdownViewer(_TEXT + limits, show_table_of_contents=False, id="help")
        yield Footer(show_command_palette=False)

    def action_leave(self) -> None:
        """Back to the board."""
        self.dismiss()
