"""A server second by second, for charts: spreads scrape intervals over whole seconds. Pure.

The figure of a second is the mean of the intervals that cover it, weighted by the covered time, so
the drawn values add up to the counted total. A second that is less than half covered is a gap.
"""

from __future__ import annotations

import math

from tputtui.attach.span import ServerFigures
from tputtui.measure.history import Bucket, History

__all__ = ["Seconds"]


class Seconds:
    """Fills `history` from intervals.

    late_s: how long after a second, in s, an interval that covers it may still arrive.
    """

    def __init__(self, start_s: float, late_s: float) -> None:
        self.history = History(start_s)
        self._late_s = late_s
        self._intervals: list[tuple[float, float, ServerFigures]] = []

    def add(self, from_s: float, to_s: float, figures: ServerFigures) -> None:
        """Add the figures between two consecutive scrapes."""
        self._intervals.append((from_s, to_s, figures))
        self._close(to_s)

    def pass_by(self, now_s: float) -> None:
        """Close the seconds that no interval has covered in time; they become gaps."""
        self._close(now_s - self._late_s)

    def _close(self, end_s: float) -> None:
        history = self.history
        history.close(end_s, self._bucket)
        open_s = history.start_s + history.total
        self._intervals = [kept for kept in self._intervals if kept[1] > open_s]

    def _bucket(self, start_s: float) -> Bucket:
        covered = [
            (min(to_s, start_s + 1.0) - max(from_s, start_s), figures)
            for from_s, to_s, figures in self._intervals
        ]
        parts = [(share, figures) for share, figures in covered if share > 0]

        def mean(name: str) -> float:
            values: list[tuple[float, float]] = [(share, getattr(of, name)) for share, of in parts]
            values = [(share, value) for share, value in values if not math.isnan(value)]
            whole = sum(share for share, _ in values)
            return (
                sum(share * value for share, value in values) / whole if whole >= 0.5 else math.nan
            )

        return Bucket(
            start_s,
            generated=mean("generated_per_s"),
            prefill=mean("prompt_per_s"),
            running=mean("running"),
            waiting=mean("waiting"),
            max_num_seqs=math.nan,
            kv_frac=mean("kv_frac"),
            step_s=math.nan,
            preemptions=mean("preemptions_per_s"),
        )
