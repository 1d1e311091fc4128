"""The contents of a report on a recorded run, gathered once for all its forms. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
import numpy as np

from tputtui.engine.resolved import in_runs
from tputtui.frame import CompareState, Frame, Tried
from tputtui.frame.proof import measured
from tputtui.goals import Goal
from tputtui.knobs import kept_limits, shorthand
from tputtui.load.notation import describe_all_arrivals
from tputtui.load.requests.spoken import spoken
from tputtui.load.sections import describe
from tputtui.measure.samples import STEP, Mark
from tputtui.measure.series import METRICS, MORE, Metric
from tputtui.measure.stats import Floats
from tputtui.measure.tiers import beyond_the_gpu, tier_text
from tputtui.measure.verdict import Difference, Verdict
from tputtui.profile import Profile, dump
from tputtui.profile.evidence import TUNED, Evidence
from tputtui.record.reading import Recording
from tputtui.record.replay import Replay
from tputtui.report.search import search_sentences, searches
from tputtui.text.format import clock, compact, counted, percent, rate, seconds

__all__ = [
    "ChartLine",
    "Content",
    "Row",
    "gather",
    "interval_text",
    "last_frame",
    "value_text",
    "verdict_text",
]  # fmt: skip

_COLUMNS = ("tokens_per_s", "goodput_per_s", "ttft_p50", "ttft_p90", "tpot_p50", "tpot_p90",
            "e2e_p50", "e2e_p90")  # fmt: skip
_BY_KEY = {metric.key: metric for metric in (*METRICS, *MORE)}
_POINTS = 600
"""Most points that a curve is drawn with."""


@dataclass(frozen=True, slots=True)
class Row:
    """One setting tried, as text: its change, limits, load, figures, and how it compares."""

    number: int
    at: str
    """Time since the run began."""
    change: str
    """What was changed to get this setting."""
    setting: str
    """The limits in short form."""
    load: str
    engine: int
    """Which of the run's engines served it, from 1."""
    window: str
    """Length and phase of the window."""
    n: int
    """Requests in the window."""
    cells: dict[str, tuple[str, str]]
    """(value, interval) by key of a column; the interval is empty where it is not known."""
    against: int | None
    """Number of the setting it is compared with; None for none."""
    verdicts: tuple[tuple[str, str, str], ...]
    """(metric, change with its interval, verdict)"""
    note: str


@dataclass(frozen=True, slots=True)
class ChartLine:
    """A quantity over time: seconds since the run began, and values; both of shape (m,).

    unit: of the values. group: curves of one group share a chart.
    """

    group: str
    label: str
    unit: str
    times_s: Floats
    values: Floats


@dataclass(frozen=True, slots=True)
class Content:
    """A whole report."""

    title: str
    facts: tuple[tuple[str, str], ...]
    """(name, value) of what ran, one a line."""
    columns: tuple[tuple[str, str], ...]
    """(key, label) of the columns of figures."""
    rows: tuple[Row, ...]
    experiments: tuple[str, ...]
    """A sentence on each A/B and verify boot, and some on each search of the tuner."""
    curves: tuple[ChartLine, ...]
    marks: tuple[Mark, ...]
    origin_s: float
    """When the run began, on the engine's clock."""
    frame: Frame
    """The last frame of the run."""
    profile: str
    """The last setting as a profile, YAML."""


def last_frame(recording: Recording) -> Frame:
    """The last frame of the run, which has every setting tried."""
    replay = Replay(recording, lambda: 0.0)
    replay.seek(replay.length_s)
    return replay.advance()


def gather(recording: Recording) -> Content:
    """Everything a report says of the run."""
    frame = last_frame(recording)
    goals = bool(frame.profile.judged)
    columns = tuple(
        (key, _BY_KEY[key].label) for key in _COLUMNS if goals or key != "goodput_per_s"
    )
    engines: list[object] = []
    rows = []
    for trial in frame.trials:
        if trial.engine not in engines:
            engines.append(trial.engine)
        engine = engines.index(trial.engine) + 1
        rows.append(_row(trial, recording.origin_s, engine, columns))
    return Content(
        title=f"{frame.profile.engine.model}: {counted(len(rows), 'setting')} tried",
        facts=_facts(recording, frame),
        columns=columns,
        rows=tuple(rows),
        experiments=(
            *_experiments(recording),
            *(search_sentences(state) for state in searches(recording)),
        ),
        curves=tuple(_curves(recording)),
        marks=frame.marks,
        origin_s=recording.origin_s,
        frame=frame,
        profile=dump(_profile(recording, frame)),
    )


