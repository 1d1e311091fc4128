"""What scrapes amount to: rates, restarts, buckets, what can be believed. No sockets, no sleeps."""

from __future__ import annotations

import json
import math
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from tests.served import exposition, reading
from tputtui.attach.about import About, with_answer
from tputtui.attach.access import access_of
from tputtui.attach.address import Address, parse_addresses
from tputtui.attach.bucketed import latency_of
from tputtui.attach.fleet import Fleet, Looked
from tputtui.attach.poller import News
from tputtui.attach.reading import Adapters, MetricHistogram, Reading, Unreadable, read_metrics
from tputtui.attach.track import Server, Standing, Track
from tputtui.errors import UsageError
from tputtui.headless.fleet import fleet_text
from tputtui.redact import redacted
from tputtui.ui.panels.served import served_about, served_batch

HERE = Address("here", "http://here:8000")


@pytest.fixture
def track() -> Track:
    return Track(HERE, 100.0, 1.0)


def text_of(rows: list[list[tuple[str, str]]]) -> str:
    return "\n".join("".join(text for text, _ in row) for row in rows)


def fed(track: Track, *scrapes: tuple[float, Reading]) -> Server:
    for at_s, found in scrapes:
        track.add(at_s, found)
    return track.view(scrapes[-1][0])


# -- addresses and access ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "url", "name"),
    [
        ("gpu1:8000", "http://gpu1:8000", "gpu1:8000"),
        ("http://gpu1:8000/metrics", "http://gpu1:8000", "gpu1:8000"),
        ("https://h/prefix/v1/", "https://h/prefix", "h/prefix"),
        ("a=gpu1:8000", "http://gpu1:8000", "a"),
        ("http://[::1]:8000", "http://[::1]:8000", "[::1]:8000"),
    ],
)
def test_an_address_is_read_as_it_is_written(text: str, url: str, name: str) -> None:
    (found,) = parse_addresses([text])
    assert (found.url, found.name, found.socket) == (url, name, "")


def test_a_unix_socket_is_an_address() -> None:
    assert parse_addresses(["unix:/run/v.sock"])[0].socket == "/run/v.sock"
    assert parse_addresses(["n=unix:///run/v.sock"])[0] == Address(
        "n", "http://localhost", "/run/v.sock"
    )


@pytest.mark.parametrize(
    "texts",
    [[], [""], ["ftp://h"], ["http://"], ["h:99999"], ["h:x"], ["http://u:p@h"], ["h?x=1"],
     ["a b:1"], ["h:1", "http://h:1"], ["a=h:1", "a=g:1"], ["unix:"], ["unix:run"],
     [f"h{i}:1" for i in range(65)]],
)  # fmt: skip
def test_what_is_no_address_is_refused(texts: list[str]) -> None:
    with pytest.raises(UsageError):
        parse_addresses(texts)


def test_a_password_in_an_address_is_not_repeated() -> None:
    with pytest.raises(UsageError) as refused:
        parse_addresses(["https://me:hunter2@h"])
    assert "hunter2" not in str(refused.value)
    assert "--token-file" in refused.value.hint


def test_only_what_nobody_can_read_on_the_way_is_private() -> None:
    found = parse_addresses(["https://a", "localhost:1", "127.0.0.1:2", "unix:/s", "b:3"])
    assert [address.private for address in found] == [True, True, True, True, False]


def test_a_token_comes_from_environment_or_file_and_is_kept_out_of_what_is_shown(
    tmp_path: Path,
) -> None:
    path = tmp_path / "token"
    path.write_text("from-a-file-5309\n")
    found = access_of(["X-Team: a"], token_file=str(path), environ={})
    assert found.headers == {"X-Team": "a", "Authorization": "Bearer from-a-file-5309"}
    assert "5309" not in repr(found)
    assert "5309" not in redacted("it said from-a-file-5309")
    assert access_of(environ={"TPUTTUI_TOKEN": "t0"}).headers["Authorization"] == "Bearer t0"
    assert access_of(token_env="X", environ={"X": "t1"}).headers["Authorization"] == "Bearer t1"
    assert access_of(["K: env:V"], environ={"V": "v9"}).headers == {"K": "v9"}
    assert not access_of(environ={}).headers


