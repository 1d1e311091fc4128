"""The engine process's part: limits, steps and the lease of one engine core. Engine thread only.

vLLM calls `answer` between two steps, with a question from a front process. Hooks are put on the
scheduler when the first board watches (`watch`), and taken off again once none has asked for a
while: an engine that nobody looks at runs vLLM's own code alone. Whatever goes wrong here is logged
once, switches this part off, and reaches no request.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from typing import Any

import msgspec

from tputtui.engine.vllm.facts import block_tokens, request_blocks, state_blocks
from tputtui.engine.vllm.limits import LiveLimits
from tputtui.engine.vllm.resolving import got_of, said_at_boot
from tputtui.engine.wire import OURS, Acted, CoreFacts, Problem, Requests, StepBatch
from tputtui.errors import TputError, UsageError
from tputtui.knobs import differing
from tputtui.plugin.lease import Lease, cost_to_others, parse_bounds, within
from tputtui.plugin.ring import Ring
from tputtui.plugin.watch import Row, Watch

__all__ = ["Core", "Question", "Reply", "answer"]

_KEPT_STEPS = 4096
_KEPT_REQUESTS = 20_000
_UNWATCHED_S = 30.0
_WHY_NO_LENGTH = (
    "it would cut other people's requests short; it is what the server was started with"
)  # fmt: skip

log = logging.getLogger("vllm.tputtui")
"""Below vLLM's own, so that it stands in the server's log."""


class Question(msgspec.Struct, omit_defaults=True):
    """What a front process asks. what: see `Core.answer`. lease: of the asker. anyway: also where
    it costs other people's requests something. rows: requests that have ended at a front."""

    what: str
    lease: str = ""
    holder: str = ""
    since: int = 0
    limits: dict[str, int] = {}
    rows: list[list[float | int | str | None]] = []
    keep: bool = False
    back: bool = False
    anyway: bool = False


class Reply(msgspec.Struct, omit_defaults=True):
    """What an engine answers: the one field that the question asks for, or a problem."""

    engine: CoreFacts | None = None
    steps: StepBatch | None = None
    requests: Requests | None = None
    read: bool = False
    """Whether somebody reads the requests that end."""
    before: dict[str, int] = {}
    """The limits that a change has left, of those that it names."""
    acted: Acted | None = None
    problem: Problem | None = None


def answer(engine_core: Any, question: str) -> str:
    """The method that `install` puts on vLLM's EngineCore: JSON in, JSON out, never an exception.

    question: a `Question`; what comes back is a `Reply`.
    """
    try:
        core = engine_core.__dict__.get("_tputtui")
        if core is None:
            core = engine_core._tputtui = Core(engine_core)
        reply = core.answer(msgspec.json.decode(question, type=Question))
    except TputError as error:
        reply = Reply(problem=Problem(error.message, error.hint))
    except Exception as error:
        log.exception("tputtui: a question could not be answered; the engine goes on without us")
        reply = Reply(problem=Problem(f"The plugin failed: {type(error).__name__}: {error}."))
    return msgspec.json.encode(reply).decode()