def value_text(metric: Metric, value: float) -> str:
    """A figure in few characters, with its unit where it is a time."""
    if metric.unit == "s":
        return seconds(value, 0)
    return rate(value, 0) if abs(value) < 1000 else compact(value, 0)


def interval_text(row: Difference) -> str:
    """A change with its interval; … where an end is not known."""
    if math.isnan(row.change):
        return "–"
    if math.isnan(row.low) or (math.isinf(row.high) and row.low <= -1):
        return _change(row.change)
    return f"{_change(row.change)} [{_change(row.low)}, {_change(row.high)}]"


def verdict_text(row: Difference) -> str:
    """The verdict on a change between two windows that are over."""
    return "undecided" if row.judgement is Verdict.OPEN else row.judgement.value


def _change(value: float) -> str:
    if math.isinf(value):
        return "…"
    return f"{value:+.1%}" if value < 9.995 else f"×{1 + value:,.0f}"


# -- inside ------------------------------------------------------------------------------------


def _facts(recording: Recording, frame: Frame) -> tuple[tuple[str, str], ...]:
    facts, status = frame.status.facts, frame.status
    # A leg's load has a seed of its own; the last setting has the seed that the person set.
    load = frame.trials[-1].load if frame.trials else frame.profile.load
    account = frame.accounting
    versions = facts.versions if facts else {}
    hardware = frame.hardware
    gpus = ", ".join(gpu.name for gpu in hardware.gpus if gpu.visible) if hardware else ""
    ended = recording.ended or ("still going on" if recording.growing else "cut off")
    if status.failure is not None:
        ended = f"the engine failed: {status.failure.message}"
    lines = [
        ("model", frame.profile.engine.model),
        ("engine", f"vLLM {versions.get('vllm', '?')}, torch {versions.get('torch', '?')}"),
        *([("simulated", facts.simulated)] if facts and facts.simulated else []),
        *([("lengths", facts.notice)] if facts and facts.notice else []),
        ("device", f"{gpus or (facts.device if facts else '?')}"
         + (f", driver {hardware.driver}" if hardware and hardware.driver else "")),
        ("load", f"{describe_all_arrivals(load)} · {describe(load)} (seed {load.seed})"),
        *_resolved(frame),
        *_graphs(frame),
        *([("hits by tier", tier_text(frame.tiers))] if beyond_the_gpu(frame.tiers) else []),
        ("goals", ", ".join(_goal(goal) for goal in frame.profile.judged) or "none"),
        ("began", recording.began.replace("T", " ").replace("+00:00", " UTC")),
        ("took", f"{clock(recording.length_s)}; {ended}"),
        ("requests", f"{account.issued:,} issued, {account.finished:,} finished, "
         f"{account.cut + account.rejected + account.failed:,} cut or failed"
         + (f", {account.cancelled:,} cancelled" if account.cancelled else "")),
        *_traffic(frame),
        *_jobs(frame),
        *_real(frame),
        ("recorded", f"tputtui {recording.version}, {recording.path.name}"
         + (", thinned" if recording.thinned else "")
         + (f", {recording.damaged} places damaged" if recording.damaged else "")),
    ]  # fmt: skip
    return tuple(lines)


def _resolved(frame: Frame) -> list[tuple[str, str]]:
    """What the last boot came to: where it was otherwise than asked, and what was left to vLLM."""
    rows = frame.status.facts.resolved if frame.status.facts else ()
    otherwise = [
        f"{row.short} asked {row.asked}, got {row.got}" + (f" ({row.why})" if row.why else "")
        for row in rows
        if row.asked and row.asked != row.got
    ]
    left = [
        f"{row.short} {row.got}" + (f" ({row.why})" if row.why and row.warns else "")
        for row in rows
        if not row.asked
    ]
    told = any(row.asked is not None for row in rows)
    lines = [
        ("asked, and got", "; ".join(otherwise)),
        ("left to vLLM" if told else "it runs with", ", ".join(left)),
    ]
    return [(name, text) for name, text in lines if text]


