"""What servers serve: labels, names and limits as different releases and exporters have them."""

from __future__ import annotations

import json

import pytest

from tputtui.attach.about import About, with_answer
from tputtui.attach.address import parse_addresses
from tputtui.attach.reading import Reading, read_metrics
from tputtui.engine.target import target_of
from tputtui.errors import UsageError
from tputtui.profile import EngineSpec


def figures(*lines: str) -> tuple[dict[str, dict[str, float]], Reading]:
    found = read_metrics(("\n".join(lines) + "\n").encode())
    return {
        name: {**engine.gauges, **engine.counters} for name, engine in found.engines.items()
    }, found


def test_sglang_with_priorities_tells_the_sum_beside_its_parts() -> None:
    labels = 'model_name="m",tp_rank="0",pp_rank="0"'
    told, _ = figures(
        f'sglang:num_running_reqs{{{labels},priority=""}} 14.0',
        f'sglang:num_running_reqs{{{labels},priority="0"}} 9.0',
        f'sglang:num_running_reqs{{{labels},priority="5"}} 5.0',
        f'sglang:num_queue_reqs{{{labels},priority="0"}} 2.0',
        f'sglang:num_queue_reqs{{{labels},priority="5"}} 1.0',
        f'sglang:token_usage{{{labels},priority=""}} 0.5',
    )
    # Where no sum is told, the parts are added up.
    assert told == {"": {"running": 14.0, "waiting": 3.0, "kv_frac": 0.5}}


@pytest.mark.parametrize("sum_", ['priority="",source=""', 'priority="total"', ""])
def test_a_sum_is_known_by_its_empty_labels_whichever_they_are(sum_: str) -> None:
    told, _ = figures(
        f"vllm:num_requests_running{{{sum_}}} 6",
        'vllm:num_requests_running{priority="1",source="a"} 2',
        'vllm:num_requests_running{priority="1",source="b"} 1',
        'vllm:num_requests_running{priority="2",source="a"} 3',
    )
    assert told == {"": {"running": 6.0}}


def test_a_partial_sum_is_added_to_what_it_is_no_sum_of() -> None:
    told, _ = figures(
        'vllm:generation_tokens_total{model_name="a",adapter=""} 10',
        'vllm:generation_tokens_total{model_name="a",adapter="x"} 4',
        'vllm:generation_tokens_total{model_name="b",adapter="x"} 7',
    )
    assert told == {"": {"generated": 17.0}}


def test_engines_are_told_apart_and_their_sum_is_left_out() -> None:
    told, _ = figures(
        'vllm:num_requests_running{model_name="m"} 5',
        'vllm:num_requests_running{model_name="m",engine="0"} 2',
        'vllm:num_requests_running{model_name="m",engine="1"} 3',
    )
    assert {name: found.get("running") for name, found in told.items()} == {"0": 2.0, "1": 3.0}


def test_buckets_of_parts_are_not_counted_twice() -> None:
    lines = [
        f'sglang:time_to_first_token_seconds_bucket{{model_name="m",priority="{of}",le="{le}"}} {n}'
        for of, counts in (("", (3, 5)), ("0", (2, 3)), ("9", (1, 2)))
        for le, n in zip(("0.1", "+Inf"), counts, strict=True)
    ]
    _, found = figures(*lines)
    assert found.engines[""].histograms["ttft"].counts == (3.0, 5.0)


@pytest.mark.parametrize(
    ("prefix", "name"),
    [
        ("sglang:", "SGLang"),
        ("sglang_", "SGLang"),
    ],
)
def test_sglang_is_known_by_either_prefix(prefix: str, name: str) -> None:
    told, found = figures(
        f'{prefix}num_running_reqs{{model_name="m"}} 4',
        f'{prefix}generation_tokens_total{{model_name="m"}} 90',
    )
    assert found.dialect.name == name
    assert told == {"": {"running": 4.0, "generated": 90.0}}