@pytest.mark.parametrize(
    ("headers", "more"),
    [
        (["Authorization: Bearer x"], {}),
        (["no colon"], {}),
        (["X: env:MISSING"], {}),
        (["X: a\nY: b"], {}),
        ([], {"token_env": "MISSING"}),
        ([], {"token_file": "/nowhere/at/all"}),
        ([], {"token_file": "a", "token_env": "b"}),
        ([], {"ca": "/nowhere/at/all"}),
        ([], {"ca": __file__}),
        ([], {"token_keyring": "no such service"}),
    ],
)
def test_what_cannot_be_sent_is_refused(headers: list[str], more: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        access_of(headers, environ={}, **more)


def test_a_token_comes_from_the_keyring_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {("vllm", "me"): "from-a-keyring-1", ("vllm", "token"): "from-a-keyring-2"}

    class KeyringError(Exception):
        pass

    keyring: Any = types.ModuleType("keyring")
    keyring.get_password = lambda service, user: kept.get((service, user))
    errors: Any = types.ModuleType("keyring.errors")
    errors.KeyringError = KeyringError
    monkeypatch.setitem(sys.modules, "keyring", keyring)
    monkeypatch.setitem(sys.modules, "keyring.errors", errors)
    sent = access_of(token_keyring="vllm/me", environ={}).headers["Authorization"]
    assert sent == "Bearer from-a-keyring-1"
    sent = access_of(token_keyring="vllm", environ={}).headers["Authorization"]
    assert sent == "Bearer from-a-keyring-2"
    with pytest.raises(UsageError, match="nothing for other/token"):
        access_of(token_keyring="other", environ={})

    def locked(service: str, user: str) -> None:
        raise KeyringError("it is locked")

    keyring.get_password = locked
    with pytest.raises(UsageError, match="does not open: it is locked"):
        access_of(token_keyring="vllm", environ={})


# -- reading -----------------------------------------------------------------------------------


def test_a_real_scrape_of_vllm_is_read() -> None:
    found = read_metrics((Path(__file__).parent / "data" / "vllm-0.32-metrics.txt").read_bytes())
    assert found.dialect.name == "vLLM"
    assert found.model == "shape:demo"
    assert list(found.engines) == ["0"]
    assert found.engines["0"].counters.keys() == {
        "generated", "prompt", "looked_up", "cached", "preemptions", "ended",
        "external_looked_up", "external_cached", "mm_looked_up", "mm_cached",
        "rejected:max_num_queued_reqs", "rejected:max_num_queued_tokens",
        *(f"tier:{tier}" for tier in ("device", "host", "p2p", "disk", "external_unspecified")),
    }  # fmt: skip
    assert found.engines["0"].histograms.keys() == {"ttft", "tpot", "itl", "e2e", "queue"}
    assert found.engines["0"].gauges == {
        "running": 0.0, "waiting": 0.0, "kv_frac": 0.0,
        "waiting_for:capacity": 0.0, "waiting_for:deferred": 0.0,
    }  # fmt: skip
    assert found.adapters is None
    assert found.resolved == {
        "block_size": "32", "kv_cache_dtype": "auto", "enable_prefix_caching": "on"
    }  # fmt: skip
    assert found.started == 1.79565665411e9
    assert found.info["block_size"] == "32"
    assert not found.asleep
    assert not found.nonsense


def test_engines_are_told_apart_and_finish_reasons_summed() -> None:
    found = reading(100.0, engines=2)
    assert list(found.engines) == ["0", "1"]
    assert found.engines["1"].counters["ended"] == 10.0


def newer(t: float, engines: int = 1) -> str:
    """Lines that newer servers tell, `t` seconds on."""
    lines = [
        f'vllm:admission_rejections_total{{model_name="m",reason="max_num_queued_reqs"}} {t}',
        f'vllm:admission_rejections_total{{model_name="m",reason="max_num_queued_tokens"}} {t}',
        'vllm:lora_requests_info{max_lora="4",running_lora_adapters="old",'
        'waiting_lora_adapters=""} 1000.0',
        'vllm:lora_requests_info{max_lora="4",running_lora_adapters="a,b",'
        f'waiting_lora_adapters="c"}} {1000.5 + t}',
    ]
    for engine in range(engines):
        own = f'engine="{engine}",model_name="m"'
        lines += [
            f'vllm:num_requests_waiting_by_reason{{{own},reason="capacity"}} 1.0',
            f'vllm:num_requests_waiting_by_reason{{{own},reason="deferred"}} {1.0 + engine}',
            f"vllm:external_prefix_cache_queries_total{{{own}}} {100 * t}",
            f"vllm:external_prefix_cache_hits_total{{{own}}} {25 * t}",
            f"vllm:mm_cache_queries_total{{{own}}} {4 * t}",
            f"vllm:mm_cache_hits_total{{{own}}} {t}",
            f'vllm:prompt_tokens_cached_by_source_total{{{own},source="device"}} {75 * t}',
            f'vllm:prompt_tokens_cached_by_source_total{{{own},source="host"}} {20 * t}',
            f'vllm:prompt_tokens_cached_by_source_total{{{own},source="disk"}} {5 * t}',
            f'vllm:prompt_tokens_cached_by_source_total{{{own},source="p2p"}} 0.0',
        ]
    return "\n".join(lines)


def test_what_newer_servers_tell_is_read_part_by_part(track: Track) -> None:
    server = fed(
        track, *((t, reading(100.0 * t, engines=2, more=newer(t, 2))) for t in (0.0, 2.0, 10.0))
    )
    # What is told of the whole server makes no engine of its own.
    assert list(server.engines) == ["0", "1"]
    window = server.window
    assert (window.waiting, window.deferred) == (4.0, 3.0)
    assert window.rejections_per_s == pytest.approx(2.0)
    assert window.external_hit_frac == pytest.approx(0.25)
    assert window.mm_hit_frac == pytest.approx(0.25)
    assert dict(window.tiers) == pytest.approx({"device": 0.75, "host": 0.20, "disk": 0.05})
    assert server.reading is not None
    # Of the mixes of adapters so far the newest holds.
    assert server.reading.adapters == Adapters(4, ("a", "b"), ("c",))
    for width in (46, 60, 98):
        rows = [*served_batch(server, width, 20), *served_about(server, width, 20)]
        assert all(len(text_of([row]).rstrip()) <= width for row in rows)
    batch = text_of(served_batch(server, 60, 20))
    assert "(3 deferred)" in batch
    assert "\nrejected    2.00 /s" in batch
    assert "0.00 /s   rejected    2.00 /s" in text_of(served_batch(server, 78, 3))
    assert "external     25% hit, beyond the GPU" in batch
    assert "hits by   GPU 75% · CPU 20% · disk 5%" in batch
    assert "LoRA   2 of 4 run · a · b · 1 wait · c" in text_of(served_about(server, 70, 20))


def test_where_there_is_nothing_of_it_nothing_is_said(track: Track) -> None:
    server = fed(track, *((t, reading(100.0 * t)) for t in (0.0, 10.0)))
    shown = text_of(served_batch(server, 60, 20)) + text_of(served_about(server, 60, 20))
    for word in ("deferred", "rejected", "external", "hits by", "images", "LoRA"):
        assert word not in shown


def test_an_older_name_counts_only_where_the_newer_is_not() -> None:
    old = b'vllm:gpu_cache_usage_perc{model_name="m"} 0.5\n'
    assert read_metrics(old).engines[""].gauges["kv_frac"] == 0.5
    both = old + b'vllm:kv_cache_usage_perc{model_name="m"} 0.7\n'
    assert read_metrics(both).engines[""].gauges["kv_frac"] == 0.7


def test_of_the_ranks_of_one_engine_the_first_speaks() -> None:
    body = b"".join(
        b'sglang:generation_tokens_total{model_name="m",tp_rank="%d"} 50\n' % rank
        for rank in range(4)
    )
    found = read_metrics(body)
    assert found.dialect.name == "SGLang"
    assert found.engines[""].counters["generated"] == 50.0


def test_tgi_is_read_from_its_histograms() -> None:
    found = read_metrics(b"tgi_queue_size 4\ntgi_request_generated_tokens_sum 123\n")
    assert found.engines[""].counters["generated"] == 123.0
    assert found.engines[""].gauges["waiting"] == 4.0


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "empty"),
        (b"<html>log in</html>", "web page"),
        (b'{"detail":"no"}', "JSON"),
        (b"node_cpu_seconds_total 1\n", "no figures"),
        (b'vllm:num_requests_running{engine="0} oops\n', "parse"),
        (b"\x00\xff\xfe", "no figures"),
    ],
)
def test_what_are_no_figures_is_said_in_words(body: bytes, said: str) -> None:
    with pytest.raises(Unreadable, match=said):
        read_metrics(body)