def _graphs(frame: Frame) -> list[tuple[str, str]]:
    """CUDA graphs, and how much of the last window's decode steps was padding."""
    facts, padded = frame.status.facts, frame.padding
    if facts is None or not facts.graph_mode:
        return []
    text = f"{facts.graph_mode}, sizes {in_runs(facts.capture_sizes)}"
    if padded is not None and math.isfinite(padded.frac):
        text += f"; {percent(padded.frac, 0)} of decode slots are padding"
        if padded.capture:
            text += f": capture {' and '.join(map(str, padded.capture))}"
    return [("CUDA graphs", text)]


def _traffic(frame: Frame) -> Iterator[tuple[str, str]]:
    """A line for each class of traffic, or adapter, over the last window."""
    for each in frame.traffic:
        yield (
            each.name,
            f"{each.n:,} requests, {rate(each.served_per_s, 0)} of "
            f"{rate(each.offered_per_s, 0)} /s served, TTFT p50 {seconds(each.ttft.p50, 0)}, "
            f"TPOT p50 {seconds(each.tpot.p50, 0)}, E2E p50 {seconds(each.e2e.p50, 0)}, "
            f"goodput {rate(each.goodput_per_s, 0)}/s, {percent(each.kept_frac, 0)} kept its goals",
        )


def _jobs(frame: Frame) -> Iterator[tuple[str, str]]:
    """What whole jobs took over the last window; nothing without jobs."""
    if (jobs := frame.latencies.job).n:
        p50, p90 = seconds(jobs.p50, 0), seconds(jobs.p90, 0)
        yield "jobs", f"{jobs.n:,} of several steps, p50 {p50}, p90 {p90}"


def _real(frame: Frame) -> list[tuple[str, str]]:
    """What became of a file of real requests; nothing for a synthetic load."""
    facts = frame.status.facts
    if frame.requests is None:
        return []
    return spoken(frame.requests, frame.stops, tokenizes=facts is None or facts.tokenizes)


def _goal(goal: Goal) -> str:
    return f"{goal.name} ≤ {seconds(goal.limit_s, 0)}"


def _row(trial: Tried, origin_s: float, engine: int, columns: tuple[tuple[str, str], ...]) -> Row:
    cells = {}
    for key, _ in columns:
        batched = trial.series.values.get(key) if trial.series else None
        if batched is None:
            cells[key] = ("–", "")
            continue
        metric = _BY_KEY[key]
        low, high = batched.interval()
        known = math.isfinite(low) and math.isfinite(high) and low > 0
        interval = f"{value_text(metric, low)} … {value_text(metric, high)}" if known else ""
        cells[key] = (value_text(metric, batched.value), interval)
    return Row(
        number=trial.number,
        at=clock(trial.t_s - origin_s),
        change=trial.changed,
        setting=shorthand(kept_limits(trial.knobs, trial.booted)),
        load=describe_all_arrivals(trial.load),
        engine=engine,
        window=f"{trial.series.length_s:.0f} s, {trial.phase.value}"
        if trial.series
        else "not measured",
        n=trial.series.n if trial.series else 0,
        cells=cells,
        against=trial.against,
        verdicts=tuple(
            (row.metric.label, interval_text(row), verdict_text(row))
            for i, row in enumerate(trial.differences)
            # The headline always; the others only where they are decided.
            if i == 0 or row.judgement is not Verdict.OPEN
        ),
        note="; ".join(filter(None, (trial.note, trial.course(origin_s)))),
    )


def _experiments(recording: Recording) -> Iterator[str]:
    """The outcome of each A/B and verify boot of the run, including one that was stopped."""
    under_way = None
    for moment in recording.moments:
        compare = moment.kept["compare"]
        if compare is not None and not compare.done:
            under_way = compare
        elif under_way is not None:
            yield _experiment(under_way if compare is None else compare)
            under_way = None
    if under_way is not None:
        yield _experiment(under_way)


def _experiment(compare: CompareState) -> str:
    """The outcome of one experiment in words."""
    clear = [
        f"{row.metric.label} {interval_text(row)} {row.judgement.value}"
        for row in compare.differences
        if row.judgement is not Verdict.OPEN
    ]
    named = f", {compare.named}" if compare.named else ""
    note = compare.note if compare.done else f"stopped early at {compare.note}"
    return f"{compare.title}{named}: {note}" + (f" ({'; '.join(clear)})" if clear else "")


