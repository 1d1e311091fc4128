"""A load as text and back, and every refusal a sentence."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.test_levels import levels
from tputtui.errors import UsageError
from tputtui.load.lengths import Fixed, Histogram, Lengths, LogNormal, Normal, Uniform, Zipf
from tputtui.load.levels import Steps
from tputtui.load.notation import (
    describe_arrivals,
    describe_lengths,
    parse_arrivals,
    parse_lengths,
)
from tputtui.load.sections import FIELDS, Field, describe, difference, from_texts, to_texts
from tputtui.load.workload import (
    Arrivals,
    ClosedLoop,
    Constant,
    Gamma,
    Poisson,
    Prefix,
    Recorded,
    Sessions,
    TraceFile,
    Workload,
)

BASE = Workload(ClosedLoop(96), Fixed(128), Uniform(8, 64), seed=3)

arrivals = st.one_of(
    st.builds(ClosedLoop, st.integers(0, 1000)),
    st.builds(ClosedLoop, levels.filter(lambda level: not isinstance(level, float))),
    st.builds(Poisson, levels),
    st.builds(Constant, levels),
    st.builds(Gamma, levels, st.floats(0.01, 100)),
    st.builds(Recorded, st.floats(0.01, 100)),
)
bounds = st.tuples(st.integers(1, 50), st.integers(50, 5000))
lengths = st.one_of(
    st.builds(Fixed, st.integers(1, 10_000)),
    bounds.map(lambda b: Uniform(*b)),
    st.builds(lambda m, s, b: Normal(m, s, *b), st.floats(1, 500), st.floats(0, 90), bounds),
    st.builds(lambda m, s, b: LogNormal(m, s, *b), st.floats(1, 500), st.floats(0, 5), bounds),
    st.builds(lambda e, b: Zipf(e, *b), st.floats(0, 9), bounds),
    st.lists(
        st.builds(lambda b, w: (*b, w), bounds, st.floats(0.1, 9)), min_size=1, max_size=4
    ).map(lambda bins: Histogram(tuple(bins))),
)


@settings(max_examples=400, deadline=None)
@given(arrivals)
def test_arrivals_read_back_as_written(value: Arrivals) -> None:
    assert parse_arrivals(describe_arrivals(value)) == msgspec.convert(
        msgspec.to_builtins(value), type(value)
    )


@settings(max_examples=300, deadline=None)
@given(lengths)
def test_lengths_read_back_as_written(value: Lengths) -> None:
    assert parse_lengths(describe_lengths(value)) == value


@pytest.mark.parametrize(
    "load",
    [
        BASE,
        Workload(Poisson(2.0), pairs=((100, 50, 3.0), (2000, 100, 1.0))),
        msgspec.structs.replace(BASE, prefix=Prefix(0.8, 256, 16, 1.2)),
        msgspec.structs.replace(BASE, sessions=Sessions(Uniform(1, 6), 2.5)),
        Workload(Recorded(2.0), trace=TraceFile("a b.csv", "tok.json", repeat=True)),
    ],
)
def test_every_section_reads_back_as_written(load: Workload) -> None:
    assert from_texts(load, to_texts(load)) == load


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_every_form_that_the_editor_offers_can_be_read(field: Field) -> None:
    for _, example in field.forms:
        trace = {"trace": "x.csv"} if example == "recorded" else {}
        from_texts(BASE, {field.name: example} | trace)


def test_a_trace_takes_the_place_of_lengths_and_lengths_of_a_trace() -> None:
    replay = from_texts(BASE, {"trace": "azure.csv"})
    assert (replay.prompt, replay.arrivals) == (None, Recorded())
    back = from_texts(replay, {"prompt": "64", "output": "8", "arrivals": "4"})
    assert (back.trace, back.prompt) == (None, Fixed(64))
    assert from_texts(BASE, {"pairs": "9/9"}).prompt is None


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        ({"arrivals": "fast"}, "'fast' is not a load"),
        ({"arrivals": "closed:8/s"}, "without /s"),
        ({"arrivals": "poisson:8"}, "add /s"),
        ({"arrivals": "2.5"}, "whole number"),
        ({"arrivals": "nan/s"}, "is not a load"),
        ({"arrivals": "0..5/s over 9s exp"}, "above 0"),
        ({"arrivals": "recorded"}, "need a trace"),
        ({"prompt": "long"}, "'long' is not a length"),
        ({"prompt": "hist:1-2"}, "no bin"),
        ({"prompt": "none"}, "prompt is required"),
        ({"prefix": "share=2 tokens=4"}, "share: it must be at most 1"),
        ({"prefix": "share=0.5"}, "tokens"),
        ({"prefix": "shares=0.5 tokens=4"}, "shares"),
        ({"sessions": "turns=3"}, "think is missing"),
        ({"sessions": "turns=3 think=soon"}, "takes seconds"),
        ({"pairs": "100"}, "'100' is not a pair"),
        ({"trace": "a.csv again"}, "'again'"),
        ({"trace": "a.csv", "prefix": "share=1 tokens=9"}, "a trace brings its own prompts"),
        ({"trace": "a.csv", "prompt": "9"}, "a trace brings its own lengths"),
        ({"pairs": "1/2", "prompt": "9"}, "drawn together"),
        ({"arrivals": "8/s/s"}, "is not a load"),
        ({"arrivals": "8/s 9"}, "is not a load"),
        ({"arrivals": "96 8"}, "is not a load"),
        ({"arrivals": "96 in flight 8"}, "is not a load"),
        ({"arrivals": "5/s,6/s/s each 3s"}, "is not a load"),
        ({"prefix": "share=many tokens=4"}, "share: 'many' is no number."),
        ({"prefix": "share=0.5 tokens=1.5"}, "tokens: '1.5' is no whole number."),
        ({"prefix": "share=0.5"}, "tokens is missing"),
        ({"prompt": "9" * 5000}, "more digits than any length"),
        ({"prompt": "1-" + "9" * 5000}, "more digits than any length"),
        ({"pairs": "9" * 5000 + "/3=1"}, "not a pair"),
        ({"classes": "a share=1 prompt=4 output=4 priority=high"}, "it must be a whole number"),
        ({"classes": "a/b share=1 prompt=4 output=4"}, "has a character that cannot stand there"),
        ({"requests": "f bad=1.5"}, "bad: it must be at most 1."),
        ({"requests": "f temperature=nan"}, "temperature: it must be at least 0."),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(texts: dict[str, str], says: str) -> None:
    with pytest.raises(UsageError, match=says.replace("(", r"\(")) as refusal:
        from_texts(BASE, texts)
    said = str(refusal.value)
    assert len(said) < 700
    assert not any(raw in said for raw in ("Expected", "float", "int()", "`int", "object"))


def test_units_stand_behind_a_number_or_at_the_end_and_digits_may_be_grouped() -> None:
    ramp = from_texts(BASE, {"arrivals": "1..64 in flight over 60s"}).arrivals
    assert ramp == parse_arrivals("1..64 over 60s")
    load = from_texts(BASE, {"arrivals": "1 200 in flight"})
    assert load.arrivals == ClosedLoop(1200)
    assert from_texts(BASE, {"arrivals": "5 /s,6/s each 3s"}).arrivals == Poisson(
        Steps((5.0, 6.0), 3.0)
    )


def test_a_mark_says_what_changed_and_nothing_else() -> None:
    new = msgspec.structs.replace(BASE, arrivals=Poisson(8.0), prefix=Prefix(1.0, 64))
    assert difference(BASE, new) == "load 96 in flight → 8/s, prefix none → share=1 tokens=64"
    assert describe(BASE) == "prompt 128 · output 8-64"
