"""Classes of traffic with arrivals of their own, beside those of the load."""

from __future__ import annotations

import math
from collections import Counter
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tests.rig import Rig
from tests.test_sweeping import swept_to_its_end
from tputtui import cli
from tputtui.cli.asked import asked_of
from tputtui.cli.bench import parser
from tputtui.cli.options import parsed
from tputtui.errors import ProfileError, UsageError
from tputtui.experiments.sweeping import Sweeping
from tputtui.experiments.tuner.plan import Plan
from tputtui.frame.proof import measured
from tputtui.goals import Goal
from tputtui.load.generator import Generator
from tputtui.load.lengths import Fixed
from tputtui.load.members import OWN, members_of
from tputtui.load.merged import MergedGenerator, changed, generator_of
from tputtui.load.notation import describe_all_arrivals
from tputtui.load.preview import preview
from tputtui.load.request import REFUSED_WAIT_S, RequestSpec
from tputtui.load.sections import difference, form_of, from_texts, to_texts
from tputtui.load.workload import Poisson, Sessions, Workload, at_level, scaled
from tputtui.measure.history import History
from tputtui.measure.recorder import ENDED
from tputtui.profile import EngineSpec, Profile
from tputtui.profile.document import dump, parse
from tputtui.text.format import rate
from tputtui.ui.command_line import carry_out
from tputtui.ui.panels.header import header
from tputtui.ui.panels.latency import latency
from tputtui.ui.panels.preview import preview_title
from tputtui.ui.panels.throughput import throughput

BASE = Workload(Poisson(10.0), Fixed(100), Fixed(50))
MAKE = partial(Generator, vocab_size=8192)
TEXT = "chat at=8/s prompt=64 output=20 priority=1; batch at=16 in flight prompt=900 output=120"


def load_of(classes: str, **texts: str) -> Workload:
    return from_texts(BASE, {"classes": classes, **texts})


def started(load: Workload, now_s: float = 0.0) -> MergedGenerator:
    generator = generator_of(load, MAKE)
    assert isinstance(generator, MergedGenerator)
    generator.resume(now_s)
    return generator


def kinds(requests: list[RequestSpec]) -> Counter[str]:
    return Counter(request.carried.label.traffic for request in requests)


def plain(requests: list[RequestSpec]) -> list[tuple[object, ...]]:
    return [(r.number, r.due_s, r.ids(), r.output_tokens, r.carried) for r in requests]


class Client:
    """Serves a generator in steps of `step_s`; each request takes `takes_s`."""

    def __init__(self, generator: Generator | MergedGenerator, takes_s: float = 1.0) -> None:
        self.generator = generator
        self.takes_s = takes_s
        self.now_s = 0.0
        self.sent: list[RequestSpec] = []
        self.in_flight: dict[int, tuple[float, RequestSpec]] = {}

    def run(self, seconds: float, step_s: float = 0.1) -> list[RequestSpec]:
        before, end_s = len(self.sent), self.now_s + seconds
        while self.now_s < end_s - 1e-9:
            self.now_s += step_s
            for number, (end, request) in list(self.in_flight.items()):
                if end <= self.now_s:
                    del self.in_flight[number]
                    self.generator.ended(number, end, request.output_tokens, ())
            for request in self.generator.due(self.now_s, len(self.in_flight), 4096):
                assert request.number not in self.in_flight
                self.sent.append(request)
                self.in_flight[request.number] = self.now_s + self.takes_s, request
        return self.sent[before:]

    def under_way(self) -> Counter[str]:
        return kinds([request for _, request in self.in_flight.values()])


# -- what arrives --------------------------------------------------------------------------------


def test_without_such_classes_it_is_the_plain_generator() -> None:
    for load in (BASE, load_of("chat share=0.5; batch share=0.5")):
        assert isinstance(generator_of(load, MAKE), Generator)
        assert members_of(load) == {OWN: load}


def test_each_class_has_its_own_arrivals_lengths_and_priority() -> None:
    client = Client(started(load_of(TEXT)))
    requests = client.run(60)
    by_kind = kinds(requests)
    assert by_kind.keys() == {"chat", "batch"}
    assert abs(by_kind["chat"] / 60 - 8) < 4 * math.sqrt(8 / 60)
    assert client.under_way()["batch"] == 16
    for each in requests:
        chat = each.carried.label.traffic == "chat"
        assert (each.prompt_tokens, each.output_tokens) == ((64, 20) if chat else (900, 120))
        assert each.carried.priority == (1 if chat else None)


