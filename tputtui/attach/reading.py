"""One scrape: from the text of /metrics to figures by our own names. Pure.

Only the lines that are known are parsed (prometheus_client's parser); the rest may be megabytes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import combinations, pairwise

from prometheus_client.parser import text_string_to_metric_families

from tputtui.attach.dialects import DIALECTS, Dialect

__all__ = ["EngineReading", "Histogram", "Reading", "Unreadable", "read_metrics"]

SAME_START_S = 0.5
"""Two starts that are further apart are of two runs."""

_Labels = frozenset[tuple[str, str]]

_MOST_SERIES = 20_000
_MOST_PARTED = 5
_SUMS = ("", "total", "all")
"""Values of a label that tell no part apart: beside parts it is their sum."""
_STARTED = "process_start_time_seconds"
_CACHE = "vllm:cache_config_info"
_AWAKE = "vllm:engine_sleep_state"


class Unreadable(ValueError):
    """What was served are no figures that we know; the message says what is there instead."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """Buckets as told: `counts[i]` samples are at most `bounds[i]`, the last of which is infinite.

    total: the sum of all samples, in the histogram's unit; NaN where it is not told.
    """

    bounds: tuple[float, ...]
    counts: tuple[float, ...]
    total: float

    @property
    def n(self) -> float:
        """How many samples."""
        return self.counts[-1] if self.counts else 0.0


@dataclass(frozen=True, slots=True)
class EngineReading:
    """One engine's figures by our own names; what it does not tell is not there."""

    gauges: Mapping[str, float]
    counters: Mapping[str, float]
    histograms: Mapping[str, Histogram]


@dataclass(frozen=True, slots=True)
class Reading:
    """What one scrape told.

    engines: by their label ("0", "1", …; "" where it tells none apart). model: as it is served;
    several are joined. started: which run of the server this is: when its process started, or when
    its first counter was made, seconds since 1970; NaN where it tells neither.
    info: the KV cache as it was configured. asleep: whether an engine was put to sleep.
    nonsense: names that held a value which cannot be.
    """

    dialect: Dialect
    model: str
    engines: Mapping[str, EngineReading]
    started: float = math.nan
    info: Mapping[str, str] = field(default_factory=dict)
    asleep: bool = False
    nonsense: tuple[str, ...] = ()

    def configured(self, name: str) -> int | None:
        """A whole number of `info`; None where it is not told."""
        text = self.info.get(name, "")
        return int(text) if text.isdecimal() else None


def read_metrics(body: bytes) -> Reading:
    """The figures in the text of /metrics. Raises Unreadable."""
    dialect, prefix = _dialect_of(body)
    kept = [line for line in _wanted_lines(dialect, prefix).findall(body) if line]
    if len(kept) > _MOST_SERIES:
        raise Unreadable(
            f"it tells {len(kept):,} series of {dialect.name}'s, over {_MOST_SERIES:,}"
        )
    text = b"\n".join(kept).decode("utf-8", "replace") + "\n"
    try:
        samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
    except (ValueError, LookupError) as error:
        raise Unreadable(f"its figures do not parse: {error}") from None
    canonical = dialect.prefixes[0]
    named = (
        (canonical + s.name.removeprefix(prefix) if s.name.startswith(prefix) else s.name, s)
        for s in samples
    )
    return _Collector(dialect).collected((name, s.labels, s.value) for name, s in named)


def _dialect_of(body: bytes) -> tuple[Dialect, str]:
    """Whose figures these are, and what their names begin with here."""
    for dialect in DIALECTS:
        for prefix in dialect.prefixes:
            if re.search(rb"^" + prefix.encode(), body, re.M):
                return dialect, prefix
    start = body.lstrip()[:256]
    if not start:
        raise Unreadable("its /metrics is empty")
    if start.startswith((b"<", b"{")):
        kind = "a web page" if start.startswith(b"<") else "JSON"
        raise Unreadable(f"its /metrics is {kind}, no figures")
    raise Unreadable("its /metrics has no figures of vLLM, SGLang or TGI")


@lru_cache
def _places(dialect: Dialect) -> Mapping[str, tuple[str, str, int]]:
    """Their name of a series to what it is of, our word for that, and its rank among the names."""
    found = {}
    for kind, names in (
        ("gauges", dialect.gauges),
        ("counters", dialect.counters),
        ("bucket", dialect.histograms),
        ("sum", dialect.histograms),
    ):
        ending = f"_{kind}" if names is dialect.histograms else ""
        for key, theirs in names.items():
            for rank, name in enumerate(theirs):
                found[name + ending] = (kind, key, rank)
    return found


@lru_cache
def _wanted_lines(dialect: Dialect, prefix: str) -> re.Pattern[bytes]:
    names = [*_places(dialect), _STARTED, _CACHE, _AWAKE]
    # When one counter was made tells which run this is, where the process does not.
    names += [name.removesuffix("_total") + "_created" for name in dialect.counters["generated"]]
    own = dialect.prefixes[0]
    there = [prefix + name.removeprefix(own) if name.startswith(own) else name for name in names]
    pattern = "|".join(re.escape(name) for name in there)
    return re.compile(rf"^(?:{pattern})[{{ \t][^\n]*".encode(), re.M)


