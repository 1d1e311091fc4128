"""What Prometheus is served: our exact figures, beside vLLM's own names."""

from __future__ import annotations

import math
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator

import pytest
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.parser import text_string_to_metric_families

from tests import PATIENCE_S
from tests.rig import Rig
from tputtui import profile
from tputtui.errors import UsageError
from tputtui.goals import parse_goals
from tputtui.hardware import GpuSample, HardwareSample
from tputtui.report.prometheus import Exporter
from tputtui.simulate.clock import VirtualTime

DEMO = profile.load(profile.shipped()["demo"])


Sample = tuple[str, tuple[tuple[str, str], ...]]


def scraped(exporter: Exporter) -> dict[Sample, float]:
    """(name, sorted labels) → value."""
    with urllib.request.urlopen(exporter.address, timeout=PATIENCE_S) as answer:
        text = answer.read().decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
def theirs() -> CollectorRegistry:
    """Where vLLM's own metrics would be; the default registry has those of other tests."""
    return CollectorRegistry()


@pytest.fixture
def exporter(theirs: CollectorRegistry) -> Iterator[Exporter]:
    made = Exporter("127.0.0.1", 0, theirs)
    yield made
    made.close()


@pytest.fixture
def rig(exporter: Exporter) -> Rig:
    rig = Rig(DEMO.load, DEMO.knobs)
    rig.session.watch(exporter.see)
    rig.boot()
    rig.session.set_goals(parse_goals("ttft_p90=5s"))
    rig.run(60.0)
    rig.session.steer.limits.set("max_num_seqs", 48)
    rig.run(45.0)
    return rig


def test_our_figures_are_those_of_the_screen(rig: Rig, exporter: Exporter) -> None:
    frame = rig.session.advance()
    found = scraped(exporter)
    assert found["tputtui_generated_tokens_total", ()] == frame.generated_tokens
    account = frame.accounting
    assert found["tputtui_requests_total", (("outcome", "finished"),)] == account.finished
    in_flight = sum(v for (name, _), v in found.items() if name == "tputtui_requests_in_flight")
    assert in_flight == account.in_flight
    for name in ("ttft", "tpot", "itl", "e2e"):
        values = getattr(frame.latencies, name)
        for quantile, value in (("0.5", values.p50), ("0.9", values.p90)):
            labels = (("metric", name), ("quantile", quantile))
            assert found["tputtui_latency_seconds", labels] == pytest.approx(value)
        assert found["tputtui_latency_samples", (("metric", name),)] == values.n
    assert found["tputtui_limit", (("limit", "max_num_seqs"),)] == 48
    assert found["tputtui_limit_ceiling", (("limit", "max_num_seqs"),)] == 256
    assert found["tputtui_goal_attained_ratio", (("goal", "ttft_p90"),)] == 1.0
    rate = found["tputtui_window_generated_tokens_per_second", ()]
    assert rate == pytest.approx(frame.figures.generated_per_s)


def test_what_is_accepted_of_draft_tokens_is_served_where_an_engine_drafts(
    exporter: Exporter,
) -> None:
    config = {"speculative_config": {"method": "ngram", "num_speculative_tokens": 3}}
    for args in ({}, config):
        rig = Rig(DEMO.load, DEMO.knobs, args=args)  # type: ignore[arg-type]
        rig.session.watch(exporter.see)
        rig.boot()
        rig.run(8.0)
        seen, found = rig.session.advance().figures.acceptance, scraped(exporter)
        told = found.get(("tputtui_draft_accepted_ratio", ()))
        assert told == (pytest.approx(seen.frac) if args else None)
        if args:
            assert seen.drafts
            assert found["tputtui_draft_accepted_length", ()] == pytest.approx(seen.length)
            of_first = found["tputtui_draft_position_accepted_ratio", (("position", "0"),)]
            assert of_first == pytest.approx(seen.at[0])
            assert found["tputtui_limit", (("limit", "num_speculative_tokens"),)] == 3


def test_a_p99_is_there_once_it_is_resolved(rig: Rig, exporter: Exporter) -> None:
    frame = rig.session.advance()
    found = scraped(exporter)
    for name in ("ttft", "itl"):
        there = ("tputtui_latency_seconds", (("metric", name), ("quantile", "0.99"))) in found
        assert there == getattr(frame.latencies, name).p99_resolved
    assert frame.latencies.itl.p99_resolved


def test_an_engine_apart_has_vllms_commonest_names_too(rig: Rig, exporter: Exporter) -> None:
    account = rig.session.advance().accounting
    found = scraped(exporter)
    model = (("model_name", "shape:demo"),)
    assert found["vllm:num_requests_running", model] == account.running
    assert found["vllm:num_requests_waiting", model] == account.waiting
    assert found["vllm:generation_tokens_total", model] > 0


def test_vllms_own_are_passed_on_as_they_are_and_not_told_twice(
    rig: Rig, exporter: Exporter, theirs: CollectorRegistry
) -> None:
    own = Gauge("vllm:num_requests_running", "…", ["model_name", "engine"], registry=theirs)
    own.labels("m", "0").set(7)
    Gauge("python_something", "…", registry=theirs).set(1)
    found = scraped(exporter)
    assert found["vllm:num_requests_running", (("engine", "0"), ("model_name", "m"))] == 7
    assert ("vllm:num_requests_running", (("model_name", "shape:demo"),)) not in found
    assert not [name for name, _ in found if name.startswith("python_")]


