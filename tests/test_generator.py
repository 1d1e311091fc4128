"""The load generator: repeatable, honest about when a request was due, exact under live changes."""

import math
import subprocess
import sys
from contextlib import closing
from itertools import islice

import numpy as np
import pytest

from tputtui.errors import UsageError
from tputtui.load.generator import Generator
from tputtui.load.lengths import Fixed, Lengths, LogNormal, Uniform
from tputtui.load.notation import describe_lengths, parse_lengths
from tputtui.load.request import RequestSpec
from tputtui.load.sections import from_texts
from tputtui.load.workload import Arrivals, ClosedLoop, Poisson, Workload

VOCAB = 8192


def workload(
    arrivals: Arrivals,
    prompt: Lengths = Fixed(32),  # noqa: B008 - frozen value
    output: Lengths = Fixed(8),  # noqa: B008 - frozen value
    seed: int = 0,
) -> Workload:
    return Workload(arrivals=arrivals, prompt=prompt, output=output, seed=seed)


def started(load: Workload, now_s: float = 0.0) -> Generator:
    generator = Generator(load, VOCAB)
    generator.resume(now_s)
    return generator


def ids(specs: list[RequestSpec]) -> list[list[int]]:
    return [spec.token_ids().tolist() for spec in specs]


def test_closed_loop_keeps_n_in_flight_and_due_is_when_a_place_became_free() -> None:
    generator = started(workload(ClosedLoop(4)), now_s=1.0)
    first = generator.due(1.0, in_flight=0, max_model_len=4096)
    assert [spec.due_s for spec in first] == [1.0] * 4
    assert generator.due(2.0, in_flight=4, max_model_len=4096) == []
    generator.lost(0, 2.5)
    generator.lost(1, 2.75)
    later = generator.due(3.0, in_flight=2, max_model_len=4096)
    assert [spec.due_s for spec in later] == [2.5, 2.75]


def test_lowering_concurrency_refills_nothing_and_raising_it_is_due_now() -> None:
    generator = started(workload(ClosedLoop(8)))
    generator.due(0.0, 0, 4096)
    generator.change(workload(ClosedLoop(2)), 1.0)
    for _ in range(6):
        generator.lost(0, 1.5)
    assert generator.due(2.0, in_flight=2, max_model_len=4096) == []
    generator.change(workload(ClosedLoop(5)), 3.0)
    assert [spec.due_s for spec in generator.due(3.0, 2, 4096)] == [3.0] * 3


def test_poisson_arrivals_have_the_rate_and_the_spread_of_a_poisson_process() -> None:
    generator = started(workload(Poisson(50.0)))
    due = np.array([spec.due_s for spec in generator.due(400.0, 0, 4096)])
    gaps = np.diff(due)
    assert abs(len(due) / 400.0 - 50.0) < 4 * math.sqrt(50 / 400)
    assert abs(gaps.std() / gaps.mean() - 1.0) < 0.05


def test_a_stalled_engine_finds_every_arrival_with_its_own_due_time() -> None:
    stalled = started(workload(Poisson(20.0)))
    polled = started(workload(Poisson(20.0)))
    late = [spec.due_s for spec in stalled.due(10.0, 0, 4096)]
    prompt = [s.due_s for i in range(1, 1001) for s in polled.due(i / 100, 0, 4096)]
    assert late == prompt


def test_a_rate_change_neither_loses_nor_doubles_arrivals() -> None:
    changed = started(workload(Poisson(10.0)))
    n = 0
    for second in range(200):
        for tenth in range(10):
            n += len(changed.due(second + tenth / 10, 0, 4096))
            rate = 10.0 if (second + tenth) % 2 else 30.0
            changed.change(workload(Poisson(rate)), second + tenth / 10)
    assert abs(n - 200 * 20) < 4 * math.sqrt(200 * 20)


def test_hold_brings_no_backlog() -> None:
    generator = started(workload(Poisson(10.0)))
    generator.hold(0.0)
    assert generator.due(100.0, 0, 4096) == []
    assert generator.next_due_s(0) == math.inf
    generator.resume(100.0)
    assert all(100.0 < spec.due_s <= 101.0 for spec in generator.due(101.0, 0, 4096))


@pytest.mark.parametrize("arrivals", [ClosedLoop(0), Poisson(0.0)])
def test_no_load_is_never_due(arrivals: ClosedLoop | Poisson) -> None:
    generator = started(workload(arrivals))
    assert generator.next_due_s(0) == math.inf
    assert generator.due(1e6, 0, 4096) == []


def test_lengths_follow_their_distribution() -> None:
    generator = started(workload(ClosedLoop(4000), LogNormal(200, 0.5, 16, 2048), Uniform(8, 64)))
    specs = generator.due(0.0, 0, 1_000_000)
    prompts = np.array([spec.prompt_tokens for spec in specs])
    outputs = np.array([spec.output_tokens for spec in specs])
    assert abs(np.median(prompts) - 200) < 8
    assert abs(np.log(prompts).std() - 0.5) < 0.03
    assert prompts.min() >= 16
    assert prompts.max() <= 2048
    assert (outputs.min(), outputs.max()) == (8, 64)


