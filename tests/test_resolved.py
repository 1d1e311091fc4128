"""What a boot was asked for, what it came to, and where that is shown, kept and exported."""

from __future__ import annotations

import json
import logging
import math
import pickle
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from tests.made import BOOTED, MARKS, frame_of, six_trials
from tests.rig import Rig
from tputtui.engine.fake import FakeEngine
from tputtui.engine.protocol import EngineFacts, Report
from tputtui.engine.resolved import (
    AS_FITS,
    CAPTURE_SIZES,
    GRAPH_MODE,
    Resolved,
    in_runs,
    resolved,
    same_engine,
    silently,
    unlike,
)
from tputtui.engine.vllm import resolving
from tputtui.export.startup import start_up
from tputtui.frame import Frame
from tputtui.load.workload import ClosedLoop, Workload
from tputtui.profile import EngineSpec, Profile, dump
from tputtui.profile.document import parse
from tputtui.record.line import plain, restored
from tputtui.ui.draft import GOT, ArgumentDraft
from tputtui.ui.panels.arguments import got_rows
from tputtui.ui.panels.standing import noteworthy, standing

EAGER = "Enforce eager set, disabling torch.compile, CUDAGraphs, and JIT kernel warmup."
FP8 = "Disabling prefix caching: it is not supported with fp8 KV cache."
ROWS = resolved(
    {"enable_prefix_caching": "on", "max_model_len": AS_FITS, "block_size": "16"},
    {"enable_prefix_caching": "off", "max_model_len": "40960", "block_size": "16",
     "async_scheduling": "on"},
    ["Auto-fit max_model_len: reduced from 131072 to 40960 to fit in memory.", FP8],
)  # fmt: skip


def row_of(name: str, asked: dict[str, str] | None, got: str, *said: str) -> Resolved:
    (row,) = resolved(asked, {name: got}, said)
    return row


def test_a_servers_reasons_are_kept_through_its_new_loggers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = logging.Logger("vllm.config")
    before = logging.getLogRecordFactory()
    monkeypatch.setattr(resolving, "_server_lines", None)
    try:
        resolving.keep_boot_log()
        resolving.keep_boot_log()
        made = logging.getLogRecordFactory()
        assert made is not before
        log.warning("Async scheduling not %s and will be disabled.", "supported")
        log.info("Initializing a V1 LLM engine with config: block_size=16")
        log.info("Route: /v1/models, Methods: GET")
        logging.Logger("other").warning("Async scheduling is off.")
        # The front names its whole command line, with secrets that nobody masks.
        front = logging.Logger("vllm.entrypoints.utils")
        front.info("non-default args: {'block_size': 16, 'additional_config': {'secret': 'x'}}")
        log.debug("Using block_size 16.")
        assert resolving.said_at_boot() == ["Async scheduling not supported and will be disabled."]
        # What is logged while it serves is none of a boot's.
        log.info("Engine 000: Prefix cache hit rate: 0.0%")
        assert len(resolving.said_at_boot()) == 1
    finally:
        logging.setLogRecordFactory(before)


# -- one boot ------------------------------------------------------------------------------------


def test_what_was_asked_for_and_is_so_needs_no_reason() -> None:
    said = "Using block_size 16."
    assert row_of("block_size", {"block_size": "16"}, "16", said) == Resolved(
        "block_size", "16", "16"
    )
    assert not row_of("dtype", {"dtype": "half"}, "float16").warns
    assert not row_of("kv_cache_dtype", {"kv_cache_dtype": "fp8"}, "fp8_e4m3").warns


def test_what_was_asked_for_and_is_not_so_warns_with_vllms_own_reason() -> None:
    row = row_of("enable_prefix_caching", {"enable_prefix_caching": "on"}, "off", "Loading.", FP8)
    assert (row.warns, row.why) == (True, FP8.rstrip("."))
    assert silently([row]) == f"enable_prefix_caching: asked on, got off ({row.why})"
    # Without a reason in the log none is made up.
    bare = row_of("async_scheduling", {"async_scheduling": "on"}, "off", "Loading.", FP8)
    assert (bare.warns, bare.why) == (True, "")
    assert silently([row, bare]) == (
        "enable_prefix_caching: asked on, got off; async_scheduling: asked on, got off"
    )


