"""What requests carry: as text, as drawn, as a server is asked, and what an engine can serve."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from tests.rig import Rig
from tputtui import cli
from tputtui.cli.asked import asked_of
from tputtui.cli.bench import parser
from tputtui.cli.options import parsed
from tputtui.engine.carrying import adapters_of, check_carried
from tputtui.engine.fake import FakeEngine
from tputtui.engine.models import resolve
from tputtui.engine.served.asked import asked
from tputtui.engine.vllm.watch import StepWatch
from tputtui.errors import UsageError
from tputtui.load.carrier import PLAIN, Carried, Carrier, Form, check_schema
from tputtui.load.extras_text import EXTRA_FIELDS
from tputtui.load.generator import Generator
from tputtui.load.lengths import Fixed, Uniform
from tputtui.load.sections import FIELDS, describe, difference, from_texts, to_texts
from tputtui.load.workload import ClosedLoop, Sessions, Workload
from tputtui.measure.bounds import Bound
from tputtui.measure.limitbound import limit_bound
from tputtui.measure.samples import STEP
from tputtui.profile import EngineSpec, Profile
from tputtui.profile.document import dump, parse
from tputtui.simulate.clock import VirtualTime

BASE = Workload(ClosedLoop(32), Fixed(100), Fixed(50))
EVERY = {
    "cancel": "share=0.02 after=1s~0.5",
    "priority": "0=0.9 10=0.1",
    "lora": "a=0.7 b=0.2",
    "structured": r"share=0.3 regex=[a-z, ]{3,8} x=\d",
    "answers": "n=2 logprobs=5",
    "classes": "chat share=0.7 goal=ttft_p99=500ms; batch share=0.3 priority=9",
}
ALL = from_texts(BASE, EVERY)


# -- as text -------------------------------------------------------------------------------------


def test_every_field_is_written_as_it_is_read() -> None:
    assert {name: to_texts(ALL)[name] for name in EVERY} == EVERY
    assert from_texts(BASE, to_texts(ALL)) == ALL
    for text in EVERY.values():
        assert text in describe(ALL)
        assert text in difference(BASE, ALL)


def test_a_profile_keeps_them_and_one_without_is_what_it_was() -> None:
    with_them = Profile(EngineSpec("shape:demo"), ALL)
    assert parse(dump(with_them), "x") == with_them
    plain = dump(Profile(EngineSpec("shape:demo"), BASE))
    assert not any(f"{name}:" in plain for name in EVERY)
    assert parse(plain, "x").load == BASE


def test_each_field_has_a_flag_that_reads_it(tmp_path: Path) -> None:
    flags = {field.name: field.flag for field in FIELDS}
    assert {field.name for field in EXTRA_FIELDS} == EVERY.keys()
    words = [word for name, text in EVERY.items() for word in (flags[name], text)]
    assert words[::2] == [
        "--cancel", "--priority", "--lora-mix", "--structured", "--answers", "--classes",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("field", "text", "wrong"),
    [
        ("priority", "high=1", "a priority is a whole number"),
        ("priority", "1=0.7 2=0.7", "add up to 1.4"),
        ("priority", "1=0.5 1=0.5", "1 is there twice"),
        ("priority", "5", "'5' has no share"),
        ("lora", "a=0.7 b=", "'' is not a share"),
        ("lora", "a=2", "'2' is not a share from 0 to 1"),
        ("structured", "share=0.3", "one of the two"),
        ("structured", "schema=x.json", "share is missing"),
        ("structured", "share=0.1 grammar=x", "'grammar=x' is not known here"),
        ("answers", "n=0", "at least 1"),
        ("answers", "n=two", "whole numbers"),
        ("answers", "best_of=2", "is not known here"),
        ("answers", "logprobs=50", "at most 20"),
    ],
)
def test_what_cannot_be_meant_is_told(field: str, text: str, wrong: str) -> None:
    with pytest.raises(UsageError) as told:
        from_texts(BASE, {field: text})
    assert wrong in told.value.message


def test_a_schema_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    for text, wrong in (("{", "no JSON"), ("[1]", "that is an object")):
        bad.write_text(text)
        with pytest.raises(UsageError, match=wrong):
            check_schema(from_texts(BASE, {"structured": f"share=1 schema={bad}"}))
    with pytest.raises(UsageError, match="No such file"):
        check_schema(from_texts(BASE, {"structured": "share=1 schema=/nowhere.json"}))


def test_a_schema_that_is_gone_ends_the_load_and_not_the_engine(tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text("{}")
    load = from_texts(BASE, {"structured": f"share=1 schema={schema}"})
    generator = Generator(load, 8192)
    assert generator.failure is None
    schema.unlink()
    generator.restart()
    assert generator.exhausted
    assert generator.failure is not None
    assert "No such file" in generator.failure.message


# -- as drawn ------------------------------------------------------------------------------------


def drawn(load: Workload, n: int = 4000) -> list[Carried]:
    carrier = Carrier(3)
    return [carrier.carried(load, index) for index in range(n)]


def test_each_share_is_drawn_by_itself() -> None:
    every = drawn(ALL)
    n = len(every)
    classes = Counter(c.label.traffic for c in every)
    assert classes["chat"] / n == pytest.approx(0.7, abs=0.03)
    # What a class has of its own comes before the mix.
    given = Counter((c.label.traffic, c.priority) for c in every)
    assert given["batch", 9] == classes["batch"]
    assert given["chat", 10] / classes["chat"] == pytest.approx(0.1, abs=0.02)
    adapters = Counter(c.label.adapter for c in every)
    assert [adapters[name] / n for name in ("a", "b", "")] == pytest.approx(
        [0.7, 0.2, 0.1], abs=0.03
    )
    forms = Counter(c.form for c in every)
    assert forms[Form(regex=r"[a-z, ]{3,8} x=\d")] / n == pytest.approx(0.3, abs=0.03)
    assert {(c.n, c.logprobs) for c in every} == {(2, 5)}
    # One does not depend on the other.
    both = sum(c.form is not None and c.label.adapter == "a" for c in every) / n
    assert both == pytest.approx(0.21, abs=0.03)
    assert drawn(BASE, 3) == [PLAIN] * 3


def test_one_field_leaves_the_others_as_they_are() -> None:
    alone = drawn(from_texts(BASE, {"lora": EVERY["lora"]}))
    assert [c.label.adapter for c in alone] == [c.label.adapter for c in drawn(ALL)]


def test_a_conversation_keeps_adapter_and_priority() -> None:
    load = msgspec.structs.replace(ALL, sessions=Sessions(Uniform(2, 5), 0.0))
    carrier = Carrier(3)
    for index in range(50):
        turns = [carrier.carried(load, index, turn) for turn in range(5)]
        assert len({(c.label, c.priority) for c in turns}) == 1
    forms = {carrier.carried(load, 1, turn).form for turn in range(40)}
    assert len(forms) == 2


# -- as an engine is asked -----------------------------------------------------------------------


def test_a_server_is_asked_in_its_own_words() -> None:
    assert asked(PLAIN) == {}
    schema = json.dumps({"type": "object"})
    assert asked(Carried(priority=3, logprobs=2, form=Form(schema=schema))) == {
        "priority": 3,
        "logprobs": 2,
        "ignore_eos": False,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": {"type": "object"}},
        },
    }
    assert asked(Carried(form=Form(regex="a+")))["structured_outputs"] == {"regex": "a+"}


@pytest.mark.parametrize(
    "given", [["a=/x", "b=/y"], ['{"name": "a", "path": "/x"}', {"name": "b", "path": "/y"}]]
)
def test_adapters_are_given_as_for_vllms_server(given: list[Any]) -> None:
    assert adapters_of({"lora_modules": given}) == {"a": "/x", "b": "/y"}


@pytest.mark.parametrize("given", ["a", "=x", "a=", '{"name": "a"}', ["a=x", "a=y"]])
def test_what_is_no_adapter_is_told(given: Any) -> None:
    with pytest.raises(UsageError, match="--lora-modules"):
        adapters_of({"lora_modules": given})


@pytest.mark.parametrize(
    ("texts", "spec", "wrong"),
    [
        ({"lora": "a=1"}, EngineSpec("m"), "names the adapter 'a'"),
        ({"lora": "a=1"}, EngineSpec("m", {"lora_modules": "a=/x"}), "--enable-lora"),
        ({"structured": "share=1 regex=a"}, EngineSpec("shape:demo"), "shape:demo has none"),
        ({"answers": "n=2"}, EngineSpec("server:localhost:1"), "not told apart"),
    ],
)
def test_what_an_engine_cannot_serve_is_told_before_it_boots(
    texts: dict[str, str], spec: EngineSpec, wrong: str
) -> None:
    with pytest.raises(UsageError) as told:
        check_carried(from_texts(BASE, texts), spec)
    assert wrong in told.value.message


def test_a_simulation_has_no_tokenizer() -> None:
    load = from_texts(BASE, {"structured": "share=1 regex=a"})
    check_carried(load, EngineSpec("org/model"))
    with pytest.raises(UsageError, match="a simulated engine has none"):
        check_carried(load, EngineSpec("org/model"), simulated=True)


def test_the_command_line_tells_it_too(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bench", "shape:demo", "--structured", "share=0.3 regex=a", "--duration", "1s"]
    assert cli.main(words) == 2
    assert "Structured output needs a tokenizer" in capsys.readouterr().err


@pytest.mark.parametrize("section", ["serve", "engine"])
def test_adapters_of_a_profile_are_the_engines_and_exported_for_a_server(
    tmp_path: Path, section: str
) -> None:
    path = tmp_path / "p.yaml"
    modules = "lora_modules: [a=/x, b=/y]"
    engine = (
        f"{{model: 'shape:demo', enable_lora: true{', ' + modules if section == 'engine' else ''}}}"
    )
    serve = f"serve: {{{modules}}}\n" if section == "serve" else ""
    path.write_text(f"tputtui: 1\nengine: {engine}\n{serve}")
    asked = asked_of(*parsed(parser(), ["--profile", str(path), "--lora-mix", "a=0.5 b=0.5"]))
    assert adapters_of(asked.profile.engine.args) == {"a": "/x", "b": "/y"}
    assert asked.profile.load.lora == (("a", 0.5), ("b", 0.5))
    assert "lora_modules" not in resolve(asked.profile.engine).args
    again = parse(dump(asked.profile), "x")
    assert again == asked.profile


# -- what it does to the engine ------------------------------------------------------------------


def test_the_fake_engine_serves_a_lower_priority_first() -> None:
    rig = Rig.booted(from_texts(BASE, {"priority": "0=0.5 9=0.5"}), max_num_seqs=4)
    rig.session.steer.limits.set("scheduling_policy", "priority")
    rig.run(20)
    engine = rig.host._engine
    assert isinstance(engine, FakeEngine)
    waits = [each.spec.carried.priority for each in engine._waiting]
    assert waits == sorted(waits)
    assert set(waits) == {9}


def test_the_cost_of_structure_is_the_hosts() -> None:
    clock = VirtualTime()

    def grammar(*_: object) -> str:
        clock.advance(0.003)
        return "bitmask"

    scheduler = SimpleNamespace(
        requests={}, get_request_counts=lambda: (0, 0), schedule=None, update_from_output=None,
        get_grammar_bitmask=grammar,
    )  # fmt: skip
    core = SimpleNamespace(engine_core=SimpleNamespace(scheduler=scheduler), get_output=None)
    engine = SimpleNamespace(engine_core=core)
    limits: Any = None
    watch = StepWatch(engine, limits, clock, lambda output: None)
    watch.begin()
    assert scheduler.get_grammar_bitmask("output") == "bitmask"
    assert watch.scheduler_s == pytest.approx(0.003)


def test_adapters_bind_where_they_hold_requests_back() -> None:
    rig = Rig.booted(BASE)
    rig.run(10)
    steps = rig.session.recorder.steps.between(-1.0).copy()
    knobs, ceilings = rig.host.status.knobs, rig.host.status.facts.ceilings
    before = limit_bound(steps, knobs, ceilings)
    assert before is None or before.bound is not Bound.ADAPTERS
    steps[:, STEP["waiting"]] = steps[:, STEP["adapter_waiting"]] = 7
    found = limit_bound(steps, knobs, ceilings)
    assert found.bound is Bound.ADAPTERS
    assert "7 wait" in found.evidence
    assert found.share > 0.9
