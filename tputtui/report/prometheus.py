"""The figures for Prometheus: ours, exact, beside vLLM's own names. Off unless a port is given.

A scrape only reads the newest frame, and so stalls nothing. With the engine in this process,
vLLM's own metrics are in the default registry and are passed on as they are. Otherwise (the engine
is in another process, or not up yet) our books give the most common of vLLM's names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from tputtui import __version__
from tputtui.errors import UsageError
from tputtui.frame import Frame
from tputtui.knobs import KNOBS, UNTOLD

__all__ = ["Exporter"]

_LATENCIES = ("ttft", "tpot", "itl", "e2e")
_OUTCOMES = ("finished", "cut", "aborted", "rejected", "failed", "cancelled")
_GPU_FIELDS = (
    ("util_frac", "Utilisation, 1 is all of it."),
    ("mem_used_bytes", "Memory in use."),
    ("mem_total_bytes", "Memory there is."),
    ("mem_ours_bytes", "Memory that this process and its children hold."),
    ("mem_others_bytes", "Memory that other processes hold."),
    ("process_count", "Processes on the GPU."),
    ("power_w", "Power, watts."),
    ("power_limit_w", "Power limit in force, watts."),
    ("temp_c", "Temperature, Celsius."),
    ("sm_clock_mhz", "Clock of the SMs, MHz."),
    ("mem_clock_mhz", "Clock of the memory, MHz."),
    ("energy_j", "Energy since the driver was loaded, joules."),
    ("pcie_rx_bytes_per_s", "PCIe into the GPU, bytes a second."),
    ("pcie_tx_bytes_per_s", "PCIe out of the GPU, bytes a second."),
    ("nvlink_rx_bytes_per_s", "NVLink into the GPU, all links, bytes a second."),
    ("nvlink_tx_bytes_per_s", "NVLink out of the GPU, all links, bytes a second."),
    ("ecc_corrected", "Corrected ECC errors since the driver was loaded."),
    ("ecc_uncorrected", "Uncorrected ECC errors since the driver was loaded."),
    ("xid", "The last XID since the start, 0 without one."),
    ("mig", "1 while MIG is on."),
)


class Exporter:
    """Serves /metrics on `host`:`port` from now on; 0 takes a free port.

    theirs: the registry with vLLM's own metrics; None for the default one.
    Raises UsageError when the port cannot be opened.
    """

    def __init__(self, host: str, port: int, theirs: Any = None) -> None:
        from prometheus_client import REGISTRY, CollectorRegistry, start_http_server

        self._theirs = theirs if theirs is not None else REGISTRY
        self._host = host
        self._frame: Frame | None = None
        registry = CollectorRegistry()
        registry.register(self)
        try:
            self._server, self._thread = start_http_server(port, host, registry)
        except OSError as error:
            raise UsageError(
                f"--metrics-port: {host}:{port} cannot be listened on: {error.strerror or error}.",
                "Choose another port; 0 takes a free one.",
            ) from None

    @property
    def address(self) -> str:
        """The URL to scrape."""
        return f"http://{self._host}:{self._server.server_port}/metrics"

    def see(self, frame: Frame) -> None:
        """Keep `frame` for the next scrape."""
        self._frame = frame

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(1.0)

    def describe(self) -> Iterable[Any]:
        """No metric in advance: which ones there are depends on the run."""
        return ()

    def collect(self) -> Iterator[Any]:
        """Every metric family, on a scrape's thread."""
        theirs = [f for f in self._theirs.collect() if f.name.startswith("vllm:")]
        yield from theirs
        frame = self._frame
        if frame is None:
            return
        if not theirs:
            yield from _by_their_names(frame)
        yield from _about(frame)
        yield from _requests(frame)
        yield from _window(frame)
        yield from _drafts(frame)
        yield from _limits(frame)
        yield from _traffic(frame)
        yield from _gpus(frame)


def _gauge(name: str, description: str, value: float) -> Any:
    from prometheus_client.core import GaugeMetricFamily

    return GaugeMetricFamily(name, description, value=value)


def _counter(name: str, description: str, value: float) -> Any:
    from prometheus_client.core import CounterMetricFamily

    return CounterMetricFamily(name, description, value=value)


def _labelled(
    name: str,
    description: str,
    label: str,
    values: Iterable[tuple[str, float]],
    *,
    counter: bool = False,
) -> Any:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    family = (CounterMetricFamily if counter else GaugeMetricFamily)(
        name, description, labels=[label]
    )
    for key, value in values:
        family.add_metric([key], value)
    return family