def test_ten_megabytes_of_other_figures_are_passed_over() -> None:
    other = b"".join(b'go_thing{number="%d"} 1\n' % i for i in range(400_000))
    assert len(other) > 10_000_000
    assert read_metrics(other + exposition(7.0)).engines["0"].counters["generated"] == 7.0


def test_too_many_series_of_its_own_are_refused() -> None:
    body = b"".join(b'vllm:num_requests_running{e="%d"} 1\n' % i for i in range(20_001))
    with pytest.raises(Unreadable, match="series"):
        read_metrics(body)


def test_what_cannot_be_is_left_out_and_named() -> None:
    found = read_metrics(exposition(-5.0, kv=7.0, ttft=(5, 4, 3, 2, 1)))
    assert "generated" not in found.engines["0"].counters
    assert "kv_frac" not in found.engines["0"].gauges
    assert "ttft" not in found.engines["0"].histograms
    assert "vllm:generation_tokens_total" in found.nonsense


# -- rates -------------------------------------------------------------------------------------


def test_a_rate_is_the_increase_over_the_true_interval(track: Track) -> None:
    found = fed(track, (100.0, reading(0.0)), (100.8, reading(80.0)), (103.0, reading(520.0)))
    assert found.now.generated_per_s == pytest.approx(200.0)
    assert found.interval_s == pytest.approx(2.2)
    assert found.window.generated_per_s == pytest.approx(520 / 3)
    assert found.now.hit_frac == pytest.approx(0.25)
    assert found.standing is Standing.LIVE