def _profile(recording: Recording, frame: Frame) -> Profile:
    """The last setting as a profile, with its figures as evidence."""
    facts, knobs = frame.status.facts, frame.asked
    figures = measured(frame, recording.recorder)
    return msgspec.structs.replace(
        frame.profile,
        knobs=kept_limits(knobs, facts.booted) if knobs and facts else frame.profile.knobs,
        evidence=Evidence(TUNED, tuned=figures) if figures else None,
    )


def _curves(recording: Recording) -> list[ChartLine]:
    """The curves over time; in a long run, means over equal stretches of more than a second."""
    length_s, origin_s = recording.length_s, recording.origin_s
    stretch_s = max(1.0, math.ceil(length_s / _POINTS))
    edges: Floats = np.arange(0.0, length_s + stretch_s, stretch_s, dtype=np.float64)
    recorder = recording.recorder
    steps = recorder.steps.between(-math.inf)
    at = steps[:, 0] - origin_s
    curves = []

    middles: Floats = edges[:-1] + stretch_s / 2

    def add(group: str, label: str, unit: str, values: Floats) -> None:
        if np.isfinite(values).any():
            curves.append(ChartLine(group, label, unit, middles, values))

    counts = np.histogram(at, edges)[0]

    def mean(column: str) -> Floats:
        sums = np.histogram(at, edges, weights=steps[:, STEP[column]])[0]
        means: Floats = np.full(len(counts), np.nan)
        np.divide(sums, counts, out=means, where=counts > 0)
        return means

    for label, column in (("generated", "generated_tokens"), ("prompt", "prefill_tokens")):
        sums = np.histogram(at, edges, weights=steps[:, STEP[column]])[0]
        add("throughput", label, "tok/s", sums / stretch_s)
    add("batch", "running", "requests", mean("running"))
    add("batch", "waiting", "requests", mean("waiting"))
    add("batch", "max_num_seqs", "requests", mean("max_num_seqs"))
    add("KV cache", "used", "%", mean("kv_frac") * 100)
    first = recorder.first_tokens.between(-math.inf)
    ended = recorder.ended.between(-math.inf)
    for group, times, values in (
        ("TTFT", first[:, 0], first[:, 1]),
        ("TPOT", ended[:, 0], ended[:, 2]),
    ):
        unit, scale = ("ms", 1e3) if group == "TPOT" else ("s", 1.0)
        for share in (50, 90):
            quantiles = _quantiles(times - origin_s, values * scale, edges, share)
            add(group, f"{group} p{share}", unit, quantiles)
    for label, unit, pick in (
        ("GPU", "%", lambda gpu: None if gpu.util_frac is None else gpu.util_frac * 100),
        ("power", "W", lambda gpu: gpu.power_w),
    ):
        times, values = _hardware(recording, pick)
        if len(times):
            curves.append(ChartLine(label, label, unit, times, values))
    return curves


def _quantiles(times: Floats, values: Floats, edges: Floats, share: int) -> Floats:
    kept = ~np.isnan(values)
    place = np.digitize(times[kept], edges) - 1
    quantiles = np.full(len(edges) - 1, np.nan)
    order = np.argsort(place, kind="stable")
    places, ordered = place[order], values[kept][order]
    if not len(places):
        return quantiles
    starts = np.flatnonzero(np.diff(places, prepend=places[0] - 1))
    for begin, end in zip(starts, [*starts[1:], len(places)], strict=True):
        if 0 <= places[begin] < len(quantiles):
            quantiles[places[begin]] = np.percentile(ordered[begin:end], share)
    return quantiles


def _hardware(recording: Recording, pick: object) -> tuple[Floats, Floats]:
    """Times, and the mean of `pick` over the GPUs that the run could see; both of shape (m,)."""
    assert callable(pick)
    times, values = [], []
    for moment in recording.moments:
        hardware = moment.kept["hardware"]
        gpus = hardware.gpus if hardware else ()
        known = [v for v in (pick(gpu) for gpu in gpus if gpu.visible) if v is not None]
        if known:
            times.append(moment.t_s - recording.origin_s)
            values.append(sum(known) / len(known))
    return np.array(times), np.array(values)