def _by_their_names(frame: Frame) -> Iterator[Any]:
    """Metrics under vLLM's own names, with values from our books."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    account, model = frame.accounting, frame.profile.engine.model
    for name, description, value in (
        ("vllm:num_requests_running", "Requests in the batch.", account.running),
        ("vllm:num_requests_waiting", "Requests waiting.", account.waiting),
        ("vllm:kv_cache_usage_perc", "KV-cache usage, 1 is all of it.", frame.kv_frac),
    ):
        family = GaugeMetricFamily(name, description, labels=["model_name"])
        family.add_metric([model], value)
        yield family
    tokens = CounterMetricFamily(
        "vllm:generation_tokens", "Generated tokens.", labels=["model_name"]
    )
    tokens.add_metric([model], frame.generated_tokens)
    yield tokens


def _about(frame: Frame) -> Iterator[Any]:
    from prometheus_client.core import InfoMetricFamily

    facts = frame.status.facts
    versions = facts.versions if facts else {}
    yield InfoMetricFamily(
        "tputtui",
        "What runs.",
        value={
            "version": __version__,
            "vllm": versions.get("vllm", ""),
            "model": frame.profile.engine.model,
            "device": facts.device if facts else "",
            "simulated": facts.simulated if facts else "",
        },
    )
    yield _labelled(
        "tputtui_engine_state",
        "1 for the state that the engine is in.",
        "state",
        [(frame.status.state.value, 1.0)],
    )


def _requests(frame: Frame) -> Iterator[Any]:
    account, now = frame.accounting, frame.now
    yield _counter("tputtui_requests_issued", "Requests sent to the engine.", account.issued)
    yield _labelled(
        "tputtui_requests",
        "Requests that have left the engine, by how.",
        "outcome",
        [(name, getattr(account, name)) for name in _OUTCOMES],
        counter=True,
    )
    if (real := frame.requests) is not None:
        yield _labelled(
            "tputtui_requests_stopped",
            "Finished requests, by the reason for which they stopped.",
            "reason",
            list(frame.stops),
            counter=True,
        )
        yield _labelled(
            "tputtui_request_lines",
            "Lines of the file of real requests, by what became of them.",
            "what",
            [
                ("read", real.lines),
                ("skipped", real.skipped),
                ("too_long", real.too_long),
                ("shortened", real.shortened),
                ("late", real.late),
            ],
            counter=True,
        )
        yield _counter(
            "tputtui_render_seconds", "Time to make tokens of real prompts.", real.render_s
        )
    yield _labelled(
        "tputtui_requests_in_flight",
        "Requests inside the engine, as the scheduler counts them.",
        "where",
        [("running", account.running), ("waiting", account.waiting)],
    )
    yield _counter("tputtui_generated_tokens", "Generated tokens.", frame.generated_tokens)
    yield _labelled(
        "tputtui_tokens_per_second",
        "Tokens a second over the last second.",
        "kind",
        [
            ("generated", now.generated_per_s),
            ("prompt_computed", now.prompt_computed_per_s),
            ("prompt_cached", now.prompt_cached_per_s),
        ],
    )
    yield _gauge("tputtui_kv_cache_usage_ratio", "Blocks used / blocks usable.", frame.kv_frac)
    yield _gauge("tputtui_kv_cache_blocks", "Blocks of the KV cache usable.", frame.kv_blocks)


def _window(frame: Frame) -> Iterator[Any]:
    """Figures of the present setting, exact over their window."""
    from prometheus_client.core import GaugeMetricFamily

    window, figures = frame.window, frame.figures
    yield _labelled(
        "tputtui_window_seconds",
        "Length of the window that the figures are about, by what it is worth.",
        "phase",
        [(window.phase.value, window.length_s)],
    )
    yield _labelled(
        "tputtui_window_requests_per_second",
        "Requests due, and requests finished, a second over the window.",
        "kind",
        [("offered", figures.offered_per_s), ("achieved", figures.achieved_per_s)],
    )
    yield _gauge(
        "tputtui_window_generated_tokens_per_second",
        "Generated tokens a second over the window.",
        figures.generated_per_s,
    )
    yield _gauge("tputtui_saturated", "1 if more was due than served.", float(figures.saturated))
    latency = GaugeMetricFamily(
        "tputtui_latency_seconds",
        "Exact quantiles over the window; TTFT, E2E and job from when a request was due.",
        labels=["metric", "quantile"],
    )
    counts = []
    jobs = ("job",) if frame.latencies.job.n else ()
    for name in (*_LATENCIES, *jobs):
        values = getattr(frame.latencies, name)
        counts.append((name, float(values.n)))
        if values.n:
            latency.add_metric([name, "0.5"], values.p50)
            latency.add_metric([name, "0.9"], values.p90)
        if values.p99_resolved:
            latency.add_metric([name, "0.99"], values.p99)
    yield latency
    yield _labelled("tputtui_latency_samples", "Samples of each.", "metric", counts)
    if frame.profile.judged:
        yield _gauge(
            "tputtui_goodput_requests_per_second",
            "Requests that met every goal, a second over the window.",
            frame.goodput.per_s,
        )
        yield _labelled(
            "tputtui_goal_attained_ratio",
            "Share of requests that kept the goal.",
            "goal",
            [(each.goal.name, each.frac) for each in frame.goodput.each],
        )


def _drafts(frame: Frame) -> Iterator[Any]:
    """What became of draft tokens over the window; nothing without any."""
    seen = frame.figures.acceptance
    if not seen.drafts:
        return
    yield _gauge(
        "tputtui_draft_accepted_ratio", "Draft tokens accepted / drafted, window.", seen.frac
    )
    yield _gauge(
        "tputtui_draft_accepted_length",
        "Tokens that a check of draft tokens brought, the model's own included, window.",
        seen.length,
    )
    yield _labelled(
        "tputtui_draft_position_accepted_ratio",
        "Checks that accepted the draft token at a position, from 0, window.",
        "position",
        [(str(place), share) for place, share in enumerate(seen.at)],
    )


def _limits(frame: Frame) -> Iterator[Any]:
    status = frame.status
    if status.knobs is None or status.facts is None:
        return
    knobs, ceilings = status.knobs, status.facts.ceilings
    names = [knob.name for knob in KNOBS]
    yield _labelled(
        "tputtui_limit",
        "Limits in force; 0 for max_num_queued_* without a limit.",
        "limit",
        [(n, knobs.get(n)) for n in names if knobs.get(n) < UNTOLD],
    )
    yield _labelled(
        "tputtui_limit_ceiling",
        "What was booted.",
        "limit",
        [(n, ceilings.get(n)) for n in names if ceilings.get(n) < UNTOLD],
    )


def _traffic(frame: Frame) -> Iterator[Any]:
    for name, description, values in (
        ("ttft_p50_seconds", "Time to first token", [t.ttft.p50 for t in frame.traffic]),
        ("e2e_p50_seconds", "From due to the last token", [t.e2e.p50 for t in frame.traffic]),
        ("offered_per_second", "Requests that became due", [
            t.offered_per_s for t in frame.traffic
        ]),
        ("served_per_second", "Requests that finished", [t.served_per_s for t in frame.traffic]),
        ("goodput_per_second", "Requests that met their goals", [
            t.goodput_per_s for t in frame.traffic
        ]),
    ):  # fmt: skip
        rows = [(t.name, value) for t, value in zip(frame.traffic, values, strict=True)]
        known = [(label, value) for label, value in rows if value == value]
        if known:
            what = f"{description}, by class of traffic or adapter, over the window."
            yield _labelled(f"tputtui_traffic_{name}", what, "traffic", known)


def _gpus(frame: Frame) -> Iterator[Any]:
    hardware = frame.hardware
    if hardware is None or not hardware.gpus:
        return
    gpus = hardware.gpus
    for field, description in _GPU_FIELDS:
        values = [(str(gpu.index), getattr(gpu, field)) for gpu in gpus]
        known = [(index, float(value)) for index, value in values if value is not None]
        if known:
            yield _labelled(f"tputtui_gpu_{field}", description, "gpu", known)
    yield _labelled(
        "tputtui_gpu_throttled",
        "1 while heat or power holds the clocks down.",
        "gpu",
        [(str(gpu.index), float(bool(gpu.throttle))) for gpu in gpus],
    )
    yield _labelled(
        "tputtui_gpu_lost",
        "1 for a GPU that the driver does not reach.",
        "gpu",
        [(str(gpu.index), float(gpu.lost)) for gpu in gpus],
    )
    age_s = hardware.gpu_age_s(frame.t_s)
    if age_s is not None:
        yield _gauge(
            "tputtui_gpu_age_seconds",
            "Age of all figures of GPUs: it grows while the driver does not answer.",
            age_s,
        )
    if frame.tokens_per_joule > 0:
        yield _gauge(
            "tputtui_joules_per_token",
            "Energy of the GPUs in use for a generated token, over the window.",
            1.0 / frame.tokens_per_joule,
        )
