"""Compares the answers of two boots of a session without a screen. Main thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tputtui.experiments.asking import Asking, Next, judged
from tputtui.headless.running import Interrupted, pause, until_up
from tputtui.profile import Profile, tokenizer_of
from tputtui.profile.answering import changes_answers, plain
from tputtui.profile.evidence import Quality
from tputtui.quality.compare import Comparison, telling
from tputtui.quality.prompts import check_set, prompt_set
from tputtui.session.session import Session

__all__ = ["QualityGate", "differences_text"]

Say = Callable[[str], None]
"""Tells a sentence to whoever waits."""


class QualityGate:
    """Asks the set `text` of the engine that `base` is compared with, and of the one verified.

    changes: what of `base` may change answers. reference: what to boot first: `base` without that.
    broken: why an engine could not be asked; empty while it could. comparisons: behind the verdict,
    for the screen only. Raises UsageError for a set that cannot be read.
    """

    def __init__(self, text: str, base: Profile) -> None:
        self._text, self._tokenizer = text, tokenizer_of(base.engine)
        check_set(text, self._tokenizer)
        self.changes = changes_answers(base)
        self.reference = plain(base) if self.changes else base
        self.broken = ""
        self.comparisons: list[Comparison] = []
        self._before = Asking(times=2)

    def ask_before(self, session: Session, interrupted: Interrupted, say: Say) -> bool:
        """Ask the reference, booted first; whether it answered."""
        if not until_up(session, self.reference.engine, interrupted):
            failure = session.advance().status.failure
            self.broken = failure.message if failure else "interrupted"
            return False
        self._prompts = prompt_set(self._text, self._tokenizer)
        n = len(self._prompts.questions)
        without = f" without {', '.join(self.changes)}" if self.changes else ""
        say(f"{n:,} prompts are asked of the engine{without}, before the boot")
        return self._ask(self._before, session, interrupted, say)

    def ask_after(self, session: Session, interrupted: Interrupted, say: Say) -> Quality | None:
        """Ask the engine with exactly the profile's values; the verdict, None without one."""
        say("the same prompts are asked again")
        after = Asking(times=1)
        if not self._ask(after, session, interrupted, say):
            return None
        quality, self.comparisons = judged(self._prompts, self.changes, self._before, after)
        return quality

    def _ask(self, asking: Asking, session: Session, interrupted: Interrupted, say: Say) -> bool:
        while not asking.over and not interrupted.asked:
            wanted = asking.follow(session.advance())
            if wanted is not Next.NOTHING:
                number = session.steer.questions.carry_out(wanted, self._prompts)
                asking.ordered(number)
                if wanted in (Next.ASK_ALONE, Next.ASK_BESIDE):
                    say(asking.note)
            pause(session, interrupted)
        self.broken = asking.broken
        return asking.over and not asking.broken


def differences_text(comparisons: Sequence[Comparison]) -> str:
    """The least likely differences of each comparison, by position and likelihood; or nothing."""
    return "".join(f"{where:<10} {each.text}\n" for where, each in telling(comparisons))
