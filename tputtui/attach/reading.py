"""One scrape: turns the text of /metrics into figures under our own names. Pure.

Only lines with a known name are parsed (by prometheus_client); the others may be megabytes.
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

__all__ = ["Adapters", "EngineReading", "MetricHistogram", "Reading", "Unreadable", "read_metrics"]

SAME_START_S = 0.5
"""Start times further apart than this, in s, belong to two runs."""

_Labels = frozenset[tuple[str, str]]

_MOST_SERIES = 20_000
_MOST_PARTED = 5
_SUMS = ("", "total", "all")
"""Label values that name no part; a series with one of them is the sum of the parts."""
_STARTED = "process_start_time_seconds"
_CACHE = "vllm:cache_config_info"
_LORA = "vllm:lora_requests_info"
_RESOLVED = {
    "block_size": "block_size",
    "kv_cache_dtype": "cache_dtype",
    "enable_prefix_caching": "enable_prefix_caching",
    "kv_offloading_size": "kv_offloading_size",
}
"""By argument of vLLM: its label of `_CACHE`."""
_AWAKE = "vllm:engine_sleep_state"


class Unreadable(ValueError):
    """The answer holds no known figures; the message names what it holds instead."""


@dataclass(frozen=True, slots=True)
class MetricHistogram:
    """Buckets as published: `counts[i]` samples are at most `bounds[i]`; the last is infinite.

    total: the sum of all samples, in the histogram's unit; NaN if not published.
    """

    bounds: tuple[float, ...]
    counts: tuple[float, ...]
    total: float

    @property
    def n(self) -> float:
        """The number of samples."""
        return self.counts[-1] if self.counts else 0.0


@dataclass(frozen=True, slots=True)
class EngineReading:
    """One engine's figures under our own names; a figure that it does not publish is absent."""

    gauges: Mapping[str, float]
    counters: Mapping[str, float]
    histograms: Mapping[str, MetricHistogram]


@dataclass(frozen=True, slots=True)
class Adapters:
    """LoRA adapters of a server, by name."""

    most: int
    """How many a batch may have."""
    running: tuple[str, ...]
    waiting: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """The figures of one scrape."""

    dialect: Dialect
    model: str
    """The name under which the model is served; several are joined by commas."""
    engines: Mapping[str, EngineReading]
    """By the label of the engine: "0", "1", …; "" if the server does not label its engines."""
    started: float = math.nan
    """Identifies the run of the server: the start of its process or the creation of its first
    counter, in s since 1970; NaN if it publishes neither."""
    info: Mapping[str, str] = field(default_factory=dict)
    """The configuration of the KV cache; empty if not published."""
    adapters: Adapters | None = None
    """The LoRA adapters; None where it tells none."""
    asleep: bool = False
    """Whether an engine was put to sleep."""
    nonsense: tuple[str, ...] = ()
    """Names of figures that held an impossible value."""

    def configured(self, name: str) -> int | None:
        """A whole number of `info`; None if not published."""
        text = self.info.get(name, "")
        return int(text) if text.isdecimal() else None

    @property
    def resolved(self) -> dict[str, str]:
        """What the server's arguments came to, as far as `info` says, by the argument's name."""
        named = {name: self.info.get(key, "None") for name, key in _RESOLVED.items()}
        words = {"True": "on", "False": "off"}
        return {name: words.get(text, text) for name, text in named.items() if text != "None"}


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
    """The kind of server, and the prefix that its names have in `body`. Raises Unreadable."""
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
    """The server's name of a series to (kind, our name, rank of the name among its synonyms)."""
    places = {}
    for kind, names in (
        ("gauges", dialect.gauges),
        ("counters", dialect.counters),
        ("bucket", dialect.histograms),
        ("sum", dialect.histograms),
    ):
        ending = f"_{kind}" if names is dialect.histograms else ""
        for key, theirs in names.items():
            for rank, name in enumerate(theirs):
                places[name + ending] = (kind, key, rank)
    return places


@lru_cache
def _wanted_lines(dialect: Dialect, prefix: str) -> re.Pattern[bytes]:
    names = [*_places(dialect), _STARTED, _CACHE, _LORA, _AWAKE]
    # Where the process start is not published, the creation of a counter identifies the run.
    names += [name.removesuffix("_total") + "_created" for name in dialect.counters["generated"]]
    own = dialect.prefixes[0]
    present = [prefix + name.removeprefix(own) if name.startswith(own) else name for name in names]
    pattern = "|".join(re.escape(name) for name in present)
    return re.compile(rf"^(?:{pattern})[{{ \t][^\n]*".encode(), re.M)