def test_what_has_a_share_divides_the_loads_own_arrivals_as_it_would_alone() -> None:
    shared = "chat share=0.7 prompt=64 output=20; mail share=0.3"
    alone = generator_of(load_of(shared), MAKE)
    alone.resume(0.0)
    beside = started(load_of(f"{shared}; batch at=4/s"))
    requests = beside.due(30.0, 0, 4096)
    mine = [r for r in requests if r.carried.label.traffic != "batch"]
    assert [(r.due_s, r.ids(), r.carried) for r in mine] == [
        (r.due_s, r.ids(), r.carried) for r in alone.due(30.0, 0, 4096)
    ]
    assert 60 < len(requests) - len(mine) < 180


def test_they_come_in_the_order_of_their_due_times_under_numbers_in_a_row() -> None:
    requests = started(load_of("a at=5/s; b at=constant:3/s; c share=1")).due(40.0, 0, 4096)
    assert [r.number for r in requests] == list(range(len(requests)))
    assert all(one.due_s <= next_one.due_s for one, next_one in pairwise(requests))
    assert kinds(requests)["b"] == 120


def test_a_seed_repeats_and_two_classes_share_no_prompt() -> None:
    load = load_of("a at=5/s; b at=5/s; c share=1", prefix="share=1 tokens=32")
    first = plain(started(load).due(20.0, 0, 4096))
    assert plain(started(load).due(20.0, 0, 4096)) == first
    again = started(load)
    again.due(7.0, 0, 4096)
    again.restart()
    assert again.held
    again.resume(0.0)
    assert plain(again.due(20.0, 0, 4096)) == first
    prefixes: dict[str, set[tuple[int, ...]]] = {}
    for request in started(load).due(20.0, 0, 4096):
        prefixes.setdefault(request.carried.label.traffic, set()).add(tuple(request.ids()[:32]))
    assert [len(each) for each in prefixes.values()] == [1, 1, 1]
    assert len(set.union(*prefixes.values())) == 3


def test_one_more_class_leaves_the_requests_of_the_others_as_they_are() -> None:
    two = started(load_of("a at=5/s; c share=1")).due(20.0, 0, 4096)
    three = started(load_of("b at=5/s; a at=5/s; c share=1")).due(20.0, 0, 4096)
    for name in "ac":
        assert [
            (r.due_s, r.ids()) for r in two if r.carried.label.traffic == name
        ] == [(r.due_s, r.ids()) for r in three if r.carried.label.traffic == name]  # fmt: skip


def test_a_closed_loop_counts_its_own_requests_beside_an_open_one() -> None:
    client = Client(started(load_of("chat at=40/s; batch at=3; people at=5")), takes_s=0.7)
    client.run(5)
    for _ in range(50):
        client.run(0.1)
        assert client.under_way()["batch"] == 3
        assert client.under_way()["people"] == 5
    assert client.under_way()["chat"] > 10


def test_the_loads_own_closed_loop_does_too() -> None:
    client = Client(started(load_of("all share=1; chat at=20/s", arrivals="6")))
    for _ in range(60):
        client.run(0.1)
        assert client.under_way()["all"] == 6


@pytest.mark.parametrize("taken", [1, 2, 5, 9])
def test_closed_early_neither_loses_nor_doubles_a_request(taken: int) -> None:
    load = load_of("a at=5/s; b at=3/s; d at=4; c share=1")
    whole = plain(started(load).due(20.0, 0, 4096))
    generator = started(load)
    got: list[RequestSpec] = []
    while True:
        in_flight = len(got)
        arriving = generator.arriving(20.0, in_flight, 4096)
        some = [request for _, request in zip(range(taken), arriving, strict=False)]
        arriving.close()
        if not some:
            break
        assert generator.next_due_s(in_flight + len(some)) == math.inf or len(got) < len(whole)
        got += some
    assert plain(got) == whole


