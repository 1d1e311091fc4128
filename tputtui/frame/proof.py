"""What was measured of a setting, in the form that a profile stores (its evidence). Pure.

A window that may not be quoted gives no figures: during a ramp or a drain no setting is measured.
"""

from __future__ import annotations

import datetime
import math
import platform
from collections.abc import Sequence
from dataclasses import replace

from tputtui import __version__
from tputtui.engine.protocol import EngineFacts
from tputtui.frame import Frame
from tputtui.knobs import KNOBS, UNTOLD, Knobs
from tputtui.load.notation import describe_all_arrivals
from tputtui.load.sections import describe
from tputtui.measure.attainment import Attainment
from tputtui.measure.energy import cost_per_mtok
from tputtui.measure.recorder import Recorder
from tputtui.measure.series import METRICS, MORE, Series
from tputtui.measure.splice import Spans, goodput_of, holds, length_of, series_of, view
from tputtui.measure.traffic import Traffic, traffic
from tputtui.measure.verdict import Verdict, judgement, ratio_interval
from tputtui.measure.window import figures
from tputtui.profile.document import written
from tputtui.profile.evidence import (
    TUNED,
    VERIFIED,
    Attained,
    Change,
    Evidence,
    Figure,
    Got,
    Machine,
    Measured,
    MeasuredWindow,
    Model,
    Quality,
)

__all__ = ["compared", "measured", "tuned"]


def tuned(frame: Frame, recorder: Recorder) -> Evidence:
    """The evidence of the present setting; without figures where its window may not be quoted."""
    figures_now = measured(frame, recorder)
    if figures_now is None:
        return Evidence(TUNED, note=f"no figures: the window was {frame.window.phase.value}")
    return Evidence(TUNED, tuned=figures_now)


def measured(frame: Frame, recorder: Recorder) -> Measured | None:
    """The figures of the present setting, and all that they depend on.

    They are those of its row in the history; of the frame's window where there is no row. None
    where the window may not be quoted. Figures have four significant digits. A figure without
    samples is left out.
    """
    window, status = frame.window, frame.status
    facts, knobs = status.facts, status.knobs
    if facts is None or knobs is None or not window.phase.quotable:
        return None
    goals = frame.profile.judged
    spans = _spans(frame)
    if spans and holds(recorder, spans[0][0]):
        window = replace(window, phase=frame.trials[-1].phase)
    else:
        spans = ((window.start_s, window.end_s),)
    frame = replace(_of(frame, recorder, spans), window=window)
    series = series_of(recorder, spans, goals, every=True)
    load = frame.profile.load
    return Measured(
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        window=MeasuredWindow(
            phase=frame.window.phase.value,
            length_s=_rounded(length_of(spans)),
            requests=series.n,
            saturated=frame.figures.saturated,
            preemptions=frame.figures.preemptions,
        ),
        figures=_figures(series) | _shares(frame),
        knobs=_limits(knobs),
        ceilings={k: v for k, v in _limits(facts.ceilings).items() if _BOOTS[k]},
        load=f"{describe_all_arrivals(load)} · {describe(load)}",
        seed=load.seed,
        model=Model(frame.profile.engine.model, facts.revision, facts.config_sha256),
        machine=_machine(frame, facts),
        goals={each.goal.name: _attained(each) for each in frame.goodput.each if each.n},
        traffic={each.name: _of_traffic(each) for each in frame.traffic},
        resolved={
            row.name: Got(row.got, row.asked or "", row.why)
            for row in facts.resolved
            if row.asked != row.got
        },
    )


def compared(
    tuned: Measured,
    verified: Measured,
    changes: Sequence[str] = (),
    quality: Quality | None = None,
) -> Evidence:
    """The evidence of a setting that was booted with exactly its values and measured again.

    changes: what of it may change answers. quality: whether it answers as before. With changes and
    without a word on quality it is not called verified.

    The interval of each change follows from the intervals of its two figures. It is wider by the
    larger drift of the two windows, because a boot lies between them. Each interval holds by itself
    with 95 %.
    """
    differences = _changes(tuned, verified)
    if changes and quality is None:
        note = f"not called verified: {', '.join(changes)} may change answers"
        return Evidence(TUNED, note, tuned, verified, differences)
    return Evidence(VERIFIED, "", tuned, verified, differences, quality=quality)


def as_served(evidence: Evidence, served: Measured) -> Evidence:
    """`evidence` with what vLLM's own server gave with the same values and load.

    The difference is against the engine in process, with intervals as in `compared`.
    """
    before = evidence.in_process
    changes = _changes(before, served) if before is not None else {}
    return Evidence(
        evidence.state,
        evidence.note,
        evidence.tuned,
        evidence.verified,
        evidence.difference,
        served,
        changes,
        evidence.quality,
    )


# -- inside ------------------------------------------------------------------------------------


def _spans(frame: Frame) -> Spans:
    """When the present setting was measured, from its row of the history; empty without a row."""
    row = frame.trials[-1] if frame.trials else None
    if row is None or (row.knobs, row.load) != (frame.asked, frame.profile.load):
        return ()
    return row.spans


