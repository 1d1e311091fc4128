"""The loop that hosts an engine: commands in, steps, samples out. Runs on the engine thread.

    UI thread ── command queue ──▶ turn(): drain commands · send what is due · step · record
                                   status, recorder ──▶ read by anyone, at any time

Every command is taken between two steps, so a knob is in force by the next one. Public methods
only queue; the underscored ones run on the engine thread.
"""

from __future__ import annotations

import gc
import logging
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue

from tputtui.engine.ledger import Ledger
from tputtui.engine.protocol import Ended, Engine, EngineFacts, State
from tputtui.errors import EngineError, TputError, UsageError
from tputtui.knobs import Knobs
from tputtui.load.generator import Generator
from tputtui.load.workload import Workload
from tputtui.measure.recorder import Recorder
from tputtui.measure.samples import Mark, Outcome
from tputtui.profile import EngineSpec, tokenizer_of

__all__ = ["Host", "Status"]

logger = logging.getLogger(__name__)

Clock = Callable[[], float]

_LONGEST_WAIT_S = 3600.0
_NOTHING_SCHEDULED_WAIT_S = 0.001
_ALL_REFUSED_WAIT_S = 0.1


@dataclass(frozen=True, slots=True)
class Status:
    """What the engine is doing; replaced whole, so that a reader never sees a mixture.

    stage: what a boot is doing. stages: those done, with their seconds.
    knobs: the limits in force; None before the first boot.
    failure: why it FAILED. load_failure: why the load stopped by itself (a trace's bad line).
    """

    state: State
    since_s: float
    stage: str = ""
    stages: tuple[tuple[str, float], ...] = ()
    facts: EngineFacts | None = None
    knobs: Knobs | None = None
    failure: TputError | None = None
    load_failure: TputError | None = None