def drafting(checks: int) -> str:
    """vLLM's counters of so many checks of three draft tokens, of which half are accepted."""
    label = 'engine="0",model_name="m"'
    places = [
        f'vllm:spec_decode_num_accepted_tokens_per_pos_total{{{label},position="{i}"}} {n}'
        for i, n in enumerate((checks * 0.75, checks * 0.5, checks * 0.25))
    ]
    return "\n".join([
        f"vllm:spec_decode_num_drafts_total{{{label}}} {checks}",
        f"vllm:spec_decode_num_draft_tokens_total{{{label}}} {3 * checks}",
        f"vllm:spec_decode_num_accepted_tokens_total{{{label}}} {1.5 * checks}",
        *places,
    ])  # fmt: skip


def test_what_a_server_accepts_of_its_draft_tokens_is_shown_where_it_drafts(track: Track) -> None:
    found = fed(
        track,
        (100.0, reading(0.0, more=drafting(1000))),
        (102.0, reading(100.0, more=drafting(1400))),
    )
    assert found.window.accepted_frac == pytest.approx(0.5)
    assert found.window.accepted_length == pytest.approx(2.5)
    assert found.window.accepted_at == pytest.approx((0.75, 0.5, 0.25))
    shown = "\n".join("".join(part for part, _ in row) for row in served_batch(found, 60, 12))
    assert "drafts       50% accepted   length 2.50   75% 50% 25%" in shown
    told = json.loads(fleet_text(Looked(102.0, (found,), found.window, 1), "json"))
    assert told["servers"][0]["figures"]["accepted_at"] == [0.75, 0.5, 0.25]


def test_a_server_that_drafts_nothing_tells_nothing_of_it(track: Track) -> None:
    found = fed(track, (100.0, reading(0.0)), (102.0, reading(100.0)))
    assert math.isnan(found.window.accepted_frac)
    assert "drafts" not in str(served_batch(found, 60, 12))


def test_data_parallel_engines_add_up_and_stand_apart(track: Track) -> None:
    found = fed(
        track,
        (100.0, reading(0.0, engines=4)),
        (102.0, reading(100.0, engines=4)),
    )
    assert found.now.generated_per_s == pytest.approx(200.0)
    assert found.now.running == 12.0
    assert found.now.kv_frac == found.now.kv_most == 0.25
    assert [each.generated_per_s for each in found.engines.values()] == [50.0] * 4