def test_a_request_made_before_a_limit_was_lowered_is_cut() -> None:
    generator = started(load_of("a at=constant:1/s; b at=constant:1/s", arrivals="0"))
    arriving = generator.arriving(1.0, 0, 4096)
    first = next(arriving)
    arriving.close()
    (second,) = generator.due(1.0, 1, 120)
    assert (first.prompt_tokens, first.output_tokens, first.clamped) == (100, 50, False)
    assert (second.prompt_tokens, second.output_tokens, second.clamped) == (100, 20, True)
    assert len(second.ids()) == 100


def test_a_client_that_was_refused_keeps_its_place_in_its_own_class() -> None:
    generator = started(load_of("a at=2; b at=2", arrivals="0"))
    refused = 0
    for request in generator.arriving(0.0, 0, 4096):
        if request.carried.label.traffic == "a":
            generator.lost(request.number, 0.0)
            refused += 1
    assert refused == 2
    assert generator.due(0.2, 4, 4096) == []
    assert generator.next_due_s(4) == math.inf
    again = generator.due(REFUSED_WAIT_S, 2, 4096)
    assert kinds(again) == {"a": 2}


def test_conversations_go_on_in_their_class() -> None:
    load = load_of("talk at=2; batch at=5/s", arrivals="0")
    client = Client(started(Workload(**{
        **{name: getattr(load, name) for name in Workload.__struct_fields__},
        "sessions": Sessions(Fixed(3), 0.5),
    })))  # fmt: skip
    requests = [r for r in client.run(40) if r.carried.label.traffic == "talk"]
    turns = Counter(r.turn for r in requests)
    assert turns.keys() == {0, 1, 2}
    assert turns[0] - turns[2] <= 2
    assert {r.prompt_tokens for r in requests if r.turn == 2} == {100 + 2 * 150}


# -- changed while it runs -----------------------------------------------------------------------


def test_a_plain_load_goes_on_inside_one_with_such_classes() -> None:
    """The load's own requests are those that they would have been, ends of before included."""
    base = load_of("all share=1", arrivals="6")
    undisturbed = Client(generator_of(base, MAKE))
    undisturbed.generator.resume(0.0)
    client = Client(generator_of(base, MAKE))
    client.generator.resume(0.0)
    for each in (undisturbed, client):
        each.run(3)
    client.generator = changed(
        client.generator, load_of("all share=1; chat at=20/s", arrivals="6"), MAKE, client.now_s
    )
    for each in (undisturbed, client):
        each.run(5)
    assert isinstance(client.generator, MergedGenerator)
    assert kinds(client.sent)["chat"] > 50
    mine = [r for r in client.sent if r.carried.label.traffic == "all"]
    assert [(r.due_s, r.ids()) for r in mine] == [(r.due_s, r.ids()) for r in undisturbed.sent]
    client.generator = changed(client.generator, base, MAKE, client.now_s)
    client.run(3)
    assert client.under_way() == {"all": 6}


def test_rates_turned_live_neither_lose_nor_double_arrivals() -> None:
    generator, n = started(load_of("a at=10/s; b share=1")), Counter[str]()
    for tenth in range(2000):
        n += kinds(generator.due(tenth / 10, 0, 4096))
        rates = (10, 30) if tenth % 2 else (30, 10)
        load = load_of(f"a at={rates[0]}/s; b share=1", arrivals=f"{rates[1]}/s")
        generator.change(load, tenth / 10)
    for each in n.values():
        assert abs(each - 200 * 20) < 4 * math.sqrt(200 * 20)


def test_a_class_that_leaves_sends_what_was_due_and_comes_back_where_it_was() -> None:
    with_it, without = load_of("a at=constant:10/s; b share=1"), load_of("b share=1")
    generator = started(with_it)
    seen = [r for r in generator.due(1.0, 0, 4096) if r.carried.label.traffic == "a"]
    generator.change(without, 2.0)
    late = generator.due(5.0, 0, 4096)
    seen += (mine := [r for r in late if r.carried.label.traffic == "a"])
    assert [r.due_s for r in mine] == pytest.approx(np.arange(1.1, 2.05, 0.1))
    generator.change(with_it, 6.0)
    seen += [r for r in generator.due(7.0, 0, 4096) if r.carried.label.traffic == "a"]
    assert len({tuple(r.ids()) for r in seen}) == len(seen) == 30