def _parts(series: Mapping[_Labels, float]) -> Iterator[_Labels]:
    """The series that add up: without those that a sum of them is told beside."""
    everywhere = [{key for key, _ in labels} for labels in series]
    common = set.intersection(*everywhere) if everywhere else set()
    for labels in series:
        # What tells it apart, but is not told of every series.
        own = [item for item in labels if item[0] not in common][:_MOST_PARTED]
        fewer = (
            labels.difference(left_out)
            for size in range(1, len(own) + 1)
            for left_out in combinations(own, size)
        )
        if not any(sum_ in series for sum_ in fewer):
            yield labels


class _Collector:
    """Puts samples in their places."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._places = _places(dialect)
        self._models: dict[str, None] = {}
        self._info: dict[str, str] = {}
        self._nonsense: dict[str, None] = {}
        self._started = self._created = math.nan
        self._asleep = False
        # Their name, then the engine, to the labels it is told with and its values.
        self._told: dict[str, dict[str, dict[_Labels, float]]] = {}
        # (engine, kind, key) to the rank of the name, then what it holds.
        self._values: dict[tuple[str, str, str], tuple[int, float]] = {}
        self._buckets: dict[tuple[str, str], tuple[int, dict[float, float]]] = {}

    def collected(self, samples: Iterable[tuple[str, Mapping[str, str], float]]) -> Reading:
        for name, labels, value in samples:
            self._take(name, labels, value)
        for name, told_of in self._told.items():
            for engine, series in told_of.items():
                # Told of single engines and of none in particular: that is all of them together.
                if engine or len(told_of) == 1:
                    for told in _parts(series):
                        self._figure(name, engine, dict(told), series[told])
        engines = {engine for engine, *_ in self._values} | {engine for engine, _ in self._buckets}
        return Reading(
            self._dialect,
            ", ".join(self._models),
            {engine: self._engine(engine) for engine in sorted(engines, key=_order)},
            self._started if not math.isnan(self._started) else self._created,
            self._info,
            self._asleep,
            tuple(self._nonsense),
        )

    def _take(self, name: str, labels: Mapping[str, str], value: float) -> None:
        if name == _STARTED:
            self._started = value
        elif name == _CACHE:
            self._info = dict(labels)
        elif name == _AWAKE:
            self._asleep = self._asleep or (labels.get("sleep_state") != "awake" and value > 0)
        elif name.endswith("_created"):
            self._created = min(value, self._created) if self._created == self._created else value
        elif any(labels.get(part, "0") not in ("", "0") for part in self._dialect.rank):
            return
        else:
            groups = (next((labels[e] for e in g if e in labels), "") for g in self._dialect.engine)
            engine = "/".join(filter(None, groups))
            apart = {label for group in self._dialect.engine for label in group}
            told = frozenset((k, v) for k, v in labels.items() if v not in _SUMS and k not in apart)
            series = self._told.setdefault(name, {}).setdefault(engine, {})
            # Twice the same, as with a label that is empty and without it, are not two parts.
            series[told] = max(series.get(told, value), value)

    def _figure(self, name: str, engine: str, labels: Mapping[str, str], value: float) -> None:
        kind, key, rank = self._places.get(name, ("", "", 0))
        if not kind:
            return
        if not (0 <= value < math.inf) or (key == "kv_frac" and value > 1.000001):
            self._nonsense[name] = None
            return
        if model := labels.get("model_name"):
            self._models[model] = None
        if kind == "bucket":
            self._bucket(engine, key, rank, labels.get("le", ""), value)
            return
        place = (engine, kind, key)
        held = self._values.get(place)
        if held is None or rank < held[0]:
            self._values[place] = (rank, value)
        elif rank == held[0]:
            # A share of one cache does not add up over the models that use it.
            both = max(held[1], value) if key == "kv_frac" else held[1] + value
            self._values[place] = (rank, both)

    def _bucket(self, engine: str, key: str, rank: int, le: str, value: float) -> None:
        try:
            bound = float(le)
        except ValueError:
            self._nonsense[f"{key} le={le!r}"] = None
            return
        held = self._buckets.get((engine, key))
        if held is None or rank < held[0]:
            held = self._buckets[engine, key] = (rank, {})
        if rank == held[0]:
            held[1][bound] = held[1].get(bound, 0.0) + value

    def _engine(self, engine: str) -> EngineReading:
        values = {
            kind: {k: v for (e, of, k), (_, v) in self._values.items() if (e, of) == (engine, kind)}
            for kind in ("gauges", "counters", "sum")
        }
        histograms = {}
        for (of, key), (_, buckets) in self._buckets.items():
            if of != engine:
                continue
            bounds = tuple(sorted(buckets))
            counts = tuple(buckets[bound] for bound in bounds)
            rising = all(low <= high for low, high in pairwise(counts))
            if bounds[-1] != math.inf or not rising:
                self._nonsense[f"{key} buckets"] = None
                continue
            histograms[key] = Histogram(bounds, counts, values["sum"].get(key, math.nan))
        return EngineReading(values["gauges"], values["counters"], histograms)


def _order(engine: str) -> tuple[int, str]:
    return (int(engine), "") if engine.isdecimal() else (-1, engine)