def test_lengths_are_clamped_to_the_limit_and_say_so() -> None:
    generator = started(workload(ClosedLoop(3), Fixed(100), Fixed(50)))
    for spec in generator.due(0.0, 0, 120):
        assert (spec.prompt_tokens, spec.output_tokens, spec.clamped) == (100, 20, True)
    generator.change(workload(ClosedLoop(4), Fixed(100), Fixed(50)), 1.0)
    (spec,) = generator.due(1.0, 3, 64)
    assert (spec.prompt_tokens, spec.output_tokens) == (63, 1)


def test_prompts_share_no_prefix() -> None:
    specs = started(workload(ClosedLoop(2000))).due(0.0, 0, 4096)
    assert len({tuple(spec.token_ids()[:8]) for spec in specs}) == 2000


def test_request_i_is_the_same_whatever_the_timing_and_the_limits() -> None:
    closed = started(workload(ClosedLoop(50), Uniform(10, 90))).due(0.0, 0, 4096)
    spread = started(workload(Poisson(5.0), Uniform(10, 90))).due(100.0, 0, 64)[:50]
    for a, b in zip(closed, spread, strict=True):
        assert (a.token_ids()[: b.prompt_tokens] == b.token_ids()).all()


SAME_BYTES = """
import hashlib, sys
from tputtui.load.generator import Generator
from tputtui.load.sections import from_texts
from tputtui.load.workload import Poisson, Workload
base = Workload(Poisson(9.0), pairs=((9, 9, 1),), seed=7)
generator = Generator(from_texts(base, eval(sys.argv[1])), 8192)
generator.resume(0.0)
made = [(s.due_s, s.output_tokens, s.token_ids().tolist()) for s in generator.due(60, 0, 4096)]
print(len(made), hashlib.sha256(repr(made).encode()).hexdigest())
"""


@pytest.mark.parametrize(
    "texts",
    [
        {"prompt": "64~1.0", "output": "1-9"},
        {"arrivals": "gamma(0.3):9/s", "prompt": "zipf:1.1[1-500]", "output": "normal:20±5",
         "prefix": "share=0.7 tokens=64 groups=9"},
    ],
)  # fmt: skip
def test_two_processes_make_the_same_bytes(texts: dict[str, str]) -> None:
    runs = {
        subprocess.run(
            [sys.executable, "-c", SAME_BYTES, repr(texts)],
            capture_output=True, text=True, check=True,
        ).stdout
        for _ in range(2)
    }  # fmt: skip
    assert len(runs) == 1
    assert int(runs.pop().split()[0]) > 300


def test_a_new_seed_waits_for_the_next_start() -> None:
    changed = started(workload(ClosedLoop(2), seed=1))
    kept = started(workload(ClosedLoop(2), seed=1))
    changed.change(workload(ClosedLoop(2), seed=2), 0.0)
    first = changed.due(0.0, 0, 4096)
    assert ids(first) == ids(kept.due(0.0, 0, 4096))
    changed.restart()
    changed.resume(1.0)
    assert ids(changed.due(1.0, 0, 4096)) != ids(first)


@pytest.mark.parametrize("text", ["256", "64-512", "256~0.5", "256~0.5[16-2048]"])
def test_lengths_read_back_as_written(text: str) -> None:
    assert describe_lengths(parse_lengths(text)) == text


@pytest.mark.parametrize("text", ["", "abc", "0", "-5", "512-64", "5~9~1", "1.5", "64~99", "²"])
def test_other_lengths_are_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(UsageError) as refusal:
        parse_lengths(text)
    assert text.strip() in str(refusal.value)


@pytest.mark.parametrize(
    "texts",
    [
        {"arrivals": "40"}, {"arrivals": "200/s"}, {"arrivals": "5..60 over 3s"},
        {"arrivals": "30", "sessions": "turns=1-4 think=0.1s"},
        {"arrivals": "40/s", "sessions": "turns=1-4 think=0.1s"},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("at_once", [1, 3])
def test_whoever_takes_a_few_at_a_time_gets_the_same_requests_with_the_same_due_times(
    texts: dict[str, str], at_once: int
) -> None:
    def played(at_once: int | None) -> list[tuple[int, float, int, int]]:
        generator = Generator(from_texts(workload(ClosedLoop(1)), texts), vocab_size=1000)
        generator.resume(0.0)
        seen: list[tuple[int, float, int, int]] = []
        flying: list[tuple[float, int]] = []
        for tick in range(1, 400):
            now_s = tick / 50
            while True:
                with closing(generator.arriving(now_s, len(flying), 4096)) as arriving:
                    taken = list(islice(arriving, at_once))
                for spec in taken:
                    seen.append((spec.number, spec.due_s, spec.prompt_tokens, spec.turn))
                    flying.append((now_s + 0.2, spec.number))
                if at_once is None or len(taken) < at_once:
                    break
            for end_s, number in [f for f in flying if f[0] <= now_s]:
                flying.remove((end_s, number))
                generator.ended(number, end_s, 5, ())
        return seen

    assert played(at_once) == played(None)


def test_fewer_places_are_not_filled_by_those_that_were_not_taken() -> None:
    generator = Generator(workload(ClosedLoop(1000)), vocab_size=1000)
    generator.resume(0.0)
    with closing(generator.arriving(0.0, 0, 4096)) as arriving:
        taken = list(islice(arriving, 10))
    generator.change(workload(ClosedLoop(12)), 0.1)
    assert len(taken) == 10
    assert len(generator.due(0.2, 10, 4096)) == 2
