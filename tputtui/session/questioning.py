"""Whether the engine answers as before: asks a set of prompts, and again after a turn or a boot.

Front end's thread; frames move it on. The first time, the present setting becomes the reference;
every later time the answers are compared with it. Reading a set, and making tokens of it, is done
on a thread of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from tputtui.errors import TputError, UsageError
from tputtui.experiments.asking import Asking, Next, check_asked, judged
from tputtui.frame import Frame, QualityState
from tputtui.knobs import Knobs
from tputtui.load.workload import Workload
from tputtui.profile import EngineSpec, tokenizer_of
from tputtui.quality.answers import Questions
from tputtui.quality.compare import telling
from tputtui.quality.prompts import BUILTIN, PromptSet, check_set, prompt_set
from tputtui.session.experimenting import ExperimentSteering
from tputtui.session.helm import Helm
from tputtui.session.others import check_sends

__all__ = ["QuestionSteering"]

_ANEW = "reference"
Setting = tuple[EngineSpec, Knobs | None, Workload]


class QuestionSteering:
    """Asks questions, and stops and starts the load for them.

    state: how far it is, or what it found of the present setting; None for nothing.
    """

    def __init__(self, helm: Helm, experiments: ExperimentSteering) -> None:
        self._helm = helm
        self._experiments = experiments
        self._rounds = 0
        self._set = ("", "")
        self._read: PromptSet | TputError | None = None
        self._reference: Asking | None = None
        self._asking: Asking | None = None
        self._had_load = False
        self._of: Setting | None = None
        self.state: QualityState | None = None

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

    def begin(self, text: str = "") -> str:
        """Ask the set `text`, or the one asked before; what is done, in words.

        "reference": the present setting becomes the reference, whatever was asked before. Raises
        UsageError for a set that cannot be read, while an experiment is under way, and as `check`.
        """
        self.check()
        under_way = self._experiments.under_way or ("A verify boot" if self._verifies else "")
        if under_way or self._asking is not None:
            what = under_way or "asking"
            raise UsageError(
                f"{what[:1].upper()}{what[1:]} is under way.", "Let it end, or stop it."
            )
        anew = text.strip() == _ANEW
        name = (self._set[0] if anew else text.strip()) or self._set[0] or BUILTIN
        tokenizer = tokenizer_of(self._helm.engine)
        check_set(name, tokenizer)
        if (name, tokenizer) != self._set:
            self._set, self._read, self._reference = (name, tokenizer), None, None
        if anew:
            self._reference = None
        if not isinstance(self._read, PromptSet):
            self._read = None
            _beside(self._make)
        self._had_load = self._helm.status.load_on
        times = 1 if self._reference else 2
        self._asking = Asking(times, beside=self._had_load)
        self._of = self._present
        self.state = QualityState("reading the prompts")
        return "Prompts are asked, alone and under load; any change ends it."

    def follow(self, seen: Frame) -> None:
        """Move it on by the frame `seen`. Raises KnobError where the engine is gone."""
        asking, prompts = self._asking, self._read
        if asking is None:
            self._forget_another()
            return
        if self._present != self._of or self._experiments.under_way or self._verifies:
            self._end("Ended: another setting was put on.")
        elif isinstance(prompts, TputError):
            self._end(prompts.message)
        elif prompts is not None:
            wanted = asking.follow(seen)
            if wanted is not Next.NOTHING:
                asking.ordered(self.carry_out(wanted, prompts))
            self.state = QualityState(asking.note)
            if asking.broken:
                self._end(asking.broken)
            elif asking.over:
                self._conclude(asking, prompts)

    # -- inside ------------------------------------------------------------------------------

    @property
    def _present(self) -> Setting:
        return self._helm.engine, self._helm.asked, self._helm.load

    @property
    def _verifies(self) -> bool:
        return self._experiments.verifies

    def _make(self) -> None:
        wanted = self._set
        made: PromptSet | TputError
        try:
            made = prompt_set(*wanted)
        except TputError as error:
            made = error
        except Exception as error:
            made = UsageError(f"The prompts cannot be read ({type(error).__name__}).")
        if wanted == self._set:
            self._read = made

    def _conclude(self, asking: Asking, prompts: PromptSet) -> None:
        if self._reference is None:
            self._reference = asking
            n = len(prompts.questions)
            self._end(f"{n:,} answers are the reference; after a change :quality compares")
            return
        quality, found = judged(prompts, (), self._reference, asking)
        self._end(quality.sentence)
        self.state = QualityState(quality.sentence, True, quality.verdict, telling(found))

    def _end(self, note: str) -> None:
        """It is over: the load goes on as it was."""
        self._asking = None
        self.state = QualityState(note, True)
        if self._had_load:
            self._helm.run_load()
        self._helm.measure_anew()

    def _forget_another(self) -> None:
        """What was found is about one engine and its limits."""
        if self._of is not None and self._of[:2] != self._present[:2]:
            self.state = self._of = None


def _beside(make: Callable[[], None]) -> None:
    threading.Thread(target=make, name="quality", daemon=True).start()