def _parts(series: Mapping[_Labels, float]) -> Iterator[_Labels]:
    """The series that add up: a series is left out where its sum is published beside it."""
    everywhere = [{key for key, _ in labels} for labels in series]
    common = set.intersection(*everywhere) if everywhere else set()
    for labels in series:
        # The labels that this series has, but not every series.
        own = [item for item in labels if item[0] not in common][:_MOST_PARTED]
        fewer = (
            labels.difference(left_out)
            for size in range(1, len(own) + 1)
            for left_out in combinations(own, size)
        )
        if not any(sum_ in series for sum_ in fewer):
            yield labels


class _Collector:
    """Sorts samples into the figures of each engine."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._places = _places(dialect)
        self._models: dict[str, None] = {}
        self._info: dict[str, str] = {}
        self._nonsense: dict[str, None] = {}
        self._lora: tuple[float, Mapping[str, str]] = (-math.inf, {})
        self._started = self._created = math.nan
        self._asleep = False
        # The server's name, then the engine, to the labels of each series and its value.
        self._series: dict[str, dict[str, dict[_Labels, float]]] = {}
        # (engine, kind, key) to the rank of the name and the value.
        self._values: dict[tuple[str, str, str], tuple[int, float]] = {}
        self._buckets: dict[tuple[str, str], tuple[int, dict[float, float]]] = {}

    def collected(self, samples: Iterable[tuple[str, Mapping[str, str], float]]) -> Reading:
        for name, labels, value in samples:
            self._take(name, labels, value)
        for name, by_engine in self._series.items():
            for engine, series in by_engine.items():
                # Beside series of single engines, a series without an engine is their sum.
                if engine or len(by_engine) == 1:
                    for part in _parts(series):
                        self._figure(name, engine, dict(part), series[part])
        self._give_to_the_first()
        engines = {engine for engine, *_ in self._values} | {engine for engine, _ in self._buckets}
        return Reading(
            self._dialect,
            ", ".join(self._models),
            {engine: self._engine(engine) for engine in sorted(engines, key=_order)},
            self._started if not math.isnan(self._started) else self._created,
            self._info,
            self._adapters(),
            self._asleep,
            tuple(self._nonsense),
        )

    def _give_to_the_first(self) -> None:
        """What is told of a whole server, beside figures of its engines, goes to the first one."""
        named = sorted({engine for engine, *_ in self._values if engine}, key=_order)
        if named:
            for engine, kind, key in [place for place in self._values if not place[0]]:
                value = self._values.pop((engine, kind, key))
                self._values.setdefault((named[0], kind, key), value)

    def _adapters(self) -> Adapters | None:
        labels = self._lora[1]
        if not labels.get("max_lora", "").isdecimal():
            return None
        names = (labels.get(f"{which}_lora_adapters", "") for which in ("running", "waiting"))
        running, waiting = (tuple(filter(None, text.split(","))) for text in names)
        return Adapters(int(labels["max_lora"]), running, waiting)

    def _take(self, name: str, labels: Mapping[str, str], value: float) -> None:
        if name == _STARTED:
            self._started = value
        elif name == _CACHE:
            self._info = dict(labels)
        elif name == _LORA:
            # A series for each mix of adapters so far, whose value is when it was last so.
            self._lora = max(self._lora, (value, dict(labels)), key=lambda told: told[0])
        elif name == _AWAKE:
            self._asleep = self._asleep or (labels.get("sleep_state") != "awake" and value > 0)
        elif name.endswith("_created"):
            self._created = min(value, self._created) if self._created == self._created else value
        elif any(labels.get(rank, "0") not in ("", "0") for rank in self._dialect.rank):
            return
        else:
            groups = (next((labels[e] for e in g if e in labels), "") for g in self._dialect.engine)
            engine = "/".join(filter(None, groups))
            apart = {label for group in self._dialect.engine for label in group}
            part = frozenset((k, v) for k, v in labels.items() if v not in _SUMS and k not in apart)
            series = self._series.setdefault(name, {}).setdefault(engine, {})
            # A label that is empty and one that is missing name the same part, not two.
            series[part] = max(series.get(part, value), value)

    def _figure(self, name: str, engine: str, labels: Mapping[str, str], value: float) -> None:
        kind, key, rank = self._places.get(name, ("", "", 0))
        if not kind:
            return
        if parted := self._dialect.parted.get(key):
            key = f"{key}:{labels.get(parted, '')}"
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
            # Shares of one cache do not add up over the models that use the cache.
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
            histograms[key] = MetricHistogram(bounds, counts, values["sum"].get(key, math.nan))
        return EngineReading(values["gauges"], values["counters"], histograms)


def _order(engine: str) -> tuple[int, str]:
    return (int(engine), "") if engine.isdecimal() else (-1, engine)
