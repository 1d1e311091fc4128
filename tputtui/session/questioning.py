"""Carries out what asking a set of prompts wants of the engine and its load. Front end's thread."""

from __future__ import annotations

from tputtui.experiments.asking import Next, check_asked
from tputtui.quality.answers import Questions
from tputtui.quality.prompts import PromptSet
from tputtui.session.helm import Helm
from tputtui.session.others import check_sends

__all__ = ["QuestionSteering"]


class QuestionSteering:
    """Asks questions, and stops and starts the load for them."""

    def __init__(self, helm: Helm) -> None:
        self._helm = helm
        self._rounds = 0

    def check(self) -> None:
        """Raise UsageError for an engine whose answers cannot be compared, KnobError for none."""
        check_asked(self._helm.facts)
        check_sends(self._helm.status)

    def carry_out(self, wanted: Next, prompts: PromptSet) -> int:
        """Order what is wanted; the number of the order. Raises as `check` does."""
        self.check()
        match wanted:
            case Next.STOP_LOAD:
                return self._helm.stop_load()
            case Next.RUN_LOAD:
                return self._helm.run_load()
        self._rounds += 1
        questions = Questions(prompts.questions, self._rounds, prompts.private)
        return self._helm.question(questions, cold=wanted is Next.ASK_ALONE)