def _of(frame: Frame, recorder: Recorder, spans: Spans) -> Frame:
    """The frame with its figures over `spans`."""
    run, start_s, end_s = view(recorder, spans)
    pooled = figures(run, start_s, end_s)
    return replace(
        frame,
        figures=pooled,
        goodput=goodput_of(recorder, spans, frame.profile.judged),
        traffic=traffic(run, frame.profile.judged, start_s, end_s, frame.profile.load.class_names),
        cost_per_mtok=cost_per_mtok(frame.profile.price_per_hour, pooled.generated_per_s),
    )


def _of_traffic(each: Traffic) -> dict[str, Figure]:
    """The figures of one class, without those that it has no samples of."""
    values = {
        "ttft_p50_s": each.ttft.p50, "ttft_p90_s": each.ttft.p90, "ttft_p99_s": each.ttft.p99,
        "tpot_p50_s": each.tpot.p50, "tpot_p99_s": each.tpot.p99,
        "e2e_p50_s": each.e2e.p50, "e2e_p99_s": each.e2e.p99,
        "offered_per_s": each.offered_per_s, "served_per_s": each.served_per_s,
        "goodput_per_s": each.goodput_per_s, "kept_frac": each.kept_frac,
    }  # fmt: skip
    return {
        name: Figure(_rounded(value), n=each.n)
        for name, value in values.items()
        if math.isfinite(value)
    }


_BOOTS = {knob.name: knob.boots for knob in KNOBS}


def _changes(before: Measured, after: Measured) -> dict[str, Change]:
    changes = {}
    for metric in (*METRICS, *MORE):
        old, new = before.figures.get(metric.name), after.figures.get(metric.name)
        if old is not None and new is not None and old.value > 0:
            changes[metric.name] = _change(old, new, metric.less_is_better)
    return changes


def _figures(series: Series) -> dict[str, Figure]:
    figures = {}
    for metric in (*METRICS, *MORE):
        if batched := series.values.get(metric.key):
            low, high = batched.interval()
            figures[metric.name] = Figure(
                _rounded(batched.value),
                _or_none(low),
                _or_none(high),
                batched.n,
                _or_none(batched.drift),
            )
    return figures


def _shares(frame: Frame) -> dict[str, Figure]:
    """The figures without an interval: shares of limits, offered requests, energy and cost."""
    over_window = frame.figures
    values = {
        "offered_per_s": over_window.offered_per_s,
        "sequences_frac": over_window.sequences_frac,
        "batched_tokens_frac": over_window.tokens_frac,
        "kv_frac": over_window.kv_frac,
        "prefix_hit_frac": over_window.cached_frac,
        "draft_accepted_frac": over_window.acceptance.frac,
        "draft_accepted_length": over_window.acceptance.length,
        "tokens_per_joule": frame.tokens_per_joule,
        "cost_per_million_tokens": frame.cost_per_mtok,
    }
    return {name: Figure(_rounded(v)) for name, v in values.items() if math.isfinite(v)}


def _limits(knobs: Knobs) -> dict[str, int | bool | str]:
    values = knobs.as_dict().items()
    return {name: written(name, value) for name, value in values if value < UNTOLD}


def _machine(frame: Frame, facts: EngineFacts) -> Machine:
    hardware = frame.hardware
    return Machine(
        device=f"{facts.device} ({facts.notice})" if facts.notice else facts.device,
        simulated=facts.simulated,
        gpus=[gpu.name for gpu in hardware.gpus if gpu.visible] if hardware else [],
        driver=(hardware.driver or "") if hardware else "",
        versions={
            "tputtui": __version__,
            **facts.versions,
            "python": platform.python_version(),
        },
    )


def _attained(each: Attainment) -> Attained:
    return Attained(
        verdict=each.verdict.value,
        met_frac=_rounded(each.frac),
        low=_rounded(each.low),
        high=_rounded(each.high),
        n=each.n,
    )


def _change(old: Figure, new: Figure, less_is_better: bool) -> Change:
    change = _rounded(new.value / old.value - 1)
    bounds = [_log(bound) for bound in (old.low, old.high, new.low, new.high)]
    if new.value <= 0 or not all(map(math.isfinite, bounds)):
        return Change(change, Verdict.OPEN.value)
    x, y = math.log(old.value), math.log(new.value)
    nearest, furthest = ratio_interval(x, (bounds[0], bounds[1]), y, (bounds[2], bounds[3]))
    drift = max(old.drift_frac or 0.0, new.drift_frac or 0.0)
    low, high = math.expm1(nearest - drift), math.expm1(furthest + drift)
    verdict = judgement(low, high, less_is_better)
    return Change(change, verdict.value, _rounded(low), _rounded(high))


def _log(bound: float | None) -> float:
    return math.log(bound) if bound is not None and bound > 0 else math.nan


def _or_none(value: float) -> float | None:
    """A bound, rounded; None where it is 0, below 0, infinite or NaN, and so bounds nothing."""
    return _rounded(value) if math.isfinite(value) and value > 0 else None


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
