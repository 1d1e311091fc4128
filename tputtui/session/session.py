"""One run: a hosted engine, its load, and what was measured. A front end talks to nothing else.

Called on the front end's thread. Orders go to the engine thread and come into force between two
steps. `advance()` moves experiments and guard on and returns one immutable frame; `latest` is the
last of those frames.
"""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec

from tputtui import profile
from tputtui.engine.flags import to_argv
from tputtui.engine.host import Clock, Host
from tputtui.engine.orders import Boot, Orders, Start, Status
from tputtui.engine.protocol import Engine, EngineFacts
from tputtui.errors import UsageError
from tputtui.export.startup import start_up
from tputtui.frame import Frame
from tputtui.frame.observer import Observer
from tputtui.frame.points import Points
from tputtui.frame.proof import tuned
from tputtui.frame.tried import TriedSettings
from tputtui.goals import Goal
from tputtui.hardware import HardwareSampler
from tputtui.knobs import kept_limits
from tputtui.load.workload import Workload
from tputtui.measure.history import History
from tputtui.measure.recorder import Recorder
from tputtui.measure.window import SPAN_S
from tputtui.predict.foresight import Foresight, Running
from tputtui.predict.kept_steps import hashed
from tputtui.profile import EngineSpec, Profile, tokenizer_of
from tputtui.profile.evidence import TUNED, Evidence
from tputtui.record.journal import Journal
from tputtui.session.asked import Asked
from tputtui.session.foreseeing import Foreseeing
from tputtui.session.guard import Guard
from tputtui.session.steering import Steering

__all__ = ["Session"]

_JOURNAL_TIMEOUT_S = 3.0
_PER_DEPTH_S = 240.0
"""Seconds that a recorder of depth 1 keeps at 250 steps per second, with a margin."""

MakeHost = Callable[[Callable[..., Engine], Recorder, Workload, Clock], Orders]