class Core:
    """What the plugin knows of one engine core.

    clock: monotonic seconds; steps carry its time.
    """

    def __init__(self, engine_core: Any, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine_core, self._clock = engine_core, clock
        self._scheduler = scheduler = engine_core.scheduler
        config = engine_core.vllm_config
        self._config = config
        self._limits = LiveLimits(scheduler, config, clock)
        self._fixed = {**self._limits.fixed, "max_model_len": _WHY_NO_LENGTH}
        self._said = said_at_boot()
        self._lease = Lease(clock)
        self._why_not = ""
        try:
            self._bounds = parse_bounds(os.environ.get("TPUTTUI_BOUNDS", ""))
        except TputError as error:
            self._bounds, self._why_not = {}, error.message
            log.warning("tputtui: %s Nothing can be changed here.", error.message)
        self._paused, self.failed = False, ""
        self._rows: Ring[Row] = Ring(_KEPT_STEPS)
        self._ended: Ring[list[float | int | str | None]] = Ring(_KEPT_REQUESTS)
        self._read_s = -_UNWATCHED_S
        self._asked_s = clock()
        self._watch: Watch | None = None

    # -- what is asked -----------------------------------------------------------------------

    def answer(self, question: Question) -> Reply:
        """Carry it out. Raises TputError for what cannot be."""
        if question.what != "ended":  # the fronts', not a person's
            self._asked_s = self._clock()
        self.look_at_lease()
        match question.what:
            case "about":
                return Reply(engine=self._about())
            case "steps":
                return Reply(steps=self._steps(question.since))
            case "ended":
                return Reply(read=self._take_ended(question.rows))
            case "requests":
                return Reply(requests=self._requests(question.since))
            case "take":
                self._take(question)
            case "renew":
                self._lease.renew(question.lease)
            case "release":
                self._lease.check(question.lease)
                self._release(keep=question.keep or self._lease.keep, why="control was given back")
            case "change":
                self._lease.check(question.lease)
                before = self._change(question)
                acted = Acted(question.lease, self._limits.knobs.as_dict())
                return Reply(before=before, acted=acted)
            case "preempt":
                self._lease.check(question.lease)
                self._spare_others(question, "they would wait, and compute their prompts anew")
                preempted = self._limits.preempt()
                self._note(f"{preempted} sequences preempted now")
                return Reply(acted=Acted(preempted=preempted))
            case "reset_prefix_cache":
                self._lease.check(question.lease)
                self._spare_others(question, "those that run would compute their prompts anew")
                emptied = self._limits.reset_prefix_cache()
                if emptied is None:
                    raise UsageError("vLLM did not empty the prefix cache.", "Try once more.")
                self._note(f"prefix cache emptied, {emptied} sequences preempted for it")
                return Reply(acted=Acted(preempted=emptied))
            case "pause" | "resume":
                self._lease.check(question.lease)
                if question.what == "pause":
                    self._spare_others(question, "they would stand still")
                self._pause(question.what == "pause")
            case other:
                raise UsageError(f"This plugin knows no {other!r}.", "It is of another version.")
        return Reply(acted=Acted(question.lease, self._limits.knobs.as_dict()))

    def look_at_lease(self) -> None:
        """Put back what a controller changed who is gone."""
        if self._lease.over:
            self._release(keep=self._lease.keep, why=f"{self._lease.holder} is gone")
        elif self._paused and not self._lease.holder:
            self._let_go_on()

    def _about(self) -> CoreFacts:
        config, limits = self._config, self._limits
        return CoreFacts(
            ceilings=limits.ceilings.as_dict(),
            booted=limits.booted.as_dict(),
            limits=limits.knobs.as_dict(),
            fixed=self._fixed,
            bounds=self._bounds,
            block_size=config.cache_config.block_size,
            kv_groups=len(self._scheduler.kv_cache_config.kv_cache_groups),
            kv_block_tokens=block_tokens(config, self._scheduler),
            kv_request_blocks=request_blocks(config, self._scheduler),
            kv_state_blocks=state_blocks(config, self._scheduler),
            overlapped=bool(config.scheduler_config.async_scheduling),
            dtype=str(config.model_config.dtype).removeprefix("torch."),
            vocab_size=config.model_config.get_vocab_size(),
            holder=self._lease.holder,
            paused=self._paused,
            got=got_of(config),
            said=self._said,
        )

    def _steps(self, since: int) -> StepBatch:
        self._check_works()
        self._watched().sum_up()
        self._check_works()
        rows, lost = self._rows.since(since)
        running, waiting = self._scheduler.get_request_counts()
        now_s = self._clock()
        oldest = next(iter(self._scheduler.requests.values()), None)
        return StepBatch(
            now_s=now_s,
            next=self._rows.count,
            lost=lost,
            rows=[list(row) for row in rows],
            limits=self._limits.knobs.as_dict(),
            holder=self._lease.holder,
            others=self._others(),
            running=running,
            waiting=waiting,
            kv_frac=self._limits.kv_frac(self._scheduler.kv_cache_manager.usage),
            kv_blocks=self._limits.kv_blocks,
            # vLLM's fronts stamp requests with the time of day.
            oldest_s=None if oldest is None else now_s + oldest.arrival_time - time.time(),
        )

    def _take_ended(self, rows: list[list[float | int | str | None]]) -> bool:
        """Keep requests that have ended at one of the fronts; whether somebody reads them."""
        read = self._clock() - self._read_s < _UNWATCHED_S
        if read:
            self._ended.extend(rows)
        return read

    def _requests(self, since: int) -> Requests:
        self._read_s = self._clock()
        rows, _ = self._ended.since(since)
        return Requests(self._ended.count, rows)

    # -- what changes something --------------------------------------------------------------

    def _take(self, question: Question) -> None:
        if self._why_not:
            raise UsageError(self._why_not, "The server's operator sets it.")
        limits = self._limits.knobs
        self._lease.take(question.lease, question.holder, limits, keep=question.keep)
        self._limits_changed()
        self._note("took control")

    def _others(self) -> int:
        """Requests under way that are not sent by a board of ours."""
        return sum(OURS not in name for name in self._scheduler.requests)

    def _spare_others(self, question: Question, what: str) -> None:
        """Raise UsageError where it would cost requests of others `what`, unless that is meant."""
        if not question.anyway and (others := self._others()):
            raise UsageError(
                f"{others} {'requests' if others > 1 else 'request'} of others under way: {what}.",
                "It is done when there are none, or when you say so.",
            )

    def _check_works(self) -> None:
        if self.failed:
            raise UsageError(self.failed, "The server's log says why; it serves without us.")

    def _change(self, question: Question) -> dict[str, int]:
        """Put limits in force; what stood before, of those that are named."""
        self._check_works()
        old, limits = self._limits.knobs, self._limits
        before = self._lease.before or limits.booted
        back = {name for name, n in question.limits.items() if before.as_dict().get(name) == n}
        bounds = {} if question.back else {k: b for k, b in self._bounds.items() if k not in back}
        new = within(old, question.limits, limits.ceilings, self._fixed, bounds)
        left = {name: old.get(name) for name in question.limits}
        if new == old:
            return left
        if cost := cost_to_others(old, new):
            self._spare_others(question, cost)
        self._watched()
        limits.apply(new)
        self._limits_changed()
        self._note(differing(old, new))
        return left

    def _pause(self, pause: bool) -> None:
        if pause == self._paused:
            return
        if pause:
            if not hasattr(self._engine_core, "pause_scheduler"):
                raise UsageError("This vLLM has no way to pause an engine.", "Hold the load.")
            if hasattr(self._engine_core, "pending_pause"):
                raise UsageError("This engine pauses only together with others.", "Hold the load.")
            if self._engine_core.is_scheduler_paused():
                raise UsageError("The engine is paused or asleep already, and not by us.")
            # What runs stands still, and nothing is forgotten.
            self._engine_core.pause_scheduler("keep", False)
        else:
            self._engine_core.resume_scheduler()
        self._paused = pause
        self._note("paused the engine" if pause else "let the engine go on")

    def _release(self, *, keep: bool, why: str) -> None:
        before, now = self._lease.before, self._limits.knobs
        done = "limits stay as they are"
        if not keep and before is not None and before != now:
            self._limits.apply(before)
            self._limits_changed()
            done = f"back: {differing(now, before)}"
        self._note(f"{why}; {done}")
        self._lease.end()
        self._let_go_on()

    def _let_go_on(self) -> None:
        """Resume the engine where we have paused it; tried again at the next look if it fails."""
        if self._paused:
            self._engine_core.resume_scheduler()
            self._paused = False
            log.info("tputtui: the engine goes on")

    def _note(self, text: str) -> None:
        log.info("tputtui: %s (control: %s)", text, self._lease.holder)

    # -- told by the hooks -------------------------------------------------------------------

    def _watched(self) -> Watch:
        if self._watch is None:
            self._watch = Watch(
                self._scheduler,
                self._limits,
                self._rows,
                self._clock,
                before=self._before_step,
                after=self._after_step,
                failed=self._watch_failed,
            )
        return self._watch

    def _limits_changed(self) -> None:
        if self._watch is not None:
            self._watch.limits_changed()

    def _before_step(self) -> bool:
        """Whether the next step has to be told of as well."""
        self.look_at_lease()
        self._limits.before_schedule()
        return bool(self._lease.holder) or self._limits.knobs != self._limits.booted

    def _after_step(self, now_s: float) -> None:
        """Take the hooks off where nobody has asked for a while, and nothing is changed."""
        if now_s - self._asked_s < _UNWATCHED_S or self._lease.holder:
            return
        if self._limits.knobs == self._limits.booted:
            self.unwatch()

    def _watch_failed(self) -> None:
        self.failed = "Watching this engine failed, and is off."
        # Before 0.31 only our hook gives the batch its slots back.
        self._limits.apply(self._limits.booted)
        self._limits.give_slots_back()

    def unwatch(self) -> None:
        """Run vLLM's own code alone from here on."""
        if self._watch is not None:
            self._watch.remove()
            self._watch = None
