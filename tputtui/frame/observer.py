"""Makes a `Frame` of the recorded samples: windows, figures, phases. Front end's thread.

It only reads; the session gives the orders.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from tputtui.engine.orders import Status
from tputtui.engine.protocol import State
from tputtui.frame import Frame
from tputtui.hardware import HardwareSample
from tputtui.knobs import Knobs
from tputtui.measure.attainment import goodput
from tputtui.measure.binding import Binding, binding, in_common
from tputtui.measure.energy import EnergyMeter, cost_per_mtok
from tputtui.measure.histogram import Histogram, histograms
from tputtui.measure.history import History
from tputtui.measure.padding import Padding, padding
from tputtui.measure.phase import phase_of
from tputtui.measure.recorder import ENDED, Recorder
from tputtui.measure.samples import STEP, Accounting, above, kv_frac_of
from tputtui.measure.traffic import Traffic, traffic
from tputtui.measure.window import (
    SPAN_S,
    Phase,
    Settling,
    Window,
    figures,
    finished_per_s,
    latencies,
)
from tputtui.profile import Profile

__all__ = ["Observer", "busy_shares"]

_NOW_S = 1.0
_TOLD_LATE_S = 1.5
"""A server tells of its requests that have ended so much later, at most."""
_BINDING_S = 10.0
"""What binds is computed from the last seconds only, so that a change shows soon."""
_REST_S = 0.5
"""A load on a curve changes at every step: without a change for so long, it has come to rest."""
_LONGEST_OWN_S = 60.0
"""A new window without a change waits no longer than this: its older requests are of the same
setting."""
_SLOW_EVERY_S = 1.0
"""Quantiles, goals and the test for a trend are computed once a second."""


class Observer:
    """Observes one run from `started_s` on; a window grows to `span_s` seconds."""

    def __init__(self, recorder: Recorder, started_s: float, span_s: float = SPAN_S) -> None:
        self.history = History(started_s)
        self._recorder = recorder
        self._started_s = started_s
        self._settling = Settling(started_s, span_s)
        self._energy = EnergyMeter()
        self._slow_s = -math.inf
        self._latencies = latencies(recorder, 0.0, 0.0)
        self._spread: tuple[Histogram, ...] = ()
        self._goodput = goodput(recorder, (), 0.0, 0.0)
        self._traffic: tuple[Traffic, ...] = ()
        self._phase = Phase.IDLE
        self._binding: Binding | None = None
        self._padding: Padding | None = None

    def begin_anew(self, now_s: float, *, own: bool = False, warming: bool = False) -> None:
        """A limit or the load has changed: start the window anew.

        own: nothing has changed; the requests in flight are of the same setting. warming: a leg
        warms up, and `begin` is called when it is warm.
        """
        in_flight = self._recorder.accounting.in_flight
        longest_s = _LONGEST_OWN_S if own else math.inf
        self._settling.change(now_s, in_flight, longest_s=longest_s, warming=warming)
        self._slow_s = -math.inf

    def begin(self, at_s: float) -> None:
        """A leg is warm: start the window at `at_s`."""
        self._settling.begin(at_s)
        self._slow_s = -math.inf

    def look_anew(self) -> None:
        """Compute quantiles, goals and trend with the next frame, however soon that is."""
        self._slow_s = -math.inf

    def frame(
        self,
        now_s: float,
        status: Status,
        profile: Profile,
        asked: Knobs | None,
        hardware: HardwareSample | None,
    ) -> Frame:
        """How everything stands at `now_s`."""
        if not self.history.buckets and status.facts is None:
            self.history.begin(now_s)
        self.history.advance(self._recorder, now_s, busy_shares(hardware))
        until_s = _until(now_s, status)
        moving = self._follow_load(now_s)
        window = self._window(until_s, status, self._recorder.accounting, asked)
        if now_s - self._slow_s >= _SLOW_EVERY_S:
            self._phase = self._phased(window, status, moving)
        window = replace(window, phase=self._phase)
        return self.picture(now_s, window, status, profile, asked, hardware)

    def picture(
        self,
        now_s: float,
        window: Window,
        status: Status,
        profile: Profile,
        asked: Knobs | None,
        hardware: HardwareSample | None,
    ) -> Frame:
        """How everything stands at `now_s`, with figures over `window`."""
        recorder, accounting = self._recorder, self._recorder.accounting
        until_s = _until(now_s, status)
        self._meter(hardware)
        if not 0 <= now_s - self._slow_s < _SLOW_EVERY_S:
            self._slow_s = now_s
            self._look_closely(window, profile)
            self._binding = self._bound(window, status, hardware)
            self._padding = self._padded(window, status)
        over_window = figures(recorder, window.start_s, until_s)
        now = figures(recorder, until_s - _NOW_S, until_s)
        if status.facts is not None and status.facts.live:
            told_s = until_s - _TOLD_LATE_S
            least_s = told_s - _NOW_S
            now = replace(now, achieved_per_s=finished_per_s(recorder, least_s, told_s))
            whole = finished_per_s(recorder, min(window.start_s, least_s), told_s)
            over_window = replace(over_window, achieved_per_s=whole)
        return Frame(
            t_s=now_s,
            elapsed_s=now_s - self._started_s,
            status=status,
            profile=profile,
            asked=asked,
            accounting=accounting,
            generated_tokens=recorder.generated_tokens,
            now=now,
            window=window,
            figures=over_window,
            latencies=self._latencies,
            goodput=self._goodput,
            tokens_per_joule=self._energy.tokens_per_joule(recorder, window.start_s, until_s),
            cost_per_mtok=cost_per_mtok(profile.price_per_hour, over_window.generated_per_s),
            binding=self._binding,
            kv_frac=self._kv_frac(until_s),
            kv_blocks=recorder.kv_blocks,
            wanted=recorder.wanted,
            hardware=hardware,
            marks=tuple(recorder.marks),
            spread=self._spread,
            others=recorder.others,
            engines=recorder.engines,
            stops=recorder.stops,
            tiers=recorder.tiers,
            requests=recorder.requests,
            traffic=self._traffic,
            padding=self._padding,
            labels=recorder.labels,
        )

    # -- inside ----------------------------------------------------------------------------

    def _kv_frac(self, until_s: float) -> float:
        recorder = self._recorder
        if recorder.engines:
            return kv_frac_of(recorder.engines)
        last = recorder.steps.between(until_s - _NOW_S, until_s)
        if not len(last) or not recorder.accounting.in_flight:
            return 0.0
        return float(last[-1, STEP["kv_frac"]])

    def _follow_load(self, now_s: float) -> bool:
        """Whether the load is changing along a curve; when it comes to rest, that is a change."""
        since_s = self._recorder.wanted.since_s
        if since_s <= self._settling.changed_s:
            return False
        if now_s - since_s < _REST_S:
            return True
        self.begin_anew(now_s)
        return False

    def _window(
        self, until_s: float, status: Status, accounting: Accounting, asked: Knobs | None
    ) -> Window:
        knobs = status.knobs
        recorder, settling = self._recorder, self._settling
        in_force = (
            knobs is not None
            and knobs == asked
            and not above(accounting, recorder.engines, knobs.max_num_seqs)
        )
        due_s = recorder.ended.between(settling.changed_s, until_s)[:, ENDED["due_s"]]
        # Requests that died with their process have no due time (NaN); they count as older.
        left = int(np.count_nonzero(~(due_s > settling.older_s)))
        oldest_s, period_s = recorder.oldest_in_flight_s, recorder.wanted.period_s
        return settling.window(until_s, accounting, left, oldest_s, in_force, period_s)

    def _look_closely(self, window: Window, profile: Profile) -> None:
        recorder = self._recorder
        self._latencies = latencies(recorder, window.start_s, window.end_s)
        self._spread = histograms(recorder, window.start_s, window.end_s)
        self._goodput = goodput(recorder, profile.judged, window.start_s, window.end_s)
        self._traffic = traffic(
            recorder, profile.judged, window.start_s, window.end_s, profile.load.class_names
        )

    def _phased(self, window: Window, status: Status, moving: bool) -> Phase:
        return phase_of(
            window,
            self._recorder,
            held=status.state is not State.RUNNING,
            in_flight=self._recorder.accounting.in_flight,
            moving=moving,
            period_s=self._recorder.wanted.period_s,
        )

    def _bound(
        self, window: Window, status: Status, hardware: HardwareSample | None
    ) -> Binding | None:
        """What binds over the last seconds of the window; None while the load is held."""
        if status.state is not State.RUNNING or status.knobs is None or status.facts is None:
            return None
        apart = self._recorder.engine_count(window.end_s) > 1
        if not status.facts.stepped and not apart:
            return None
        knobs, ceilings = status.knobs, status.facts.ceilings
        start_s = max(window.start_s, window.end_s - _BINDING_S)
        ended = self._recorder.ended.between(start_s, window.end_s)
        # The last answer of a driver that hangs is not about these seconds.
        answered = hardware is not None and not hardware.gpus_stale(window.end_s)
        gpus = hardware.gpus if hardware and answered else ()
        bound = [
            binding(
                steps,
                window.end_s - start_s,
                knobs,
                ceilings,
                ended=len(ended),
                cut_short=int(ended[:, ENDED["cut"]].sum()),
                rejected=int(ended[:, ENDED["rejected"]].sum()),
                overlapped=status.facts.overlapped,
                throttled=[reason for gpu in gpus if gpu.visible for reason in gpu.throttle],
            )
            for steps in self._recorder.steps_of_engines(start_s, window.end_s)
        ]
        return in_common(bound) if apart else bound[0]

    def _padded(self, window: Window, status: Status) -> Padding | None:
        """Padding over the window; None where no single steps, or no CUDA graphs, are known."""
        facts = status.facts
        if facts is None or facts.engines > 1 or not facts.stepped:
            return None
        steps = self._recorder.steps.between(window.start_s, window.end_s)
        return padding(steps, facts.capture_sizes)

    def _meter(self, hardware: HardwareSample | None) -> None:
        if hardware is None or hardware.gpu_t_s is None:
            return
        counters = [gpu.energy_j for gpu in hardware.gpus if gpu.visible]
        known = [joules for joules in counters if joules is not None]
        if known and len(known) == len(counters):
            self._energy.add(hardware.gpu_t_s, sum(known))


def busy_shares(hardware: HardwareSample | None) -> tuple[float, float]:
    """Busy shares of the host and of the GPUs that the engine sees; NaN where one is not known."""
    if hardware is None:
        return math.nan, math.nan
    cpu = hardware.host.cpu_frac if hardware.host else None
    gpus = [gpu.util_frac for gpu in hardware.gpus if gpu.visible and gpu.util_frac is not None]
    return math.nan if cpu is None else cpu, sum(gpus) / len(gpus) if gpus else math.nan


def _until(now_s: float, status: Status) -> float:
    """The end of the time that figures cover: now, or the moment when the engine failed."""
    return status.since_s if status.state is State.FAILED else now_s