class Session:
    """Starts, watches and closes one run; `steer` changes it.

    make_engine: builds an engine that is not booted yet, as `Host` calls it. clock: the engine's
    clock, monotonic seconds. make_host: builds the host in which the engine's loop runs. guard:
    what a change must not break. written: the text of the profile that the run started from; a
    saved profile keeps its comments. log_path: file of the session log; None for no log. span_s:
    seconds that a window grows to. foresight: learns step costs while the engine runs, and
    predicts by them.
    """

    def __init__(
        self,
        make_engine: Callable[..., Engine],
        profile: Profile,
        clock: Clock = time.monotonic,
        hardware: HardwareSampler | None = None,
        make_host: MakeHost = Host,
        guard: Guard | None = None,
        written: str = "",
        log_path: Path | None = None,
        span_s: float = SPAN_S,
        foresight: Foresight | None = None,
    ) -> None:
        self.recorder = Recorder(max(1, math.ceil(span_s / _PER_DEPTH_S)))
        self.host = make_host(make_engine, self.recorder, profile.load, clock)
        self._clock = clock
        started_s = clock()
        self._observer = Observer(self.recorder, started_s, span_s)
        self.journal = Journal(log_path, self.recorder, started_s) if log_path else None
        self._asked = Asked(profile)
        self._hardware = hardware
        self._reported_crowded = False
        self._latest: Frame | None = None
        self._points = Points()
        self._trials = TriedSettings(max(span_s, SPAN_S))
        self._foresight = foresight or Foresight()
        self._foreseeing = Foreseeing(self._foresight)
        self._ran: tuple[EngineFacts | None, EngineSpec | None, Running | None] = (None, None, None)
        self.steer = Steering(
            self.host,
            self.recorder,
            self._asked,
            self._trials,
            clock,
            self._observer,
            guard,
            self._foresight,
        )
        self._written = written
        self._watchers: list[Callable[[Frame], None]] = []
        if self.journal is not None:
            self.watch(self.journal.see)

    # -- life ------------------------------------------------------------------------------

    def start(self, *, load: bool = True) -> None:
        """Start the engine thread and the samplers, and boot the engine."""
        if self._hardware is not None:
            self._hardware.start()
        if self.journal is not None:
            self.journal.start()
        self.host.order(Boot(Start(self.engine, self._asked.kept(self.host.status)), load=load))
        self.host.start()

    def close(self, timeout_s: float) -> bool:
        """Stop everything; False if the engine thread did not end in time."""
        if self._hardware is not None:
            self._hardware.stop(min(timeout_s, 1.0))
        self._foresight.close()
        closed = self.host.close(timeout_s)
        if self.journal is not None:
            self.advance()
            self.journal.close(min(timeout_s, _JOURNAL_TIMEOUT_S))
        return closed

    # -- how things stand ------------------------------------------------------------------

    @property
    def history(self) -> History:
        """The run second by second, for charts."""
        return self._observer.history

    @property
    def goals(self) -> tuple[Goal, ...]:
        """The goals in force."""
        return self._asked.profile.goals

    def set_goals(self, goals: tuple[Goal, ...]) -> None:
        """Judge by other goals from now on; a tuner that searches by the old ones ends."""
        if goals != self.goals and self.steer.experiments.under_way == "the tuner":
            self.steer.experiments.stop()
        self._asked.profile = msgspec.structs.replace(self._asked.profile, goals=goals)
        self._observer.look_anew()

    @property
    def workload(self) -> Workload:
        """The load last asked for."""
        return self._asked.profile.load

    @property
    def engine(self) -> EngineSpec:
        """The engine that was booted, or is being booted."""
        return self._asked.profile.engine

    @property
    def latest(self) -> Frame:
        """The frame of the last `advance`; only the first access calls `advance` itself."""
        return self._latest or self.advance()

    def advance(self) -> Frame:
        """Move experiments, guard and verify boot on, and return how everything stands."""
        now_s, status = self._clock() - self.host.lag_s, self.host.status
        self.steer.notice()
        hardware = self._hardware.latest() if self._hardware else None
        self._foresight.follow(self.recorder, self._engine_of(status))
        profile, asked = self._asked.profile, self._asked.knobs
        seen = self._observer.frame(now_s, status, profile, asked, hardware)
        # Of the setting before, where this frame is the first of another one.
        seen = replace(seen, outlooks=self._foreseeing.outlooks)
        if not self.steer.experiments.legs:
            self._trials.follow(seen, self.recorder)
            present = self._trials.all()[-1:]
            self._points.follow(
                seen, self.recorder, *present, swept=bool(self.steer.experiments.under_way)
            )
        seen = replace(seen, points=self._points.all(), trials=self._trials.all())
        seen = self.steer.follow(seen)
        frame = replace(seen, trials=self._trials.all(), baseline=self._trials.baseline)
        self._foreseeing.follow(frame, self.steer.experiments.under_way)
        frame = replace(frame, outlooks=self._foreseeing.outlooks)
        self._latest = frame
        for see in self._watchers:
            see(frame)
        return frame

    def _engine_of(self, status: Status) -> Running | None:
        """What `_running` tells; made anew for another boot only, since it is a hash of much."""
        facts, spec, running = self._ran
        if status.facts is not facts or status.spec is not spec:
            running = _running(status)
            self._ran = status.facts, status.spec, running
        return running

    def consider(self, name: str, *values: int) -> None:
        """Predict what these values of a limit would do: `Frame.outlooks`, after a moment.

        No values: predict nothing more.
        """
        self._foreseeing.consider(name, *values)

    def look_closely(self) -> Frame:
        """Advance with every figure computed for this moment: none is up to a second old."""
        self._observer.look_anew()
        self._trials.look_anew()
        return self.advance()

    def watch(self, see: Callable[[Frame], None]) -> None:
        """Pass every frame to `see` as well; `see` must return at once."""
        self._watchers.append(see)

    def woken(self) -> None:
        """This process was stopped and continues: start the window anew."""
        if self.host.woken():
            self.steer.measure_anew()

    def news(self) -> list[str]:
        """What happened by itself since the last call, in sentences."""
        news = self.steer.news()
        if self.journal is not None and (failure := self.journal.new_failure()):
            news.append(failure)
        sample = self._hardware.latest() if self._hardware else None
        host = sample.host if sample else None
        if host is not None and host.crowded and not self._reported_crowded:
            self._reported_crowded = True
            news.append(
                f"Other processes take {host.others_cpu_cores:.1f} of {host.cores} cores: what is "
                "measured now is of a machine that is shared with them."
            )
        return news

    def save(self, path: Path, *, overwrite: bool = False) -> Path:
        """Write the present limits, load and figures to a profile; returns its path.

        It keeps the comments of the profile that the run started from; with `overwrite`, those of
        the existing file. Raises ProfileExists, or ProfileError when it cannot be written;
        UsageError on live traffic, which has no load to write.
        """
        self.check_saves()
        like = self._written
        if overwrite and path.expanduser().is_file():
            like = profile.read(path.expanduser())
        return profile.save(self.snapshot(), path, overwrite=overwrite, like=like or None)

    def check_saves(self) -> None:
        """Raise UsageError where there is no profile to save."""
        facts, knobs = self.host.status.facts, self._asked.knobs
        if facts is None or not facts.live or knobs is None:
            return
        changed = {name: n for name, n in knobs.as_dict().items() if n != facts.booted.get(name)}
        words = to_argv(start_up(Profile(EngineSpec(facts.model), knobs=changed)).spec.args)
        raise UsageError(
            "A profile has a load, and this board watches live traffic.",
            f"Start the server with {' '.join(words)}." if words else "Nothing was changed.",
        )

    def snapshot(self) -> Profile:
        """The profile that `save` writes."""
        frame, status = self.advance(), self.host.status
        evidence = tuned(frame, self.recorder) if frame.asked else None
        if evidence is not None and (how := self.steer.experiments.tuner_note):
            note = "; ".join(filter(None, (evidence.note, how)))
            evidence = msgspec.structs.replace(evidence, note=note)
        knobs, load = self._asked.kept(status), self.workload
        evidence = self.steer.experiments.evidence or evidence
        before = self.steer.experiments.before
        if before is not None and status.facts is not None:
            # The window is about a level of a sweep or a leg, not about the person's setting.
            knobs, load = kept_limits(before.knobs, status.facts.booted), before.load
            evidence = Evidence(
                TUNED, note=f"no figures: {self.steer.experiments.under_way} was under way"
            )
        profile = self._asked.profile
        return msgspec.structs.replace(profile, load=load, knobs=knobs, evidence=evidence)

    def clear_points(self) -> None:
        """Drop the points that were measured so far."""
        self._points.clear()