class Host:
    """Owns one engine at a time and everything that touches it.

    make_engine: builds a cold engine; called again for every boot.
    clock: monotonic seconds, the same clock the engine stamps with.
    """

    def __init__(
        self,
        make_engine: Callable[[], Engine],
        recorder: Recorder,
        workload: Workload,
        clock: Clock,
    ) -> None:
        self._make_engine = make_engine
        self._recorder = recorder
        self._clock = clock
        self._commands: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._engine: Engine | None = None
        self._generator: Generator | None = None
        self._workload = workload
        self._tokenizer = ""
        self._ledger = Ledger(recorder)
        self._thread: threading.Thread | None = None
        self.status = Status(State.COLD, clock())

    # -- any thread ------------------------------------------------------------------------

    def start(self) -> None:
        """Start the engine thread."""
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def boot(self, spec: EngineSpec, knobs: dict[str, int], *, load: bool) -> None:
        """Boot an engine, replacing any other; `load` says whether to start the load at once."""
        self._commands.put(lambda: self._boot(spec, knobs, load))

    def set_knobs(self, knobs: Knobs, text: str) -> None:
        """Put limits in force before the next step; `text` goes on the mark."""
        self._commands.put(lambda: self._set_knobs(knobs, text))

    def set_workload(self, workload: Workload, text: str) -> None:
        """Go on with another workload; `text` goes on the mark."""
        self._commands.put(lambda: self._set_workload(workload, text))

    def run_load(self) -> None:
        """Let requests arrive."""
        self._commands.put(self._run_load)

    def pause_load(self) -> None:
        """Let no more requests arrive; those in flight are served to their end."""
        self._commands.put(self._pause_load)

    def stop_load(self) -> None:
        """Abort what is in flight and go back to request 0."""
        self._commands.put(self._stop_load)

    def close(self, timeout_s: float) -> bool:
        """Stop load, engine and thread; False if that took longer than `timeout_s`."""
        self._commands.put(self._close)
        if self._thread is None:
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    # -- engine thread ---------------------------------------------------------------------

    def _run(self) -> None:
        wait_s = 0.0
        while self.status.state is not State.STOPPED:
            if wait_s > 0:
                self._take_command(wait_s)
            wait_s = self.turn()

    def turn(self) -> float:
        """Take waiting commands, send what is due, run one step. Seconds until there is more."""
        while self._take_command():
            pass
        if self.status.state not in (State.READY, State.RUNNING, State.DRAINING):
            return math.inf
        try:
            return self._serve()
        except Exception as error:
            logger.exception("the engine stopped")
            self._fail(error)
            return math.inf

    def _take_command(self, wait_s: float = 0.0) -> bool:
        try:
            command = self._commands.get(wait_s > 0, min(wait_s, _LONGEST_WAIT_S))
        except Empty:
            return False
        try:
            command()
        except (Exception, SystemExit) as error:
            logger.exception("a command failed")
            self._fail(error)
        return True

    def _serve(self) -> float:
        engine, generator, knobs = self._engine, self._generator, self.status.knobs
        assert engine is not None
        assert generator is not None
        assert knobs is not None
        refused = self._send(engine, generator, knobs)
        if generator.exhausted and not generator.held:
            self._end_of_trace(generator)
        stuck = False
        if self._ledger.in_flight:
            report = engine.step()
            # What became due meanwhile goes first: the books can wait, a person would not.
            refused = self._send(engine, generator, knobs) or refused
            self._ledger.first_tokens(report.first_tokens)
            self._leave(report.ended)
            self._recorder.add_step(report.sample, report.gaps)
            step = report.sample
            stuck = not (step.prefill_tokens or step.decode_tokens or step.generated_tokens)
        self._publish(engine)
        self._recorder.wanted = generator.wanted(self._clock())
        self._follow_load(generator)
        if self._ledger.in_flight:
            # A step that had nothing to schedule returns at once: do not spin on it.
            return _NOTHING_SCHEDULED_WAIT_S if stuck else 0.0
        wait_s = generator.next_due_s(0) - self._clock()
        # A closed loop whose every request is refused must not ask again at full speed.
        return max(_ALL_REFUSED_WAIT_S if refused else 0.0, wait_s)

    def _send(self, engine: Engine, generator: Generator, knobs: Knobs) -> bool:
        """Hand over what is due; whether a request was refused."""
        refused = False
        # Twice: what became due while the first were sent must not wait for a whole step.
        for _ in range(2):
            now_s, in_flight, sent = self._clock(), self._ledger.in_flight, False
            for request in generator.arriving(now_s, in_flight, knobs.max_model_len):
                sent = True
                self._ledger.issue(request, self._clock())
                try:
                    engine.submit(request)
                except ValueError as refusal:
                    logger.warning("request %d refused: %s", request.number, refusal)
                    self._ledger.drop(request.number, Outcome.REJECTED, self._clock())
                    generator.lost(request.number, self._clock())
                    refused = True
            if refused or not sent:
                break
        return refused

    def _leave(self, ended: list[Ended], outcome: Outcome | None = None) -> None:
        for request in ended:
            how, generator = self._ledger.leave(request, outcome), self._generator
            if generator is None:
                continue
            if how is Outcome.FINISHED:
                generator.ended(
                    request.number, request.end_s, request.output_tokens, request.token_ids
                )
            else:
                generator.lost(request.number, request.end_s)

    def _publish(self, engine: Engine) -> None:
        self._recorder.accounting = self._ledger.accounting(*engine.counts())

    def _follow_load(self, generator: Generator) -> None:
        if not generator.held:
            state = State.RUNNING
        else:
            state = State.DRAINING if self._ledger.in_flight else State.READY
        self._enter(state)

    def _enter(self, state: State, stage: str = "") -> None:
        if (state, stage) == (self.status.state, self.status.stage):
            return
        now_s = self._clock()
        stages = self.status.stages
        if self.status.stage and stage != self.status.stage:
            stages = (*stages, (self.status.stage, now_s - self.status.since_s))
        self.status = replace(self.status, state=state, since_s=now_s, stage=stage, stages=stages)

    def _boot(self, spec: EngineSpec, knobs: dict[str, int], load: bool) -> None:
        self._release()
        self.status = Status(State.IMPORTING, self._clock())
        try:
            self._engine = self._make_engine()
            facts = self._engine.boot(spec, self._enter)
            in_force = facts.ceilings.overridden(dict(knobs)).clamped(facts.ceilings)
            self._engine.apply(in_force)
        # vLLM leaves by SystemExit in places; on a thread that would be silent.
        except (Exception, SystemExit) as error:
            logger.exception("the engine did not boot")
            self._fail(error)
            return
        self._tokenizer = tokenizer_of(spec)
        self._generator = Generator(self._workload, facts.vocab_size, self._tokenizer)
        self._mark("engine", f"booted {facts.model} in {facts.boot_s:.1f} s")
        self.status = replace(self.status, facts=facts, knobs=in_force)
        self._enter(State.READY)
        if load:
            self._run_load()

    def _set_knobs(self, knobs: Knobs, text: str) -> None:
        if self._engine is None or self.status.facts is None or self.status.failure:
            return
        # The last guard: nothing above what was booted reaches the engine, whoever asked.
        knobs = knobs.clamped(self.status.facts.ceilings)
        self._leave(self._engine.apply(knobs), Outcome.CUT)
        self.status = replace(self.status, knobs=knobs)
        self._mark("knob", text)
        self._publish(self._engine)

    def _set_workload(self, workload: Workload, text: str) -> None:
        self._workload = workload
        if self._generator is None:
            return
        try:
            self._generator.change(workload, self._clock())
        except UsageError as error:
            # Checked before it was ordered: the file has gone since.
            self._load_failed(error)
            return
        self.status = replace(self.status, load_failure=None)
        self._mark("load", text)

    def _run_load(self) -> None:
        if self._generator is None or not self._generator.held:
            return
        if self._generator.exhausted:
            self._generator.restart()
        self.status = replace(self.status, load_failure=None)
        self._generator.resume(self._clock())
        self._mark("load", "load on")
        self._follow_load(self._generator)

    def _pause_load(self) -> None:
        if self._generator is None or self._generator.held:
            return
        self._generator.hold(self._clock())
        self._mark("load", "load paused")
        self._follow_load(self._generator)

    def _stop_load(self) -> None:
        if self._generator is None or self._engine is None or self.status.facts is None:
            return
        self._generator.hold(self._clock())
        self._leave(self._engine.end(self._ledger.numbers()), Outcome.ABORTED)
        # A new generator: also takes up a seed changed meanwhile.
        vocab_size = self.status.facts.vocab_size
        self._generator = Generator(self._workload, vocab_size, self._tokenizer)
        self._mark("load", "load stopped")
        self._publish(self._engine)
        self._follow_load(self._generator)

    def _end_of_trace(self, generator: Generator) -> None:
        generator.hold(self._clock())
        if generator.failure is not None:
            self._load_failed(generator.failure)
        else:
            self._mark("load", "the trace has ended; space starts it again")

    def _load_failed(self, error: TputError) -> None:
        logger.warning("the load stopped: %s", error)
        self.status = replace(self.status, load_failure=error)
        self._mark("load", f"load stopped: {error.message}")

    def _mark(self, kind: str, text: str) -> None:
        self._recorder.marks.append(Mark(self._clock(), kind, text))

    def _fail(self, error: BaseException) -> None:
        failure = (
            error
            if isinstance(error, TputError)
            else EngineError(_first_line(error), "The log has the traceback.")
        )
        self._ledger.drop_all(Outcome.FAILED, self._clock())
        self._recorder.accounting = self._ledger.accounting(0, 0)
        self._generator = None
        self._mark("engine", f"engine failed: {failure.message}")
        self._enter(State.FAILED)
        self.status = replace(self.status, failure=failure)
        # A traceback's frames hold the engine, and so its memory.
        error.__traceback__ = error.__context__ = error.__cause__ = None
        self._release()

    def _release(self) -> None:
        engine, self._engine, self._generator = self._engine, None, None
        if engine is None:
            return
        self._ledger.drop_all(Outcome.ABORTED, self._clock())
        self._recorder.accounting = self._ledger.accounting(0, 0)
        try:
            engine.shutdown()
        except Exception:
            logger.exception("the engine did not shut down cleanly")
        del engine
        gc.collect()

    def _close(self) -> None:
        self._release()
        self._enter(State.STOPPED)


def _first_line(error: BaseException) -> str:
    text = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