@pytest.mark.parametrize("more", [{"started": 2000.0}, {"started": None}])
def test_no_rate_reaches_across_a_restart(track: Track, more: dict[str, float | None]) -> None:
    before = fed(track, (100.0, reading(5000.0)), (101.0, reading(6000.0)))
    assert before.restarts == 0
    # As much as before, or more: only when it started tells that it is another run.
    after = 7000.0 if more.get("started") else 10.0
    found = fed(track, (102.0, reading(after, **more)))
    assert math.isnan(found.now.generated_per_s)
    assert found.restarts == 1
    assert found.restarted_s == 0.0
    assert [mark.t_s for mark in found.marks] == [102.0]
    found = fed(track, (103.0, reading(after + 50, **more)))
    assert found.now.generated_per_s == found.window.generated_per_s == pytest.approx(50.0)
    assert math.isnan(track.view(170.0).restarted_s)


def test_a_counter_that_was_not_told_once_makes_no_spike(track: Track) -> None:
    started = b"process_start_time_seconds 1000\n"
    gap = read_metrics(started + b'vllm:num_requests_running{engine="0"} 1\n')
    found = fed(track, (100.0, reading(900.0)), (101.0, gap), (102.0, reading(1000.0)))
    assert math.isnan(found.now.generated_per_s)
    assert found.window.generated_per_s == pytest.approx(50.0)


def test_the_window_is_a_minute_at_most(track: Track) -> None:
    found = fed(track, *((100.0 + t, reading(t * 10.0 + (t > 50) * 100)) for t in range(151)))
    assert 60.0 <= found.window_s <= 61.0
    assert found.window.generated_per_s == pytest.approx(10.0)


def test_several_servers_behind_one_address_are_found_out(track: Track) -> None:
    one, two = reading(100.0, started=1000.0), reading(9000.0, started=2000.0)
    found = fed(track, (100.0, one), (101.0, two))
    assert found.standing is Standing.LIVE
    found = fed(track, (102.0, one), (103.0, two))
    assert found.standing is Standing.MIXED
    assert "several servers" in found.why
    assert math.isnan(found.now.generated_per_s)
    assert math.isnan(found.window.generated_per_s)


def test_a_server_that_falls_silent_is_stale_and_comes_back_without_a_spike(track: Track) -> None:
    fed(track, (100.0, reading(0.0)), (101.0, reading(10.0)))
    track.failed("no answer within 5 s")
    assert track.view(103.9).standing is Standing.LIVE
    found = track.view(104.1)
    assert found.standing is Standing.STALE
    assert found.why == "no answer within 5 s"
    assert found.now.generated_per_s == pytest.approx(10.0)
    found = fed(track, (111.0, reading(110.0)))
    assert found.standing is Standing.LIVE
    assert found.why == ""
    assert found.now.generated_per_s == pytest.approx(10.0)


def test_a_server_that_never_told_anything_is_down(track: Track) -> None:
    assert track.view(100.0).standing is Standing.CONNECTING
    track.failed("cannot be reached: connection refused")
    assert track.view(100.0).standing is Standing.DOWN
    assert track.view(100.0).age_s == math.inf


def test_sleep_is_told(track: Track) -> None:
    asleep = reading(0.0, more='vllm:engine_sleep_state{engine="0",sleep_state="discard_all"} 1.0')
    assert fed(track, (100.0, asleep)).standing is Standing.ASLEEP


def test_what_is_charted_adds_up_to_what_was_counted(track: Track) -> None:
    times = [100.0, 100.7, 101.9, 103.4, 104.1, 105.0]
    counts = [0.0, 70.0, 130.0, 430.0, 500.0, 590.0]
    found = fed(track, *((t, reading(c)) for t, c in zip(times, counts, strict=True)))
    assert sum(bucket.generated for bucket in found.history.buckets) == pytest.approx(590.0)
    assert len(found.history.buckets) == 5


def test_a_silence_is_a_gap_on_the_chart(track: Track) -> None:
    fed(track, (100.0, reading(0.0)), (101.0, reading(10.0)))
    found = track.view(120.0)
    assert found.history.total == 15
    assert all(math.isnan(bucket.generated) for bucket in list(found.history.buckets)[1:])


# -- buckets -----------------------------------------------------------------------------------


def test_a_percentile_lies_between_the_bounds_of_its_buckets() -> None:
    found = latency_of(MetricHistogram((0.1, 0.25, 0.5, math.inf), (0, 9000, 10000, 10000), 2100.0))
    assert found.mean == pytest.approx(0.21)
    assert (found.p50.low, found.p50.high) == (0.1, 0.25)
    # Rank 9,000 is the last in its bucket: by chance it may be the next.
    assert (found.p90.low, found.p90.high) == (0.1, 0.5)
    assert (found.p99.low, found.p99.high) == (0.25, 0.5)