def test_a_class_turned_from_a_share_to_arrivals_and_back() -> None:
    client = Client(started(load_of("a share=1; b at=5")))
    client.run(3)
    client.generator.change(load_of("a at=3; b at=5", arrivals="0"), client.now_s)
    client.run(3)
    assert client.under_way() == {"a": 3, "b": 5}
    client.generator.change(load_of("a at=7; b at=1", arrivals="0"), client.now_s)
    client.run(3)
    assert client.under_way() == {"a": 7, "b": 1}


def test_held_together_and_no_backlog_after_it() -> None:
    generator = started(load_of("a at=10/s; b share=1"))
    generator.due(5.0, 0, 4096)
    generator.hold(5.0)
    assert generator.held
    assert generator.due(100.0, 0, 4096) == []
    assert generator.next_due_s(0) == math.inf
    generator.change(load_of("a at=10/s; b share=1; c at=10/s"), 100.0)
    assert generator.due(150.0, 0, 4096) == []
    generator.resume(200.0)
    after = generator.due(201.0, 0, 4096)
    assert kinds(after).keys() == {"a", "b", "c"}
    assert min(r.due_s for r in after) >= 200.0


def test_the_load_wanted_is_constant_since_all_of_it_is() -> None:
    generator = started(load_of("a at=8/s; b share=1"))
    assert generator.wanted(5.0).level == 18.0
    generator.change(load_of("a at=8..16/s over 10s; b share=1"), 10.0)
    assert generator.wanted(15.0).since_s == 15.0
    assert generator.wanted(25.0) == (26.0, 20.0, 0.0)
    generator.hold(30.0)
    assert generator.wanted(31.0).level == 0.0


# -- as text, in a profile, and on the screen ----------------------------------------------------


def test_it_is_written_as_it_is_read() -> None:
    load = load_of(TEXT, arrivals="0")
    assert to_texts(load)["classes"] == TEXT
    assert from_texts(BASE, to_texts(load)) == load
    curved = "a at=20/s for 5s, 2 for 10s prompt=9 output=9 goal=ttft_p99=1s,e2e_p95=9s; b share=1"
    assert to_texts(load_of(curved))["classes"] == curved
    profile = Profile(EngineSpec("shape:demo"), load_of(curved))
    assert parse(dump(profile), "x") == profile
    assert "class" in difference(BASE, load)
    assert form_of("classes", TEXT) == "one beside"


def test_all_arrivals_are_said_wherever_a_load_is_described() -> None:
    assert describe_all_arrivals(BASE) == "10/s"
    assert describe_all_arrivals(load_of(TEXT)) == "chat 8/s + batch 16 in flight"
    assert describe_all_arrivals(load_of("a at=8/s; b share=1")) == "10/s + a 8/s"


def test_all_arrivals_are_scaled_together() -> None:
    more = scaled(load_of("a at=8/s; c at=4/s each 5s; b share=1", arrivals="16"), 1)
    assert describe_all_arrivals(more) == "20 in flight + a 10/s + c 5/s each 5s"
    assert describe_all_arrivals(scaled(load_of(TEXT), -1)) == "chat 6.4/s + batch 13 in flight"
    said = difference(load_of(TEXT), scaled(load_of(TEXT), 1))
    assert said == "load chat 8/s + batch 16 in flight → chat 10/s + batch 20 in flight"
    said = difference(load_of("a at=8/s; b share=1"), load_of("a at=8/s; b share=1; c share=2"))
    assert said.startswith("classes a at=8/s; b share=1 → ")
    many = "; ".join(f"c{n} share=1 prompt=9 output=9" for n in range(9))
    assert difference(BASE, load_of(many)) == "classes none → c0, c1, c2, 6 more"
    other = many.replace("c3 share=1", "c3 share=2").replace("c8 share=1 p", "c8 share=3 p")
    said = difference(load_of(many), load_of(other))
    assert said == "classes c3 share=1 → share=2, c8 share=1 → share=3"
    half = at_level(load_of(TEXT), 4.0)
    assert describe_all_arrivals(half) == "chat 4/s + batch 8 in flight"
    odd = at_level(load_of("a at=6/s; b share=1", arrivals="2/s"), 2.43)
    assert describe_all_arrivals(odd) == "2.43/s + a 7.29/s"
    assert at_level(BASE, 4.0) == from_texts(BASE, {"arrivals": "4/s"})


