"""The loop that hosts an engine: takes orders, runs steps, records samples. On the engine thread.

    UI thread ── mailbox ──▶ run_pass(): carry orders out · send due requests · step · record
                             status, recorder ──▶ read by any thread, at any time

Orders are carried out between two steps, so a new limit is in force by the next step. Public
methods only queue an order; the underscored ones run on the engine thread.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import assert_never

from tputtui.engine import orders
from tputtui.engine.acts import Acts
from tputtui.engine.dispatch import Dispatch
from tputtui.engine.failure import failure_of
from tputtui.engine.ledger import Ledger
from tputtui.engine.mailbox import Mailbox
from tputtui.engine.marks import Marks
from tputtui.engine.memory import give_back
from tputtui.engine.orders import LoadRun, Order, Orders, Start, Status
from tputtui.engine.protocol import Engine, State
from tputtui.errors import KnobError, TputError, UsageError
from tputtui.knobs import Knobs
from tputtui.load.merged import LoadGenerator, MergedGenerator
from tputtui.load.workload import Workload
from tputtui.measure.recorder import Recorder
from tputtui.measure.samples import Outcome
from tputtui.profile import tokenizer_of

__all__ = ["Clock", "Host"]

logger = logging.getLogger(__name__)

Clock = Callable[[], float]

_NOTHING_SCHEDULED_WAIT_S = 0.001
_UP = (State.READY, State.RUNNING, State.DRAINING, State.PAUSED)


class Host(Orders):
    """Owns one engine at a time and everything that touches it.

    make_engine: builds a cold engine; called again for every boot, with `served=True` where vLLM's
    own server is ordered.
    clock: monotonic seconds; the engine stamps its times with the same clock.
    """

    def __init__(
        self,
        make_engine: Callable[..., Engine],
        recorder: Recorder,
        workload: Workload,
        clock: Clock,
    ) -> None:
        super().__init__()
        self._make_engine = make_engine
        self._recorder = recorder
        self._clock = clock
        self._mailbox = Mailbox()
        self._engine: Engine | None = None
        self._generator: LoadGenerator | None = None
        self._workload = workload
        self._tokenizer, self._number = "", 0
        self._paused = self._unfinished = False
        self._marks = Marks(recorder.marks, clock)
        self._ledger = Ledger(recorder)
        self._dispatch = Dispatch(self._ledger, clock)
        self._acts = Acts(self._ledger, self._marks)
        self._thread: threading.Thread | None = None
        self.status = Status(State.COLD, clock())

    # -- any thread ------------------------------------------------------------------------

    def start(self) -> None:
        """Start the engine thread."""
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def close(self, timeout_s: float) -> bool:
        """Stop load, engine and thread; False if that took longer than `timeout_s`."""
        self.order(orders.Close())
        if self._thread is None:
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _queue(self, number: int, order: Order) -> None:
        self._mailbox.put(number, order)

    # -- engine thread ---------------------------------------------------------------------

    def _run(self) -> None:
        wait_s = 0.0
        while self.status.state is not State.STOPPED:
            wait_s = self.run_pass(wait_s)

    def run_pass(self, wait_s: float = 0.0) -> float:
        """One pass of the loop: carry out orders, send due requests, run one step.

        wait_s: how long to wait for an order first, in s. Returns the seconds until the next pass
        has work to do.
        """
        self._carry_out(wait_s)
        if self.status.state not in _UP:
            return math.inf
        try:
            return self._serve()
        except Exception as error:
            logger.exception("the engine stopped")
            self._fail(error)
            return math.inf

    def _carry_out(self, wait_s: float) -> None:
        for number, order in self._mailbox.take(wait_s):
            self._number = number
            try:
                self._obey(order)
            except (Exception, SystemExit) as error:
                logger.exception("an order failed")
                self._fail(error)
            carried_out = max(number, self.status.carried_out)
            self.status = replace(self.status, carried_out=carried_out)

    def _obey(self, order: Order) -> None:
        match order:
            case orders.Boot(start, load):
                self._boot(start, load)
            case orders.BootAnew(start, fallback):
                self._boot_anew(start, fallback)
            case orders.Woken():
                self._woken()
            case orders.SetLimits(knobs, why, anyway):
                self._set_limits(knobs, why, anyway)
            case orders.Preempt(anyway):
                if self._engine is not None and self.status.facts is not None:
                    self._acts.preempt(self._engine, anyway=anyway)
            case orders.ResetPrefixCache(anyway):
                if self._engine is not None and self.status.facts is not None:
                    self._acts.reset_prefix_cache(self._engine, anyway=anyway)
            case orders.SetWorkload(workload, text):
                self._set_workload(workload, text)
            case orders.BeginLeg(knobs, workload, text):
                self._begin_leg(knobs, workload, text)
            case orders.Ask(questions):
                self._dispatch.ask(self._number, questions)
            case orders.RunLoad():
                self._run_load()
            case orders.HoldLoad():
                self._hold_load()
            case orders.StopLoad():
                if self._abort_load() is not None:
                    self._marks.add("load", "load stopped")
            case orders.Pause(anyway):
                self._set_paused(True, anyway)
            case orders.Resume():
                self._set_paused(False)
            case orders.Close():
                self._release()
                self._enter(State.STOPPED)
            case _:
                assert_never(order)

    def _serve(self) -> float:
        engine, generator, knobs = self._engine, self._generator, self.status.knobs
        assert engine is not None
        assert generator is not None
        assert knobs is not None
        self._dispatch.cancel_and_send(engine, generator, knobs.max_model_len)
        if generator.exhausted and not generator.held:
            self._end_of_trace(generator)
        if isinstance(generator, MergedGenerator):
            for part in generator.newly_over():
                self._marks.add("load", f"the file of {part} has ended; the rest goes on")
        stuck = False
        if self._at_work:
            report = engine.step()
            self._unfinished = report.unfinished
            # Send what became due before booking the step: a late request distorts latencies.
            self._dispatch.send(engine, generator, knobs.max_model_len)
            self._dispatch.book(generator, report)
            for step, gaps in report.steps:
                self._recorder.add_step(step, gaps)
            self._recorder.add_engine_steps(report.of_engines)
            stuck = report.stuck
        if self._dispatch.answered is not self.status.answered:
            self.status = replace(self.status, answered=self._dispatch.answered)
        self._ledger.publish(engine.counts())
        self._recorder.wanted = generator.wanted(self._clock())
        self._follow_load(generator)
        if self._at_work:
            # A step that schedules nothing returns at once; without a wait the loop would spin.
            return _NOTHING_SCHEDULED_WAIT_S if stuck else 0.0
        return max(0.0, self._dispatch.next_s(generator) - self._clock())

    @property
    def _at_work(self) -> bool:
        return (self._ledger.in_flight > 0 or self._unfinished) and not self._paused

    def _follow_load(self, generator: LoadGenerator) -> None:
        facts = self.status.facts
        if self._paused:
            state = State.PAUSED
        elif not generator.held or (facts is not None and facts.live):
            state = State.RUNNING
        else:
            state = State.DRAINING if self._ledger.in_flight or self._unfinished else State.READY
        if self.status.load_on is generator.held:
            self.status = replace(self.status, load_on=not generator.held)
        self._enter(state)

    def _enter(self, state: State, stage: str = "") -> None:
        if (state, stage) == (self.status.state, self.status.stage):
            return
        now_s = self._clock()
        stages = self.status.stages
        if self.status.stage and stage != self.status.stage:
            stages = (*stages, (self.status.stage, now_s - self.status.since_s))
        self.status = replace(self.status, state=state, since_s=now_s, stage=stage, stages=stages)

    def _boot(self, start: Start, load: bool) -> None:
        self._release()
        # vLLM raises SystemExit in places; a thread would end from it without a message.
        try:
            self._bring_up(start)
        except (Exception, SystemExit) as error:
            logger.exception("the engine did not boot")
            self._fail(error)
            return
        self._put_under_load(None, load)

    def _boot_anew(self, start: Start, fallback: Start) -> None:
        load = self._generator is not None and not self._generator.held
        held = self._withhold()
        try:
            self._bring_up(start)
        except (Exception, SystemExit) as error:
            logger.exception("the engine did not boot")
            refused = self._give_up(error)
            self._marks.add("engine", f"boot failed: {refused.message} Back to what ran before.")
            self._boot(fallback, load=False)
            self.status = replace(self.status, refused=refused)
            if self.status.facts is None:
                return
        self._put_under_load(held, load)

    def _withhold(self) -> tuple[LoadGenerator, int, str] | None:
        """End the requests in flight; return the generator, its vocabulary size and tokenizer."""
        generator, facts = self._generator, self.status.facts
        if generator is not None:
            generator.hold(self._clock())
        self._release()
        if generator is None or facts is None:
            return None
        return generator, facts.vocab_size, self._tokenizer

    def _bring_up(self, start: Start) -> None:
        spec, knobs, served = start
        self._paused = self._unfinished = False
        before = self.status
        self.status = Status(
            State.IMPORTING,
            self._clock(),
            load_run=before.load_run,
            carried_out=before.carried_out,
        )
        self._engine = self._make_engine(served=True) if served else self._make_engine()
        facts = self._engine.boot(spec, self._enter)
        self._recorder.note_engines(facts.engines, self._clock())
        # A limit that this engine cannot change keeps its value from the boot, despite a profile.
        changeable = {name: value for name, value in knobs.items() if name not in facts.fixed}
        asked = facts.booted.overridden(changeable).clamped(facts.ceilings)
        # A cache too small for a request of this engine's length would hold it up for ever.
        blocks = max(asked.num_gpu_blocks, facts.floor("num_gpu_blocks", asked))
        in_force = asked.with_value("num_gpu_blocks", blocks)
        self._engine.apply(in_force)
        self.status = replace(self.status, spec=spec, served=served, facts=facts, knobs=in_force)
        self._marks.add("engine", f"booted {facts.model} in {facts.boot_s:.1f} s")
        self._marks.change(asked, in_force, "the longest request needs that")

    def _put_under_load(self, held: tuple[LoadGenerator, int, str] | None, load: bool) -> None:
        """Give the booted engine its load: `held`, if vocabulary and tokenizer are the same."""
        facts, spec = self.status.facts, self.status.spec
        assert facts is not None
        assert spec is not None
        self._tokenizer = tokenizer_of(spec)
        if held is not None and held[1:] == (facts.vocab_size, self._tokenizer):
            self._generator = held[0]
        else:
            self._generator = self._dispatch.generator(self._workload, facts, self._tokenizer)
        self._enter(State.READY)
        # Live traffic is there already, and the first step tells of it.
        self._unfinished = facts.live
        if load and not facts.live:
            self._run_load()

    def _set_limits(self, knobs: Knobs, why: str, anyway: bool) -> None:
        if self._engine is None or self.status.facts is None or self.status.knobs is None:
            return
        before = self.status.knobs
        self._apply(self._engine, knobs, anyway=anyway)
        self._marks.change(before, self.status.knobs, why)
        self._ledger.publish(self._engine.counts())

    def _apply(self, engine: Engine, knobs: Knobs, *, anyway: bool = False) -> None:
        facts = self.status.facts
        assert facts is not None
        # The last guard: no limit above its ceiling reaches the engine, whoever ordered it.
        taken = knobs.clamped(facts.ceilings)
        try:
            cut = engine.apply(taken, anyway=anyway)
            self._dispatch.leave(self._generator, cut, Outcome.CUT)
        except KnobError as refusal:
            self._marks.add("knob", str(refusal))
            self.status = replace(self.status, refused_knobs=knobs)
        else:
            self.status = replace(self.status, knobs=taken, refused_knobs=None)

    def _set_paused(self, paused: bool, anyway: bool = False) -> None:
        if self._generator is None or self._engine is None or self._paused is paused:
            return
        if self._acts.set_paused(self._engine, paused, anyway=anyway):
            self._paused = paused
            self._follow_load(self._generator)

    def _woken(self) -> None:
        self._marks.add("engine", "the process was stopped, and goes on")

    def _set_workload(self, workload: Workload, text: str) -> None:
        self._workload = workload
        if self._generator is None:
            return
        try:
            self._generator = self._dispatch.change(self._generator, workload)
        except UsageError as error:
            # The workload was checked before the order, so its file has disappeared since.
            self._load_failed(error)
            return
        self.status = replace(self.status, load_failure=None)
        self._marks.add("load", text)

    def _run_load(self) -> None:
        if self._generator is None or not self._generator.held:
            return
        if self._generator.exhausted:
            self._generator.restart()
        self._marks.add("load", "load on")
        self._let_arrive(self._generator)

    def _let_arrive(self, generator: LoadGenerator) -> None:
        """Let requests arrive. The load takes the number of the order that is being carried out."""
        self.status = replace(self.status, load_failure=None)
        began_s = self._clock()
        generator.resume(began_s)
        self._follow_load(generator)
        # Set last: a reader that sees this load also sees its state, or a later one.
        self.status = replace(self.status, load_run=LoadRun(self._number, began_s))

    def _hold_load(self) -> None:
        if self._generator is None or self._generator.held:
            return
        self._generator.hold(self._clock())
        self._marks.add("load", "load paused")
        self._follow_load(self._generator)

    def _begin_leg(self, knobs: Knobs, workload: Workload, text: str) -> None:
        engine = self._engine
        self._workload = workload
        generator = self._abort_load()
        if engine is None or generator is None:
            return
        with suppress(TputError):  # A server whose cache others use: the leg begins without.
            engine.reset_prefix_cache()
        self._apply(engine, knobs)
        self._marks.add("leg", text)
        self._let_arrive(generator)

    def _abort_load(self) -> LoadGenerator | None:
        """Abort the requests in flight; return a new generator, held at request 0."""
        if self._generator is None or self._engine is None or self.status.facts is None:
            return None
        self._generator.hold(self._clock())
        aborted = self._engine.end(self._ledger.numbers())
        self._dispatch.leave(self._generator, aborted, Outcome.ABORTED)
        # A new generator also adopts a seed that was changed meanwhile.
        facts = self.status.facts
        self._generator = self._dispatch.generator(self._workload, facts, self._tokenizer)
        self._ledger.publish(self._engine.counts())
        self._follow_load(self._generator)
        return self._generator

    def _end_of_trace(self, generator: LoadGenerator) -> None:
        ended_s = self._clock()
        generator.hold(ended_s)
        run = self.status.load_run._replace(ended_s=ended_s)
        self.status = replace(self.status, load_run=run)
        if generator.failure is not None:
            self._load_failed(generator.failure)
        else:
            self._marks.add("load", "the trace has ended; space starts it again")

    def _load_failed(self, error: TputError) -> None:
        logger.warning("the load stopped: %s", str(error))
        self.status = replace(self.status, load_failure=error)
        self._marks.add("load", f"load stopped: {error.message}")

    def _fail(self, error: BaseException) -> None:
        # The failure may be noticed long after the engine's last step.
        died_s = self._recorder.last_step_s(self.status.since_s) or self._clock()
        self._close_books(Outcome.FAILED)
        failure = self._give_up(error)
        self._marks.add("engine", f"engine failed: {failure.message}")
        self._enter(State.FAILED)
        self.status = replace(self.status, failure=failure, since_s=died_s, load_on=False)

    def _give_up(self, error: BaseException) -> TputError:
        """Release the engine; return the failure to show."""
        failure = failure_of(error)
        # The frames of a traceback refer to the engine, and so keep its memory.
        error.__traceback__ = error.__context__ = error.__cause__ = None
        self._release()
        return failure

    def _release(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            self._close_books(Outcome.ABORTED)
            self._dispatch.forget()
        self._generator = None
        if engine is None:
            return
        try:
            engine.shutdown()
        except Exception:
            logger.exception("the engine did not shut down cleanly")
        del engine
        give_back()

    def _close_books(self, outcome: Outcome) -> None:
        """Book every request in flight as ended with `outcome`."""
        self._dispatch.drop_all(self._generator, outcome)
        self._recorder.accounting = self._ledger.accounting(0, 0)