@pytest.mark.parametrize("prefix", ["vllm:", "vllm_", "ray_vllm:", "ray_vllm_"])
def test_vllm_is_known_behind_ray_and_its_replicas_are_told_apart(prefix: str) -> None:
    told, found = figures(
        f'{prefix}num_requests_running{{ReplicaId="r1",engine="0",WorkerId="a"}} 4',
        f'{prefix}num_requests_running{{ReplicaId="r2",engine="0",WorkerId="b"}} 1',
        f'{prefix}cache_config_info{{num_gpu_blocks="100"}} 1',
        f"{prefix}generation_tokens_created 1700000000",
    )
    assert found.dialect.name == "vLLM"
    assert {name: found["running"] for name, found in told.items()} == {"r1/0": 4.0, "r2/0": 1.0}
    assert found.configured("num_gpu_blocks") == 100
    assert found.started == 1_700_000_000


def test_one_server_that_tells_by_two_prefixes_is_read_by_one() -> None:
    told, _ = figures("sglang:num_running_reqs 4", "sglang_num_running_reqs 4")
    assert told == {"": {"running": 4.0}}


def test_the_same_word_is_another_limit_in_another_server() -> None:
    sglang = with_answer(
        About(),
        "/get_server_info",
        json.dumps(
            {"max_total_tokens": None, "context_length": 32768, "max_running_requests": 64,
             "max_total_num_tokens": 481920}
        ).encode(),
    )  # fmt: skip
    assert sglang.limits == {
        "max_num_seqs": 64,
        "max_model_len": 32768,
        "kv_cache_tokens": 481920,
    }
    only_pool = with_answer(About(), "/get_server_info", b'{"max_total_tokens": 481920}')
    assert only_pool.limits == {"kv_cache_tokens": 481920}
    tgi = with_answer(
        About(),
        "/info",
        b'{"model_id": "m", "max_concurrent_requests": 128, "max_total_tokens": 4096,'
        b' "max_batch_total_tokens": 90000, "max_batch_prefill_tokens": 2048}',
    )
    assert tgi.limits == {
        "max_concurrent_requests": 128,
        "max_model_len": 4096,
        "max_batch_total_tokens": 90000,
        "max_batch_prefill_tokens": 2048,
    }


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("gpu{1..3}:8000", ["gpu1:8000", "gpu2:8000", "gpu3:8000"]),
        ("gpu{08..10}", ["gpu08", "gpu09", "gpu10"]),
        ("{a,b}.lan:8000", ["a.lan:8000", "b.lan:8000"]),
        ("r{1..2}g{a,b}:1", ["r1ga:1", "r1gb:1", "r2ga:1", "r2gb:1"]),
        ("r{3..1}:1", ["r3:1", "r2:1", "r1:1"]),
        ("http://h:{8000..8001}/p", ["h:8000/p", "h:8001/p"]),
        ("n{1..2}=h{1..2}:1", []),
        ("unix:/run/v{1..2}.sock", ["/run/v1.sock", "/run/v2.sock"]),
    ],
)
def test_braces_that_the_shell_left_are_expanded_as_it_would(text: str, names: list[str]) -> None:
    if not names:
        with pytest.raises(UsageError, match="Two servers are called"):
            parse_addresses([text])
        return
    assert [address.name for address in parse_addresses([text])] == names


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gpu{1..3:8000", "is not the address of a server"),
        ("gpu{}:8000", "is not the address of a server"),
        ("gpu{1}:8000", "is not the address of a server"),
        ("gpu{1..900000}:8000", "more than 64"),
        ("gpu..lan:8000", "is not the address of a server"),
        (f"{'g' * 70}:8000", "is not the address of a server"),
    ],
)
def test_what_cannot_be_a_host_is_refused_in_a_sentence(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse_addresses([text])


def test_a_load_is_for_one_server() -> None:
    with pytest.raises(UsageError, match="to one server"):
        target_of(EngineSpec("server:gpu{1..2}:8000"))