def test_a_sweep_and_the_tuner_take_all_arrivals_to_a_level() -> None:
    sweep = Sweeping(load_of(TEXT), 0.0)
    assert sweep.state.named == "chat 1/s + batch 2 in flight"
    assert describe_all_arrivals(sweep.before) == "chat 8/s + batch 16 in flight"
    with pytest.raises(UsageError, match="constant load"):
        Sweeping(load_of("a at=1..9/s over 60s; b share=1"), 0.0)
    goals = (Goal("ttft", 99, 1.0),)
    Plan(load=True).check(load_of(TEXT), goals)
    with pytest.raises(UsageError, match="constant one"):
        Plan(load=True).check(load_of("a at=1..9/s over 60s; b share=1"), goals)


@pytest.mark.parametrize(
    ("classes", "arrivals", "wrong"),
    [
        ("a at=8/s share=1", "8/s", "Class a: give a share, or arrivals of its own"),
        ("a prompt=8 output=8", "8/s", "Class a: give a share, or arrivals of its own"),
        ("a at=8/s; b at=16", "8/s", "nobody takes the load's: set those to 0"),
        ("a at=recorded; b share=1", "8/s", "class a: recorded arrivals need a trace"),
        ("a at=many", "8/s", "is not a load"),
        ("a at=", "8/s", "is not a load"),
        ("a at=8/s size=3", "8/s", "is not a load"),
        ("a at=8/s prompt=3 size=3 output=3", "8/s", "'size=3' is not known here"),
        ("a at=inf/s", "8/s", "has no end"),
        ("a at=8/s; a at=9/s", "0", "two classes are called a"),
        ("a at=8/s; b share=0", "8/s", "no class has a share"),
    ],
)
def test_what_cannot_be_meant_is_told(
    classes: str, arrivals: str, wrong: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError) as told:
        load_of(classes, arrivals=arrivals)
    assert wrong in told.value.message
    words = ["bench", "shape:demo", "--classes", classes, "--load", arrivals, "--duration", "1s"]
    assert cli.main(words) == 2
    assert wrong in capsys.readouterr().err


@pytest.mark.parametrize(
    ("classes", "wrong"),
    [
        ("{name: a}", "give a share, or arrivals of its own"),
        ("{name: a, share: 1, arrivals: {kind: poisson, rate: 8}}", "one of the two"),
        ("{name: a, arrivals: {kind: poisson, rate: 8}}", "nobody takes the load's"),
        ("{name: a, arrivals: {kind: poison, rate: 8}}", "'poison' is not one of closed,"),
        ("{name: a, arrivals: {kind: poisson, rat: 8}}", "rat: there is no such key. Did you"),
        ("{name: a, arrivals: {kind: recorded}}, {name: b, share: 1}", "recorded arrivals need"),
    ],
)
def test_a_profile_says_it_too(classes: str, wrong: str) -> None:
    text = (
        "tputtui: 1\nload:\n  arrivals: {kind: poisson, rate: 8}\n"
        "  prompt: {kind: fixed, tokens: 9}\n  output: {kind: fixed, tokens: 9}\n"
        f"  classes: [{classes}]\n"
    )
    with pytest.raises(ProfileError) as told:
        parse(text, "p.yaml")
    assert wrong in str(told.value)


def test_classes_alone_take_the_place_of_the_profiles_arrivals() -> None:
    asked = asked_of(*parsed(parser(), ["shape:demo", "--classes", TEXT]))
    assert describe_all_arrivals(asked.profile.load) == "chat 8/s + batch 16 in flight"