def test_what_nobody_asked_for_warns_only_where_it_is_news() -> None:
    off = row_of("enable_prefix_caching", {}, "off")
    assert silently([off]) == "enable_prefix_caching is off, which nobody asked for"
    assert not row_of("enable_prefix_caching", {"enable_prefix_caching": "off"}, "off").warns
    # The platform may lack it: only with a reason.
    assert not row_of("async_scheduling", {}, "off").warns
    why = "Async scheduling not supported with ngram-based speculative decoding."
    assert row_of("async_scheduling", {}, "off", why).warns
    assert row_of(GRAPH_MODE, {}, "NONE", "DeepEP: Disabling CUDA Graphs.").warns
    # Who asks for eager mode has asked for no graphs.
    eager = row_of(GRAPH_MODE, {"enforce_eager": "on"}, "NONE", EAGER)
    assert (eager.warns, eager.why) == (False, EAGER.rstrip("."))
    # Of a server it is not known what was asked for.
    assert not row_of("enable_prefix_caching", None, "off").warns


def test_a_length_that_was_to_fit_is_told_and_does_not_warn() -> None:
    row = next(row for row in ROWS if row.name == "max_model_len")
    assert (row.asked, row.got, row.warns) == ("as fits", "40960", False)
    assert row.why == "Auto-fit max_model_len: reduced from 131072 to 40960 to fit in memory"


def test_a_long_reason_ends_with_a_sentence() -> None:
    long = "CUDA graphs are off. " + "They are not supported here because of something. " * 9
    row = row_of(GRAPH_MODE, {}, "NONE", long)
    assert row.why.startswith("CUDA graphs are off. They are")
    assert row.why.endswith("because of something")
    assert len(row.why) <= 200


@pytest.mark.parametrize(
    ("sizes", "text"),
    [
        ([], ""),
        ([8], "8"),
        ([1, 2, 4], "1 2 4"),
        ([1, 2, 3, 4, 5], "1–5"),
        ([1, 2, 4, *range(8, 257, 8), *range(272, 513, 16)], "1 2 4 8–256/8 272–512/16"),
    ],
)
def test_capture_sizes_are_drawn_together_without_losing_one(sizes: list[int], text: str) -> None:
    assert in_runs(sizes) == text


# -- two boots -----------------------------------------------------------------------------------


def test_boots_are_the_same_engine_by_what_they_came_to() -> None:
    got = {"block_size": "16", "enable_prefix_caching": "on", GRAPH_MODE: "NONE"}
    plain = EngineSpec("m", {"seed": 1})
    typed = EngineSpec("m", {"seed": 1, "block_size": 16, "compilation_config": {
        "cudagraph_mode": "NONE"}})  # fmt: skip
    assert same_engine(plain, got, typed, got)
    assert not same_engine(plain, got, EngineSpec("m", {"seed": 2}), got)
    assert not same_engine(plain, got, EngineSpec("n", {"seed": 1}), got)
    deeper = EngineSpec("m", {"seed": 1, "compilation_config": {"level": 1}})
    assert not same_engine(plain, got, deeper, got)
    off = got | {"enable_prefix_caching": "off"}
    # The same arguments, and yet another engine.
    assert not same_engine(plain, got, plain, off)
    assert unlike(got, off) == "enable_prefix_caching on → off"
    # Where nothing is known of either, what was typed decides.
    assert same_engine(plain, {}, plain, {})
    assert not same_engine(plain, {}, typed, {})


class Resolving(FakeEngine):
    """Tells of each boot what the test says it came to."""

    got: dict[str, str]

    def boot(self, spec: EngineSpec, report: Report) -> EngineFacts:
        facts = super().boot(spec, report)
        return replace(facts, resolved=resolved({}, self.got))


def test_a_boot_that_came_out_otherwise_is_another_setting_and_says_in_what() -> None:
    Resolving.got = {"enable_prefix_caching": "on", "block_size": "16"}
    rig = Rig(Workload(ClosedLoop(48), pairs=((60, 20, 1.0),)), kind=Resolving)
    rig.boot()
    rig.run(15.0)
    engine = rig.session.steer.engine
    # Another spelling of what the boot came to anyway: the same engine, and the same row.
    engine.boot_with({"block_size": 16}, {})
    rig.run(15.0)
    frame = rig.session.advance()
    assert [row.number for row in frame.trials] == [1]
    assert len(frame.trials[0].spans) == 2
    # The same arguments, resolved otherwise.
    Resolving.got = {"enable_prefix_caching": "off", "block_size": "16"}
    engine.boot_with({}, {})
    rig.run(15.0)
    frame = rig.session.advance()
    assert [row.number for row in frame.trials] == [1, 2]
    row = frame.trials[-1]
    assert row.changed == "another engine: enable_prefix_caching on → off"
    assert "across a boot" in row.unjudged
    assert not math.isnan(row.value("tokens_per_s"))


# -- shown ---------------------------------------------------------------------------------------


@pytest.fixture
def frame() -> Frame:
    made = frame_of(six_trials(), marks=MARKS)
    facts = replace(made.status.facts, resolved=ROWS)
    return replace(made, status=replace(made.status, facts=facts))