def _running(status: Status) -> Running | None:
    """The engine that is up, where its steps tell what they cost; None otherwise."""
    facts, spec = status.facts, status.spec
    if facts is None or spec is None or not facts.stepped or facts.engines > 1:
        return None
    if facts.ceilings.num_speculative_tokens:
        # How many tokens a step brings depends on what is accepted, which costs do not tell.
        return None
    return Running(
        (spec.model, tuple(sorted((name, repr(value)) for name, value in spec.args.items()))),
        facts.slot_tokens,
        facts.overlapped,
        facts.vocab_size,
        tokenizer_of(spec),
        _lasting(spec, facts),
        facts.state_tokens,
    )


def _lasting(spec: EngineSpec, facts: EngineFacts) -> str:
    """The name under which an engine's steps are kept for its next boot; empty for none.

    What is behind the address of a server may be another engine tomorrow. How many KV blocks there
    are differs from boot to boot, and costs nothing.
    """
    if facts.served or facts.live:
        return ""
    booted = facts.booted
    return hashed(
        platform.node(),
        (spec.model, facts.config_sha256, facts.revision),
        (facts.kind, sorted(facts.versions.items()), facts.device, facts.simulated),
        (facts.dtype, facts.block_size, facts.kv_block_bytes, facts.overlapped),
        (booted.max_num_seqs, booted.max_num_batched_tokens, booted.max_model_len),
        sorted((name, repr(value)) for name, value in spec.args.items()),
    )