def test_the_session_serves_shows_and_turns_them() -> None:
    text = (
        "chat at=6/s prompt=64 output=20 goal=ttft_p90=400ms; "
        "batch at=8 prompt=200 output=60 goal=e2e_p90=60s"
    )
    rig = Rig.booted(load_of(text))
    rig.run(60)
    frame, now_s = rig.session.advance(), rig.clock()
    recorder = rig.session.recorder
    by_name = {each.name: each for each in frame.traffic}
    assert by_name["chat"].offered_per_s == pytest.approx(6, rel=0.25)
    assert by_name["chat"].served_per_s == pytest.approx(by_name["chat"].offered_per_s, rel=0.1)
    labels = recorder.labels
    ended = recorder.ended.between(-1.0, now_s)
    issued = recorder.issued.between(-1.0, now_s)
    names = [labels[int(n)].traffic for n in issued[:, 1]]
    over = [labels[int(n)].traffic for n in ended[:, ENDED["label"]]]
    assert names.count("batch") - over.count("batch") == 8
    assert recorder.accounting.issued == len(issued)
    assert [each.goal.name for each in frame.goodput.each] == ["chat:ttft_p90", "batch:e2e_p90"]
    shown = "".join(part for part, _ in header(frame, 160))
    assert "chat 6/s + batch 8 in flight" in shown
    rows = ["".join(part for part, _ in row) for row in latency(frame, 100, 24)]
    (row,) = (row for row in rows if row.startswith("chat"))
    assert f"of {rate(by_name['chat'].offered_per_s, 7)}" in row
    history = History(0.0)
    requests = "".join(part for row in throughput(frame, history, 80, 12) for part, _ in row)
    assert "offered" in requests

    rig.session.steer.load.set(scaled(rig.session.workload, 1))
    rig.run(20)
    running = Counter(
        labels[request.label].traffic for request in rig.host._ledger._in_flight.values()
    )
    assert running["batch"] == 10
    rig.session.steer.load.set(from_texts(BASE, {"classes": "none", "arrivals": "3/s"}))
    rig.run(60)
    late = recorder.issued.between(now_s + 40, rig.clock())
    assert {recorder.labels[int(n)].traffic for n in late[:, 1]} == {""}
    account = recorder.accounting
    assert account.issued == account.finished + rig.host._ledger.in_flight


def test_a_load_typed_on_the_board_sets_the_loads_own_arrivals() -> None:
    rig = Rig.booted(load_of("chat at=6/s; rest share=1"))
    carry_out(rig.session, "load 3/s")
    assert describe_all_arrivals(rig.session.workload) == "3/s + chat 6/s"
    rig.session.steer.load.set(load_of(TEXT))
    with pytest.raises(UsageError, match="nobody takes the load's"):
        carry_out(rig.session, "load 3/s")


def test_the_preview_says_what_it_is_of() -> None:
    seen = preview(load_of(TEXT), max_model_len=2048, block_size=16)
    assert (seen.part, seen.prompt.mean) == ("class chat alone", 64)
    assert "class chat alone" in preview_title(seen)
    seen = preview(load_of("a at=8/s prompt=9 output=9; b share=1"), max_model_len=None,
                   block_size=16)  # fmt: skip
    assert (seen.part, seen.prompt.mean) == ("the load's own arrivals alone", 100)
    assert preview(BASE, max_model_len=None, block_size=16).part == ""


def test_a_class_of_which_nothing_is_served_is_shown_too() -> None:
    rig = Rig(load_of("chat at=60 prompt=64 output=200 priority=0; batch at=2/s priority=9"),
              {"max_num_seqs": 4})  # fmt: skip
    rig.boot()
    rig.session.steer.limits.set("scheduling_policy", "priority")
    rig.run(40)
    by_name = {each.name: each for each in rig.session.advance().traffic}
    starved = by_name["batch"]
    assert (starved.n, starved.served_per_s) == (0, 0.0)
    assert starved.offered_per_s == pytest.approx(2, rel=0.4)
    assert math.isnan(starved.kept_frac)
    rows = ["".join(part for part, _ in row) for row in latency(rig.session.latest, 100, 24)]
    assert any(row.startswith("batch") and "0.00 of" in row for row in rows)
    found = measured(rig.session.latest, rig.session.recorder)
    assert found is not None
    assert found.traffic["batch"].keys() == {"offered_per_s", "served_per_s", "goodput_per_s"}


def test_a_closed_loop_beside_an_open_one_is_swept_until_that_saturates() -> None:
    rig = Rig.booted(load_of("chat at=8/s prompt=64 output=20; rest share=1", arrivals="4"),
                     max_num_seqs=8)  # fmt: skip
    frame = swept_to_its_end(rig)
    assert frame.sweep is not None
    assert frame.sweep.note.startswith("Saturated at ")
    assert " in flight + chat " in frame.sweep.note
    assert all(" in flight + chat " in point.load for point in frame.points if point.swept)
    rig.turn()
    assert rig.session.advance().marks[-1].text == "sweep done: back to 4 in flight + chat 8/s"