@pytest.mark.parametrize("width", [79, 119, 199])
def test_the_board_warns_in_one_line_that_fits(frame: Frame, width: int) -> None:
    assert noteworthy(frame, "")
    line = "".join(text for text, _ in standing(frame, width))
    assert len(line.rstrip()) <= width
    assert line.strip().startswith("⚠ enable_prefix_caching: asked on, got off")
    assert ("fp8 KV cache" in line) == (width > 79)
    quiet = replace(frame, status=replace(frame.status, facts=replace(
        frame.status.facts, resolved=ROWS[1:])))  # fmt: skip
    assert not noteworthy(quiet, "")


def test_the_form_tells_of_an_argument_what_it_came_to() -> None:
    draft = ArgumentDraft((), {}, [*ROWS, Resolved(GRAPH_MODE, "", "NONE", EAGER)])
    assert [each.name for each in draft.shown(GOT)] == [GRAPH_MODE]
    (argument,) = draft.shown(GOT)
    with pytest.raises(Exception, match="cudagraph_mode has no flag of its own"):
        draft.put(argument, "FULL")
    text = " ".join(piece for row in got_rows(ROWS[0], 60) for piece, _ in row)
    assert text == f"This boot: off, asked on. vLLM: {FP8}"
    left = " ".join(piece for row in got_rows(ROWS[3], 60) for piece, _ in row)
    assert left == "This boot: on, left to vLLM."


# -- kept and exported ---------------------------------------------------------------------------


def profile_with(args: dict[str, Any], resolved_as: dict[str, dict[str, str]]) -> Profile:
    """A profile measured with what its arguments came to."""
    made = Profile(EngineSpec("m", args))
    raw = msgspec.yaml.decode(dump(made).encode())
    raw["evidence"] = {
        "state": "tuned live",
        "tuned": {
            "date": "2026-11-29T12:00:00+00:00",
            "window": {"phase": "steady", "length_s": 30.0, "requests": 100},
            "figures": {"tokens_per_s": {"value": 1000.0}},
            "limits": {}, "ceilings": {}, "load": "96 in flight", "seed": 0,
            "model": {"name": "m"}, "machine": {}, "resolved": resolved_as,
        },
    }  # fmt: skip
    return parse(msgspec.yaml.encode(raw).decode(), "made.yaml")


def test_what_was_measured_is_exported_as_it_ran() -> None:
    came = {
        "enable_prefix_caching": {"asked": "on", "got": "off", "why": FP8.rstrip(".")},
        "max_model_len": {"asked": AS_FITS, "got": "40960"},
        "attention_backend": {"got": "FLASH_ATTN"},
        GRAPH_MODE: {"asked": "FULL", "got": "PIECEWISE"},
        CAPTURE_SIZES: {"got": "1 2 4 8–256/8"},
    }
    args = {"enable_prefix_caching": True, "max_model_len": -1, "seed": 3,
            "compilation_config": {"cudagraph_mode": "FULL", "mode": 3}}  # fmt: skip
    start = start_up(profile_with(args, came))
    assert start.spec.args == {
        "enable_prefix_caching": False,
        "max_model_len": 40960,
        "seed": 3,
        "compilation_config": {"cudagraph_mode": "PIECEWISE", "mode": 3},
    }
    assert f"enable_prefix_caching: asked on, and vLLM made it off: {FP8}" in start.notes
    # Who has edited the profile since gets what stands there.
    edited = start_up(profile_with({"enable_prefix_caching": False, "max_model_len": 8192}, came))
    assert edited.spec.args == {"enable_prefix_caching": False, "max_model_len": 8192}
    assert not edited.notes


def test_the_evidence_has_what_came_out_otherwise_and_survives_the_file() -> None:
    made = profile_with({"max_model_len": -1}, {"max_model_len": {"asked": AS_FITS, "got": "4096"}})
    assert parse(dump(made), "again.yaml") == made
    assert made.evidence is not None
    assert made.evidence.tuned.resolved["max_model_len"].got == "4096"


def test_what_a_boot_came_to_crosses_to_another_process_and_a_log() -> None:
    facts = EngineFacts("m", "d", "", BOOTED, 1, 1, 1, 0.0, BOOTED, resolved=ROWS)
    assert pickle.loads(pickle.dumps(facts)) == facts
    assert restored(json.loads(json.dumps(plain(facts))), EngineFacts).resolved == ROWS
    # A log of before there was any of it.
    older = plain(facts)
    del older["resolved"]
    assert restored(older, EngineFacts).resolved == ()
    assert restored(older, EngineFacts).graph_mode == ""
