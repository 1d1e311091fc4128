"""Arrival processes, shared prefixes, conversations and traces, as the generator hands them out."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.test_generator import SAME_BYTES
from tputtui.errors import UsageError
from tputtui.load.generator import Generator
from tputtui.load.request import RequestSpec
from tputtui.load.sections import from_texts
from tputtui.load.workload import ClosedLoop, Workload

VOCAB = 8192
BASE = Workload(ClosedLoop(4), pairs=((20, 10, 1.0),))


def load(**texts: str) -> Workload:
    return from_texts(BASE, {"prompt": "20", "output": "10"} | texts)


def started(now_s: float = 0.0, **texts: str) -> Generator:
    generator = Generator(load(**texts), VOCAB)
    generator.resume(now_s)
    return generator


def dues(generator: Generator, until_s: float, in_flight: int = 0) -> NDArray[np.float64]:
    return np.array([spec.due_s for spec in generator.due(until_s, in_flight, 4096)])


# -- arrivals ------------------------------------------------------------------------------------


def test_constant_arrivals_are_evenly_spaced() -> None:
    assert dues(started(arrivals="constant:4/s"), 2.0) == pytest.approx(np.arange(1, 9) / 4)


@pytest.mark.parametrize("burstiness", [0.25, 1.0, 16.0])
def test_gamma_gaps_have_the_rate_and_the_spread_of_their_burstiness(burstiness: float) -> None:
    gaps = np.diff(dues(started(arrivals=f"gamma({burstiness}):50/s"), 400.0))
    spread = 1 / math.sqrt(burstiness)
    assert abs(gaps.mean() * 50 - 1) < 4 * spread / math.sqrt(len(gaps))
    assert abs(gaps.std() / gaps.mean() / spread - 1) < 0.06


def test_a_constant_ramp_comes_at_the_square_roots() -> None:
    # 0 to 8/s in 8 s: t²/2 requests by t, so request n at √(2n).
    found = dues(started(arrivals="constant:0..8/s over 8s"), 8.0)
    assert found == pytest.approx(np.sqrt(2 * np.arange(1, 33)))


@pytest.mark.parametrize(
    ("arrivals", "until_s", "expected"),
    [
        ("20/s for 5s, 2 for 10s", 300.0, 20 * 120),
        ("10,20,40/s each 50s", 150.0, 70 * 50),
        ("5..50/s over 100s", 100.0, 27.5 * 100),
        ("5..50/s over 100s exp", 100.0, 45 / math.log(10) * 100),
        ("0s=5, 50s=15/s every 100s", 400.0, 10 * 400),
    ],
)
def test_a_curve_brings_as_many_as_the_area_under_it(
    arrivals: str, until_s: float, expected: int
) -> None:
    assert abs(len(dues(started(arrivals=arrivals), until_s)) - expected) < 4 * expected**0.5


def test_bursts_come_in_their_seconds_only() -> None:
    found = dues(started(arrivals="20/s for 5s, 0 for 10s"), 90.0)
    assert ((found % 15) <= 5).all()


def test_a_closed_loop_follows_its_steps_and_says_when_a_place_came_to_be() -> None:
    generator = started(arrivals="2,5 each 10s")
    assert len(dues(generator, 0.0)) == 2
    assert generator.next_due_s(2) == 10.0
    # The engine stalls over the step: the new places were due when it came.
    assert dues(generator, 13.0, in_flight=2).tolist() == [10.0, 10.0, 10.0]


def test_a_closed_ramp_brings_each_place_at_its_own_time() -> None:
    generator = started(arrivals="1..5 over 8s")
    assert dues(generator, 8.0, in_flight=0).tolist() == [0.0, 2.0, 4.0, 6.0, 8.0]


def test_turning_a_ramp_up_goes_on_where_it_was() -> None:
    generator = started(arrivals="0..10/s over 100s")
    dues(generator, 50.0)
    generator.change(load(arrivals="0..20/s over 100s"), 50.0)
    assert generator.wanted(50.0).level == pytest.approx(10.0)
    generator.change(load(arrivals="0..20/s over 10s"), 50.0)
    assert generator.wanted(50.0).level == 0.0


def test_what_was_due_before_a_change_or_a_hold_is_still_handed_out() -> None:
    stalled, steady = started(arrivals="constant:10/s"), started(arrivals="constant:10/s")
    expected = dues(steady, 5.0)
    stalled.change(load(arrivals="3"), 5.0)
    found = dues(stalled, 5.0, in_flight=3)
    assert found.tolist() == expected.tolist()
    held = started(arrivals="constant:10/s")
    held.hold(5.0)
    assert dues(held, 9.0).tolist() == expected.tolist()
    assert dues(held, 20.0).tolist() == []


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.floats(0.1, 3),
            st.sampled_from(
                ["constant:7/s", "constant:0/s", "constant:30/s", "constant:2..9/s over 5s"]
            ),
        ),
        max_size=12,
    )
)
def test_whatever_the_changes_as_many_arrive_as_the_area_under_the_rates(
    plan: list[tuple[float, str]],
) -> None:
    """Constant arrivals have no chance in them: the count is the area, to the last one."""
    from tputtui.load.levels import Curve
    from tputtui.load.workload import level_of

    generator, now_s, area, count = started(arrivals="constant:7/s"), 0.0, 0.0, 0
    curve, began_s = Curve(7.0), 0.0
    for wait_s, arrivals in plan:
        area += curve.area(now_s + wait_s - began_s) - curve.area(now_s - began_s)
        now_s += wait_s
        new = Curve(level_of(load(arrivals=arrivals).arrivals))
        if new.timing != curve.timing:
            began_s = now_s
        generator.change(load(arrivals=arrivals), now_s)
        curve = new
        count += len(generator.due(now_s, 0, 4096))
    assert count == math.floor(area + 1e-6) or count == math.floor(area - 1e-6)


# -- prefixes ------------------------------------------------------------------------------------


def test_a_share_of_the_prompts_begins_with_one_of_the_groups_prefixes() -> None:
    generator = started(arrivals="4000", prefix="share=0.7 tokens=32 groups=5 zipf=1")
    specs = generator.due(0.0, 0, 4096)
    with_prefix = [spec for spec in specs if spec.prompt_tokens == 52]
    assert abs(len(with_prefix) / 4000 - 0.7) < 0.03
    heads = [tuple(spec.token_ids()[:32]) for spec in with_prefix]
    popularity = sorted((heads.count(head) / len(heads) for head in set(heads)), reverse=True)
    harmonic = sum(1 / n for n in range(1, 6))
    assert popularity == pytest.approx([1 / n / harmonic for n in range(1, 6)], abs=0.03)
    tails = {tuple(spec.token_ids()[32:]) for spec in with_prefix}
    assert len(tails) == len(with_prefix)


def test_a_prefix_stays_when_the_prompt_is_clamped() -> None:
    whole = started(prefix="share=1 tokens=64").due(0.0, 0, 4096)[0]
    cut = started(prefix="share=1 tokens=64").due(0.0, 0, 71)[0]
    assert cut.clamped
    assert cut.prompt_tokens == 70
    assert (cut.token_ids() == whole.token_ids()[:70]).all()


# -- conversations -------------------------------------------------------------------------------


def test_a_turn_begins_with_all_that_was_said_and_waits_for_the_person_to_think() -> None:
    generator = started(arrivals="1", sessions="turns=3 think=0s")
    (first,) = generator.due(0.0, 0, 4096)
    assert generator.due(1.0, 1, 4096) == []
    answer = list(range(100, 110))
    generator.ended(first.number, 2.0, 10, answer)
    (second,) = generator.due(2.0, 0, 4096)
    assert (second.turn, second.due_s) == (1, 2.0)
    said = [*first.token_ids().tolist(), *answer]
    assert second.token_ids().tolist()[:30] == said
    assert second.prompt_tokens == 30 + 20
    generator.ended(second.number, 3.0, 10, answer)
    (third,) = generator.due(3.0, 0, 4096)
    generator.ended(third.number, 4.0, 10, answer)
    (other,) = generator.due(4.0, 0, 4096)
    assert (other.turn, other.prompt_tokens) == (0, 20)


def test_thinking_is_exponential_with_its_mean_and_keeps_the_place_of_a_closed_loop() -> None:
    generator = started(arrivals="2000", sessions="turns=2 think=5s")
    for spec in generator.due(0.0, 0, 4096):
        generator.ended(spec.number, 1.0, 10, ())
    assert generator.due(1.0, 0, 4096) == []
    waits = np.array([spec.due_s for spec in generator.due(200.0, 0, 4096)]) - 1.0
    assert len(waits) == 2000
    assert abs(waits.mean() - 5) < 0.5
    assert abs(waits.std() - 5) < 0.6


def test_an_open_loop_brings_conversations_and_their_turns_come_besides() -> None:
    generator = started(arrivals="constant:1/s", sessions="turns=2 think=0s")
    (first,) = generator.due(1.0, 0, 4096)
    generator.ended(first.number, 1.5, 10, ())
    assert [spec.turn for spec in generator.due(2.0, 0, 4096)] == [1, 0]


def test_a_lost_answer_and_a_full_context_end_a_conversation() -> None:
    generator = started(arrivals="1", sessions="turns=9 think=0s")
    (first,) = generator.due(0.0, 0, 4096)
    generator.lost(first.number, 1.0)
    (second,) = generator.due(1.0, 0, 4096)
    assert second.turn == 0
    generator.ended(second.number, 2.0, 10, ())
    # 20 + 10 + 20 prompt tokens leave no room for an answer within 50.
    assert [spec.turn for spec in generator.due(2.0, 0, 50)] in ([], [0])
    assert [spec.turn for spec in generator.due(2.5, 0, 50)] in ([], [0])


def test_a_lowered_closed_loop_lets_thinking_people_go() -> None:
    generator = started(arrivals="10", sessions="turns=5 think=100s")
    for spec in generator.due(0.0, 0, 4096):
        generator.ended(spec.number, 1.0, 10, ())
    generator.change(load(arrivals="4", sessions="turns=5 think=100s"), 2.0)
    assert generator.due(2.0, 0, 4096) == []
    assert len(generator.due(5000.0, 0, 4096)) == 4


# -- traces --------------------------------------------------------------------------------------


@pytest.fixture
def azure(tmp_path: Path) -> Path:
    path = tmp_path / "azure.csv"
    path.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 18:15:46.0000000,374,44\n"
        "2023-11-16 18:15:48.5000000,396,109\n"
        "2023-11-16 18:15:52.0000000,879,55\n"
    )
    return path


def test_a_trace_comes_at_its_own_times_and_then_ends(azure: Path) -> None:
    generator = started(now_s=100.0, trace=str(azure), prompt="none", output="none")
    assert dues(generator, 101.0).tolist() == [100.0]
    assert generator.next_due_s(1) == 102.5
    specs = generator.due(200.0, 1, 4096)
    assert [(s.due_s, s.prompt_tokens, s.output_tokens) for s in specs] == [
        (102.5, 396, 109),
        (106.0, 879, 55),
    ]
    assert generator.exhausted
    assert generator.failure is None
    assert generator.next_due_s(0) == math.inf


def test_a_trace_is_replayed_faster_at_a_rate_or_in_flight_and_over_and_over(azure: Path) -> None:
    def of(arrivals: str, until_s: float, extra: str = "") -> list[RequestSpec]:
        return started(
            arrivals=arrivals, trace=f"{azure}{extra}", prompt="none", output="none"
        ).due(until_s, 0, 4096)

    assert [s.due_s for s in of("recorded x2", 9.0)] == [0.0, 1.25, 3.0]
    assert [s.due_s for s in of("constant:1/s", 9.0)] == [1.0, 2.0, 3.0]
    assert [s.prompt_tokens for s in of("2", 0.0)] == [374, 396]
    # A round of 6 s with gaps of 3 s on average: the next one starts 9 s after the first.
    again = [s.due_s for s in of("recorded", 16.0, " repeat")]
    assert again == [0.0, 2.5, 6.0, 9.0, 11.5, 15.0]


def test_a_held_trace_goes_on_where_it_was_and_a_new_speed_takes_effect_at_once(
    azure: Path,
) -> None:
    generator = started(trace=str(azure), prompt="none", output="none")
    generator.due(1.0, 0, 4096)
    generator.hold(1.0)
    generator.resume(11.0)
    assert generator.next_due_s(0) == 12.5
    generator.change(
        load(arrivals="recorded x3", trace=str(azure), prompt="none", output="none"), 11.0
    )
    assert generator.next_due_s(0) == pytest.approx(11.5)


def test_mooncake_blocks_are_shared_prefixes(tmp_path: Path) -> None:
    path = tmp_path / "mooncake.jsonl"
    rows = [
        {"timestamp": 0, "input_length": 1200, "output_length": 5, "hash_ids": [7, 8, 9]},
        {"timestamp": 9, "input_length": 1100, "output_length": 5, "hash_ids": [7, 8, 10]},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    one, two = started(trace=str(path), prompt="none", output="none").due(1.0, 0, 4096)
    assert (one.token_ids()[:1024] == two.token_ids()[:1024]).all()
    assert (one.token_ids()[1024:1100] != two.token_ids()[1024:]).any()


def test_two_processes_make_the_same_prompts_of_a_trace(tmp_path: Path) -> None:
    path = tmp_path / "mooncake.jsonl"
    row = {"timestamp": 0, "input_length": 900, "output_length": 5, "hash_ids": [3, 4]}
    rows = [row | {"timestamp": i * 10, "hash_ids": [3, i]} for i in range(40)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = {
        subprocess.run(
            [sys.executable, "-c", SAME_BYTES, repr({"trace": str(path)})],
            capture_output=True, text=True, check=True,
        ).stdout
        for _ in range(2)
    }  # fmt: skip
    assert len(made) == 1
    assert made.pop().startswith("40 ")


def test_a_bad_line_ends_the_load_and_names_file_and_line(azure: Path) -> None:
    azure.write_text(azure.read_text() + "2023-11-16 18:15:53.0000000,many,3\n")
    generator = started(trace=str(azure), prompt="none", output="none")
    assert len(generator.due(50.0, 0, 4096)) == 3
    assert generator.exhausted
    assert "azure.csv: line 5" in str(generator.failure)


def test_a_trace_that_has_gone_ends_the_load_and_one_that_is_new_leaves_it_alone(
    azure: Path,
) -> None:
    replay = load(trace=str(azure), prompt="none", output="none")
    azure.unlink()
    gone = Generator(replay, VOCAB)
    assert gone.exhausted
    assert "azure.csv" in str(gone.failure)
    generator = started(arrivals="3")
    with pytest.raises(UsageError, match=r"azure\.csv"):
        generator.change(replay, 1.0)
    assert len(generator.due(1.0, 0, 4096)) == 3
