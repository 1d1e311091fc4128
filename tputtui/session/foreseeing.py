"""Predicts what another value of the limit that a person looks at would do. Front end's thread.

A question is asked once a value has stood still for a moment, once for each value of a setting, and
only while the setting in force is measured: so the process that predicts computes for a few tens of
milliseconds after a person has chosen something, and rests otherwise.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from tputtui.engine.protocol import State
from tputtui.frame import Frame
from tputtui.measure.series import Series
from tputtui.predict.forecast import Forecast, Wanted, can_forecast
from tputtui.predict.foresight import Foresight
from tputtui.predict.outlook import FOLLOWED, Outlook, fits, outlook

__all__ = ["Foreseeing"]

_STILL_S = 0.5
"""Seconds that what is looked at must stand still before it is asked for."""
_AGAIN_S = 10.0
"""Seconds until a question that found no answer is asked again."""
_MEASURED_S, _FEWEST = 5.0, 20
"""Seconds and requests from which on the setting in force counts as measured."""


class _Value(NamedTuple):
    """The question for one value of a limit; "" for the setting in force."""

    name: str
    value: int = 0


_PRESENT = _Value("")


class Foreseeing:
    """Asks `foresight` for what `consider` named, between its questions for experiments."""

    def __init__(self, foresight: Foresight) -> None:
        self._foresight = foresight
        self._name = ""
        self._values: tuple[int, ...] = ()
        self._since_s = math.nan
        self._of: object = None
        self._asked: object = None
        """The setting that the question under way is about; None without one."""
        self._again_s = -math.inf
        self._outlooks: dict[_Value, Outlook] = {}
        self._present: Forecast | None = None
        """The forecast of the setting in force that goes with the outlooks; None without any."""

    def consider(self, name: str, *values: int) -> None:
        """Predict what these values of a limit would do, once they have stood still.

        No values: predict nothing.
        """
        if (name, values) != (self._name, self._values):
            self._name, self._values = name, values
            self._since_s = math.nan

    @property
    def outlooks(self) -> tuple[Outlook, ...]:
        """All that is known of other values of limits, from the setting of the last frame."""
        return tuple(self._outlooks.values())

    def follow(self, frame: Frame, under_way: str) -> None:
        """Take in a frame. under_way: the experiment under way, which has the predictor."""
        of = frame.asked, frame.profile.load, frame.profile.judged, frame.status.spec
        if of != self._of:
            self._of = of
            self._outlooks, self._present = {}, None
            self._since_s, self._again_s = math.nan, -math.inf
        measured = _measured(frame) is not None
        if self._present is not None and measured and not _fits_now(self._present, frame):
            self._outlooks, self._present = {}, None
            self._again_s = frame.t_s + _AGAIN_S
        if under_way:
            self._asked = None
            return
        if math.isnan(self._since_s):
            self._since_s = frame.t_s
        if self._asked is not None:
            self._take(frame)
            return
        left = [
            _Value(self._name, value)
            for value in self._values
            if _Value(self._name, value) not in self._outlooks and self._differs(frame, value)
        ]
        still = frame.t_s - self._since_s >= _STILL_S and frame.t_s >= self._again_s
        if left and still and measured:
            self._ask(frame, left)

    # -- inside ----------------------------------------------------------------------------

    def _differs(self, frame: Frame, value: int) -> bool:
        """Whether a value is one to predict for: another than that in force, of a limit that is
        followed. What prefix caching would have hit while it was off is not known."""
        name, asked = self._name, frame.asked
        if asked is None or name not in FOLLOWED or value == asked.get(name):
            return False
        return name != "enable_prefix_caching" or value == 0

    def _ask(self, frame: Frame, left: list[_Value]) -> None:
        asked, load = frame.asked, frame.profile.load
        assert asked is not None
        wanted = [(_PRESENT, Wanted(asked, load))]
        wanted += [(each, Wanted(asked.with_value(*each), load)) for each in left]
        if self._foresight.ask(wanted, frame.profile.judged):
            self._asked = self._of

    def _take(self, frame: Frame) -> None:
        """Take the answer, once it is there."""
        if self._foresight.busy:
            return
        answer, of = self._foresight.answer(), self._asked
        self._asked = None
        if of != self._of:
            return
        measured, asked = _measured(frame), frame.asked
        by_name = {}
        if answer is not None and answer.forecasts is not None:
            by_name = dict(zip(answer.asked, answer.forecasts, strict=True))
        present = by_name.pop(_PRESENT, None)
        self._again_s = frame.t_s + _AGAIN_S
        if present is None or measured is None or asked is None:
            return
        tokens = measured.values.get("tokens_per_s")
        if tokens is None or not fits(present, tokens.value) or not _fits_now(present, frame):
            # What it says of this setting is wrong; so it would be of another one.
            return
        self._again_s, self._present = -math.inf, present
        closed = frame.profile.load.closed
        for each, forecast in by_name.items():
            assert isinstance(each, _Value)
            self._outlooks[each] = outlook(
                each.name,
                asked.with_value(*each),
                asked.get(each.name),
                present,
                forecast,
                measured.values,
                math.inf if closed else frame.figures.offered_per_s,
                goals=bool(frame.profile.judged),
            )


def _fits_now(present: Forecast, frame: Frame) -> bool:
    """Whether a forecast of the setting in force agrees with what it gives by now.

    What was measured of a setting is its first minute; other programs may have come since.
    """
    return fits(present, frame.figures.generated_per_s)


def _measured(frame: Frame) -> Series | None:
    """What the setting in force gives, where it is measured and can be predicted for."""
    facts, row = frame.status.facts, frame.trials[-1] if frame.trials else None
    if facts is None or facts.live or frame.others or frame.status.state is not State.RUNNING:
        return None
    if frame.asked is None or frame.status.knobs != frame.asked:
        return None
    if not can_forecast(frame.profile.load) or frame.wanted.period_s > 0:
        return None
    if row is None or row.series is None or not frame.window.phase.quotable:
        return None
    if row.knobs != frame.asked or row.load != frame.profile.load:
        return None
    enough = row.series.length_s >= _MEASURED_S and row.series.n >= _FEWEST
    return row.series if enough else None
