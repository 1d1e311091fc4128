"""Compares two settings on the running engine: leg after leg, each warmed up and measured.

Front end's thread; receives frames and returns the leg to put on next.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from tputtui.experiments.compare import MAX_PAIRS, Comparison, Leg, LegFigures
from tputtui.experiments.leg import LegWatch, LiveLeg, ended_between
from tputtui.experiments.stalls import without_stalls
from tputtui.frame import CompareState, Frame
from tputtui.goals import Goal
from tputtui.knobs import Knobs, apart
from tputtui.load.workload import Workload
from tputtui.measure.attainment import Attainment, attainment, concerned, counted, judged_s
from tputtui.measure.batches import MOST, turnover_batches
from tputtui.measure.recorder import Recorder
from tputtui.measure.series import rows, series
from tputtui.measure.stats import Floats
from tputtui.profile import EngineSpec

__all__ = ["Comparing", "Side", "leg_figures"]

_MEASURED_S = 10.0
_REQUESTS = 30
_LONGEST_MEASURED_S = 60.0
_SHORTEST_S = 2.0
"""Fewest seconds to measure before a load ends within a leg."""


class Side(NamedTuple):
    """Limits, and the engine that they belong to; None: the engine that is up."""

    knobs: Knobs
    engine: EngineSpec | None = None


class Comparing:
    """Compares `a` and `b` under `workload`, by `goals` where there are any.

    The first leg of a pair is measured from when it is warm: for at least 10 s, until 30 requests
    have ended, for a minute at most. The second leg is measured for as long as the first, and
    starts no earlier after its beginning. Of a load that repeats, whole periods are measured.
    max_pairs: 3 to 12.
    """

    def __init__(
        self,
        a: Side,
        b: Side,
        workload: Workload,
        goals: Sequence[Goal],
        now_s: float,
        *,
        max_pairs: int = MAX_PAIRS,
    ) -> None:
        self._sides = {"A": a, "B": b}
        self._names = apart(a.knobs, b.knobs)
        self._workload = workload
        self._goals = tuple(goals)
        self._max_pairs = max_pairs
        self._comparison = Comparison(rows(bool(goals)), max_pairs=max_pairs)
        self._broken = ""
        self._second = False
        self._length_s = self._earliest_s = 0.0
        self._spans: dict[str, list[_Span]] = {"A": [], "B": []}
        self._asked_s = now_s
        self._note = "starting"
        self._watch = LegWatch(now_s)

    @property
    def leg(self) -> LiveLeg | None:
        """The leg that should run now; None when the comparison is over."""
        leg = self._leg()
        if leg is None:
            return None
        # Never the seed of the load before: the prefix cache may hold its requests.
        seed = (self._workload.seed + 1 + leg.pair) % 2**63
        workload = msgspec.structs.replace(self._workload, seed=seed)
        knobs, engine = self._sides[leg.side]
        name = self._names["AB".index(leg.side)]
        text = f"pair {leg.pair + 1}, {leg.side}{f': {name}' if name else ''}"
        return LiveLeg(knobs, workload, text, engine)

    @property
    def state(self) -> CompareState:
        """How far the comparison is."""
        leg = self._leg()
        if leg is None:
            note = self._broken or self._comparison.reason
            pairs, differences = self._comparison.pairs, self._comparison.result
            return CompareState("", pairs, note, True, differences, sides=self._names)
        note = f"{self._comparison.progress}: {leg.side} {self._note}"
        return CompareState(
            leg.side,
            leg.pair,
            note,
            False,
            self._comparison.result,
            sides=self._names,
            left_s=self.left_s(self._comparison.leg_s),
        )

    def stop(self, note: str) -> CompareState:
        """End the comparison early, for the reason in `note`; its last state."""
        self._broken = note
        return self.state

    def attained(self, side: str) -> tuple[Attainment, ...]:
        """How side A or B kept each goal, over all legs of that side."""
        none = np.zeros(0)
        spans = self._spans[side]
        batches = min(MOST, sum(span.batches for span in spans))
        length_s = math.fsum(span.length_s for span in spans)
        return tuple(
            attainment(
                goal,
                np.concatenate([none, *(span.values_s[i] for span in spans)]),
                batches,
                length_s,
            )
            for i, goal in enumerate(self._goals)
        )

    def put_on(self, now_s: float) -> None:
        """The leg starts only now, because an engine had to be booted for it."""
        self._watch = LegWatch(now_s, earliest_s=self._earliest_s)

    def left_s(self, leg_s: float) -> float:
        """Seconds left at most, if a leg takes `leg_s` seconds."""
        legs = 2 * (self._max_pairs - self._comparison.pairs) - self._second
        return 0.0 if self._leg() is None else legs * leg_s

    def follow(self, frame: Frame, recorder: Recorder) -> bool:
        """Take in a frame of the leg asked for; whether another leg must start now."""
        leg = self._leg()
        if leg is None:
            return False
        watch = self._watch
        watch.follow(frame, recorder)
        self._note = watch.note
        if watch.broken:
            self._broken = watch.broken
            return True
        over = watch.ended_s < math.inf
        now_s = min(frame.t_s, watch.ended_s)
        if over and not now_s - watch.cut_s >= _SHORTEST_S:
            self._broken = "The load ended before a leg was measured."
            return True
        if not watch.warm:
            return False
        end_s = self._end_s(frame, recorder, now_s)
        if now_s < end_s and not over:
            done_s, whole_s = now_s - watch.cut_s, end_s - watch.cut_s
            self._note = f"measuring, {max(0.0, done_s):.0f} of {whole_s:.0f} s"
            return False
        self._tell(leg, recorder, min(end_s, now_s), frame.t_s)
        return True

    # -- inside ----------------------------------------------------------------------------

    def _leg(self) -> Leg | None:
        return None if self._broken else self._comparison.ask()

    def _end_s(self, frame: Frame, recorder: Recorder, now_s: float) -> float:
        """When the measured part ends, by what is known now."""
        start_s, elapsed_s = self._watch.cut_s, now_s - self._watch.cut_s
        if self._second:
            return start_s + self._length_s
        length_s = max(_MEASURED_S, self._length_s)
        if ended_between(recorder, start_s, start_s + length_s) < _REQUESTS:
            enough = ended_between(recorder, start_s, now_s) >= _REQUESTS
            reached_s = elapsed_s if enough else elapsed_s + 1.0
            length_s = max(length_s, min(reached_s, _LONGEST_MEASURED_S))
        period_s = frame.wanted.period_s
        if period_s > 0:
            length_s = period_s * math.ceil(length_s / period_s - 1e-9)
        return start_s + length_s

    def _tell(self, leg: Leg, recorder: Recorder, end_s: float, now_s: float) -> None:
        watch = self._watch
        figures = leg_figures(recorder, watch.cut_s, end_s, self._goals)
        self._length_s = end_s - watch.cut_s
        self._earliest_s = 0.0 if self._second else watch.cut_s - watch.began_s
        self._second = not self._second
        self._comparison.tell(leg, figures, took_s=now_s - self._asked_s)
        ended = counted(recorder.ended.between(watch.cut_s, end_s))
        self._spans[leg.side].append(
            _Span(
                tuple(
                    judged_s(ended[concerned(recorder, ended, goal)], goal) for goal in self._goals
                ),
                turnover_batches(recorder, watch.cut_s, end_s),
                end_s - watch.cut_s,
            )
        )
        self._asked_s = now_s
        self._note = "starting"
        self._watch = LegWatch(now_s, earliest_s=self._earliest_s)


class _Span(NamedTuple):
    """The measured part of a leg."""

    values_s: tuple[Floats, ...]
    """For each goal, the latencies that it bounds, in seconds (see `attainment.judged_s`)."""
    batches: int
    """Number of turnovers."""
    length_s: float


def leg_figures(
    recorder: Recorder, start_s: float, end_s: float, goals: Sequence[Goal]
) -> LegFigures:
    """What a leg gave in start_s < time ≤ end_s, with the machine's stalls and without them."""
    plain = series(recorder, start_s, end_s, goals).values
    made, (begins_s, ends_s), stalls = without_stalls(recorder, start_s, end_s)
    smooth = series(made, begins_s, ends_s, goals).values
    return LegFigures(
        values={key: batched.value for key, batched in plain.items()},
        errors={key: batched.error()[0] for key, batched in plain.items()},
        least={key: batched.floor for key, batched in plain.items() if batched.is_rate},
        smooth={key: batched.value for key, batched in smooth.items()},
        smooth_errors={key: batched.error()[0] for key, batched in smooth.items()},
        stalls=stalls,
    )