def test_before_anything_is_known_it_answers_all_the_same(exporter: Exporter) -> None:
    assert scraped(exporter) == {}


def test_nothing_is_not_a_number_but_what_is_not_known(rig: Rig, exporter: Exporter) -> None:
    unknown = {name for (name, _), value in scraped(exporter).items() if math.isnan(value)}
    assert unknown <= {"tputtui_window_generated_tokens_per_second"}


def test_it_listens_where_it_was_told_and_no_longer_than_it_should() -> None:
    made = Exporter("127.0.0.1", 0)
    port = int(made.address.rpartition(":")[2].partition("/")[0])
    with pytest.raises(UsageError, match="cannot be listened on"):
        Exporter("127.0.0.1", port)
    # On loopback alone: another address of this machine does not answer.
    with socket.socket() as other, pytest.raises(OSError, match="refused"):
        other.connect(("127.0.0.2", port))
    made.close()
    with socket.socket() as gone, pytest.raises(OSError, match="refused"):
        gone.connect(("127.0.0.1", port))
    assert not [t for t in threading.enumerate() if not t.daemon and t.name.startswith("Thread")]


def test_scrapes_at_once_disturb_nothing(rig: Rig, exporter: Exporter) -> None:
    said = []

    def scrape() -> None:
        said.append(scraped(exporter)["tputtui_requests_issued_total", ()])

    threads = [threading.Thread(target=scrape) for _ in range(8)]
    for thread in threads:
        thread.start()
    rig.run(2.0)
    for thread in threads:
        thread.join()
    assert len(said) == 8
    assert rig.session.advance().accounting.balanced


def test_our_names_follow_the_conventions(rig: Rig, exporter: Exporter) -> None:
    for family in exporter.collect():
        assert family.name.startswith(("tputtui", "vllm:"))
        assert family.documentation.endswith(".")
        assert "_ms" not in family.name


class Gpus:
    """A machine with GPUs, last read `age_s` ago."""

    def __init__(
        self, clock: VirtualTime, gpus: Callable[[float], tuple[GpuSample, ...]], age_s: float = 0.0
    ) -> None:
        self._clock, self._gpus, self._age_s = clock, gpus, age_s

    def latest(self) -> HardwareSample:
        now_s = self._clock()
        return HardwareSample(now_s, self._gpus(now_s), "ok", now_s - self._age_s, None, None)


@pytest.fixture
def young(exporter: Exporter) -> Rig:
    """One that has served for some seconds."""
    rig = Rig.booted(DEMO.load)
    rig.session.watch(exporter.see)
    rig.run(2.0)
    return rig


def test_gpus_are_told_one_by_one_and_what_one_lacks_is_left_out(
    young: Rig, exporter: Exporter
) -> None:
    def read(now_s: float) -> tuple[GpuSample, GpuSample, GpuSample]:
        return (
            GpuSample(
                0, "A", util_frac=0.5, mem_ours_bytes=6e10, pcie_rx_bytes_per_s=1e9, xid=79,
                ecc_uncorrected=2, mig=True, throttle=("thermal",), energy_j=500 * now_s,
            ),
            GpuSample(1, "B", util_frac=0.25, energy_j=100 * now_s),
            GpuSample(2, "C", visible=False),
        )  # fmt: skip

    young.session._hardware = Gpus(young.clock, read)  # type: ignore[assignment]
    young.run(5.0)
    frame = young.session.advance()
    found = scraped(exporter)

    def told(name: str) -> dict[str, float]:
        return {labels[0][1]: value for (key, labels), value in found.items() if key == name}

    assert told("tputtui_gpu_util_frac") == {"0": 0.5, "1": 0.25}
    assert told("tputtui_gpu_mem_ours_bytes") == {"0": 6e10}
    assert told("tputtui_gpu_pcie_rx_bytes_per_s") == {"0": 1e9}
    assert told("tputtui_gpu_ecc_uncorrected") == {"0": 2}
    assert (told("tputtui_gpu_xid"), told("tputtui_gpu_mig")) == ({"0": 79}, {"0": 1})
    assert told("tputtui_gpu_throttled") == {"0": 1, "1": 0, "2": 0}
    assert told("tputtui_gpu_lost") == {"0": 0, "1": 0, "2": 1}
    assert found["tputtui_gpu_age_seconds", ()] == 0
    # Of both that are used.
    joules = found["tputtui_joules_per_token", ()]
    assert joules == pytest.approx(1 / frame.tokens_per_joule)
    assert joules == pytest.approx(600 / frame.figures.generated_per_s, rel=0.2)

    young.session._hardware = Gpus(young.clock, read, age_s=7.0)  # type: ignore[assignment]
    young.run(0.5)
    assert scraped(exporter)["tputtui_gpu_age_seconds", ()] >= 7


def test_every_family_has_its_words(young: Rig, exporter: Exporter) -> None:
    young.session._hardware = Gpus(young.clock, lambda now_s: (GpuSample(0, "A", util_frac=0.5),))  # type: ignore[assignment]
    young.run(1.0)
    with urllib.request.urlopen(exporter.address, timeout=PATIENCE_S) as answer:
        lines = answer.read().decode().splitlines()
    helped = [line.split(None, 3) for line in lines if line.startswith("# HELP tputtui_gpu")]
    assert len(helped) >= 4
    assert all(len(words) == 4 for words in helped)