def test_few_samples_bound_a_high_percentile_on_one_side_only() -> None:
    found = latency_of(MetricHistogram((0.1, 0.25, math.inf), (0, 20, 20), 4.0))
    assert (found.p99.low, found.p99.high) == (0.1, math.inf)
    assert math.isnan(latency_of(MetricHistogram((0.1, math.inf), (0, 0), 0.0)).p50.low)


def test_bounds_hold_the_true_percentile_as_often_as_they_say() -> None:
    import numpy as np

    rng = np.random.default_rng(5)
    edges = np.array([0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.2, math.inf])
    true = {share: -math.log(1 - share) / 5 for share in (0.5, 0.9, 0.99)}
    hits = dict.fromkeys(true, 0)
    for _ in range(400):
        samples = rng.exponential(0.2, 300)
        counts = tuple(float((samples <= edge).sum()) for edge in edges)
        found = latency_of(MetricHistogram(tuple(edges), counts, float(samples.sum())))
        for share, each in zip(true, (found.p50, found.p90, found.p99), strict=True):
            hits[share] += each.low < true[share] <= each.high
    assert all(hit >= 0.95 * 400 for hit in hits.values()), hits


def test_latencies_are_of_the_window_and_of_all_engines(track: Track) -> None:
    found = fed(
        track,
        (100.0, reading(0.0, engines=2, ttft=(50, 50, 50, 50, 50))),
        (101.0, reading(9.0, engines=2, ttft=(50, 1050, 1050, 1050, 1050))),
    )
    ttft = found.latencies["ttft"]
    assert ttft.n == 2000
    assert ttft.mean == pytest.approx(0.2)
    assert (ttft.p50.low, ttft.p50.high) == (0.1, 0.25)


# -- what a server says of itself --------------------------------------------------------------


def test_limits_are_found_where_each_kind_tells_them() -> None:
    about = with_answer(About(), "/version", b'{"version": "0.33.0"}')
    about = with_answer(
        about, "/v1/models", json.dumps({"data": [{"id": "m", "max_model_len": 4096}]}).encode()
    )
    about = with_answer(
        about,
        "/server_info?config_format=json",
        json.dumps({"vllm_config": {"scheduler_config": {"max_num_seqs": 256}}}).encode(),
    )
    assert about == About("m", "0.33.0", {"max_num_seqs": 256, "max_model_len": 4096})
    sglang = with_answer(
        About(),
        "/get_server_info",
        b'{"version": "0.5", "model_path": "q", "max_running_requests": 32, "tp_size": 2}',
    )
    assert sglang.limits == {"max_num_seqs": 32, "tensor_parallel_size": 2}


def test_a_route_for_live_limits_is_noticed() -> None:
    about = with_answer(About(), "/v1/runtime_config", b'{"max_num_running_seqs": 64, "on": true}')
    assert about.live == {"max_num_running_seqs": 64}


@pytest.mark.parametrize("body", [b"", b"[]", b"<html>", b'{"version": 3}', b'{"data": [1]}'])
def test_nonsense_about_itself_changes_nothing(body: bytes) -> None:
    for route in ("/version", "/v1/models"):
        assert with_answer(About(), route, body) == About()


# -- all of them -------------------------------------------------------------------------------


class _Scrapes:
    def __init__(self) -> None:
        self.waiting: list[News] = []

    def news(self) -> list[News]:
        found, self.waiting = self.waiting, []
        return found


def test_only_what_is_of_now_is_counted_together() -> None:
    scrapes, now = _Scrapes(), [100.0]
    fleet = Fleet([HERE, Address("there", "http://there")], scrapes, 1.0, lambda: now[0])
    scrapes.waiting = [
        News(0, 100.0, reading(0.0)), News(1, 100.0, reading(0.0)),
        News(0, 101.0, reading(10.0)), News(1, 101.0, reading(30.0)),
    ]  # fmt: skip
    now[0] = 101.0
    looked = fleet.look()
    assert (looked.counted, looked.total.generated_per_s) == (2, 40.0)
    scrapes.waiting = [News(0, 106.0, reading(60.0)), News(1, 106.0, why="gone")]
    now[0] = 106.0
    looked = fleet.look()
    assert (looked.counted, looked.total.generated_per_s) == (1, 10.0)
    assert looked.servers[1].standing is Standing.STALE
