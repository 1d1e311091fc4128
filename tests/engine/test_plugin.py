"""The engine's part of our plugin, on vLLM's own engine core with the model simulated."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from itertools import pairwise
from operator import attrgetter
from typing import Any

import msgspec
import pytest

from tests import until
from tests.engine.conftest import Served, all_whole
from tputtui import plugin
from tputtui.engine.wire import HOLD_S, StepBatch
from tputtui.errors import TputError
from tputtui.load.lengths import Uniform
from tputtui.measure.samples import STEP, StepSample
from tputtui.plugin.core import Core, Question, Reply, answer
from tputtui.plugin.lease import parse_bounds

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

NOT_EVERYWHERE = {"prefill_schedule_interval", "num_speculative_tokens"}
"""Of newer releases, and where speculation is configured."""


class Asked:
    """A front's questions to the engine core of `served`, with a clock that stands still."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.core = served.llm_engine.engine_core.engine_core
        self.scheduler = self.core.scheduler
        self.now_s = 1000.0
        self.core._tputtui = Core(self.core, self.clock)

    def clock(self) -> float:
        self.now_s += 1e-4  # Time passes, a little.
        return self.now_s

    def __call__(self, what: str, lease: str = "", **more: Any) -> Reply:
        question = msgspec.json.encode(Question(what, lease, **more)).decode()
        return msgspec.json.decode(answer(self.core, question), type=Reply)

    def refused(self, what: str, lease: str = "", **more: Any) -> str:
        problem = self(what, lease, **more).problem
        assert problem is not None
        return problem.message

    def steps(self, since: int = -1) -> StepBatch:
        steps = self("steps", since=since).steps
        assert steps is not None
        return steps

    def serve(self) -> None:
        """Some steps, and then to the end."""
        self.served.turn(20)
        self.served.drain(2000)

    def limits(self) -> dict[str, int]:
        engine = self("about").engine
        assert engine is not None
        return engine.limits

    def hooked(self) -> bool:
        return "_watched" in getattr(self.scheduler.schedule, "__name__", "")


@pytest.fixture
def asked(simulated: Served) -> Iterator[Asked]:
    made = Asked(simulated)
    yield made
    core: Core = made.core._tputtui
    core._limits.apply(core._limits.booted)
    core.unwatch()
    del made.core._tputtui
    assert not made.hooked()


def test_what_the_engine_is(asked: Asked) -> None:
    engine = asked("about").engine
    assert engine is not None
    ceilings = asked.served.session.steer.limits.ceilings.as_dict()
    assert engine.ceilings == ceilings
    assert engine.limits == engine.booted
    assert engine.fixed.keys() - NOT_EVERYWHERE == {"max_model_len"}
    assert "other people" in engine.fixed["max_model_len"]
    assert engine.holder == ""
    assert engine.got["max_num_seqs"] == str(ceilings["max_num_seqs"])
    assert engine.got["scheduling_policy"] == "fcfs"


def test_nothing_is_hooked_until_somebody_watches_and_again_when_nobody_does(asked: Asked) -> None:
    asked("about")
    assert not asked.hooked()
    asked.steps()
    assert asked.hooked()
    asked.now_s += 31.0
    asked.served.start(4, Uniform(8, 8), Uniform(2, 4), 5)
    asked.serve()
    assert not asked.hooked()


def test_the_steps_hold_every_token_and_are_told_once(asked: Asked) -> None:
    served = asked.served
    since = asked.steps().next
    served.start(60, Uniform(16, 300), Uniform(1, 40), seed=3)
    rows: list[StepSample] = []
    for turn in range(40):
        served.turn(5) if turn < 39 else served.drain(2000)
        steps = asked.steps(since)
        since = steps.next
        assert steps.lost == 0
        assert {len(row) for row in steps.rows} <= {len(STEP)}
        rows += [StepSample(*row) for row in steps.rows]  # type: ignore[arg-type]
    assert sum(row.generated_tokens for row in rows) == served.generated
    assert sum(row.prefill_tokens for row in rows) == sum(
        row.prefill_tokens for row in served.steps
    )
    assert sum(row.decode_tokens for row in rows) == sum(row.decode_tokens for row in served.steps)
    assert max(row.running for row in rows) == max(row.running for row in served.steps)
    assert all(a.end_s < b.end_s for a, b in pairwise(rows))
    assert all(row.duration_s > 0 and 0 <= row.kv_frac <= 1 for row in rows)


def test_steps_are_summed_up_beside_the_engine(asked: Asked) -> None:
    asked.steps()
    core: Core = asked.core._tputtui
    asked.served.start(8, Uniform(16, 300), Uniform(2, 9), seed=4)
    asked.served.turn(5)
    until(lambda: core._rows.count >= 4)  # of an asynchronous engine one is still under way
    asked.serve()


def test_only_who_holds_the_lease_changes_limits(asked: Asked) -> None:
    assert "Nobody controls it" in asked.refused("change", "a", limits={"max_num_seqs": 8})
    assert asked("take", "a", holder="ann@desk").acted
    assert asked.refused("take", "b", holder="bob@desk") == "ann@desk controls this server."
    assert "ann@desk controls" in asked.refused("change", "b", limits={"max_num_seqs": 8})
    acted = asked("change", "a", limits={"max_num_seqs": 8}).acted
    assert acted is not None
    assert acted.limits["max_num_seqs"] == 8
    since = asked.steps().next
    asked.served.start(30, Uniform(16, 16), Uniform(4, 20), 5)
    asked.serve()
    assert max(row[2] for row in asked.steps(since).rows) == 8


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ({"max_num_seqs": 1000}, "above its ceiling"),
        ({"max_num_seqs": 0}, "too low"),
        ({"max_model_len": 64}, "cannot be changed here"),
        ({"max_num_seq": 8}, "max_num_seq"),
        ({"max_num_seqs": 8, "max_num_batched_tokens": -1}, "too low"),
    ],
)
def test_what_is_not_to_be_had_changes_nothing(
    asked: Asked, limits: dict[str, int], says: str
) -> None:
    asked("take", "a", holder="ann")
    before = asked.limits()
    assert says in asked.refused("change", "a", limits=limits)
    assert asked.limits() == before


def test_an_operator_bounds_what_can_be_asked_for(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TPUTTUI_BOUNDS", "max_num_seqs=16..32")
    asked.core._tputtui = Core(asked.core, asked.clock)
    asked("take", "a", holder="ann")
    assert "operator allows" in asked.refused("change", "a", limits={"max_num_seqs": 8})
    assert "operator allows" in asked.refused("change", "a", limits={"max_num_seqs": 33})
    assert asked("change", "a", limits={"max_num_seqs": 32}).acted


def test_bounds_that_cannot_be_read_leave_the_server_to_be_watched(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TPUTTUI_BOUNDS", "max_num_seqs<32")
    asked.core._tputtui = Core(asked.core, asked.clock)
    assert "not a limit with its bounds" in asked.refused("take", "a", holder="ann")
    assert asked.steps().rows == []


@pytest.mark.parametrize("text", ["max_num_seqs", "max_num_seqs=9..3", "seqs=1..2", "a=1..2=3"])
def test_bounds_are_checked(text: str) -> None:
    with pytest.raises(TputError):
        parse_bounds(text)


def test_a_lease_that_is_not_renewed_gives_everything_back(asked: Asked) -> None:
    before = asked.limits()
    asked("take", "a", holder="ann")
    asked("change", "a", limits={"max_num_seqs": 8})
    asked.now_s += HOLD_S - 1
    assert asked("renew", "a").acted
    asked.now_s += HOLD_S - 1
    assert asked.limits()["max_num_seqs"] == 8
    asked.now_s += 2
    assert asked.limits() == before
    assert "run out" in asked.refused("renew", "a")
    # And so it does with nobody asking, by the next step.
    asked("take", "b", holder="bob")
    asked("change", "b", limits={"max_num_seqs": 8})
    asked.now_s += HOLD_S + 1
    asked.served.start(30, Uniform(16, 16), Uniform(4, 20), 5)
    asked.serve()
    assert asked.core._tputtui._limits.knobs.as_dict() == before


@pytest.mark.parametrize("keep", [False, True])
def test_control_that_is_given_back_leaves_the_limits_only_if_asked_to(
    asked: Asked, keep: bool
) -> None:
    asked("take", "a", holder="ann")
    asked("change", "a", limits={"max_num_seqs": 8})
    asked("release", "a", keep=keep)
    assert (asked.limits()["max_num_seqs"] == 8) is keep
    assert asked("take", "b", holder="bob").acted


def test_a_paused_engine_goes_on_when_its_controller_is_gone(asked: Asked) -> None:
    asked("take", "a", holder="ann")
    asked("pause", "a")
    assert asked.core.is_scheduler_paused()
    asked.now_s += HOLD_S + 1
    asked("about")
    assert not asked.core.is_scheduler_paused()


def test_running_sequences_are_preempted_and_the_prefix_cache_emptied(asked: Asked) -> None:
    served = asked.served
    asked("take", "a", holder="ann")
    served.start(30, Uniform(16, 16), Uniform(30, 40), 5)
    served.turn(5)
    asked("change", "a", limits={"max_num_seqs": 4})
    # None of these requests is named as a board names its own.
    for what in ("preempt", "reset_prefix_cache", "pause"):
        assert "30 requests of others under way" in asked.refused(what, "a")
    held = {"num_gpu_blocks": asked.limits()["num_gpu_blocks"] // 2}
    assert "requests of others" in asked.refused("change", "a", limits=held)
    acted = asked("preempt", "a", anyway=True).acted
    assert acted is not None
    assert acted.preempted == 26
    assert asked("reset_prefix_cache", "a", anyway=True).acted
    asked.serve()
    all_whole(served)


@pytest.mark.parametrize("hook", ["_before", "_counts", "_after", "_sum._row"])
def test_a_fault_of_ours_is_logged_once_and_reaches_no_request(
    asked: Asked, hook: str, caplog: pytest.LogCaptureFixture
) -> None:
    asked.steps()
    core: Core = asked.core._tputtui

    def broken(*_: object) -> None:
        raise RuntimeError("ours")

    owner, _, name = hook.rpartition(".")
    setattr(attrgetter(owner)(core._watch) if owner else core._watch, name, broken)
    with caplog.at_level(logging.ERROR, "vllm.tputtui"):
        asked.served.start(20, Uniform(16, 16), Uniform(4, 20), 5)
        asked.serve()
        assert "off" in asked.refused("steps")
    all_whole(asked.served)
    assert len([r for r in caplog.records if r.name == "vllm.tputtui"]) == 1
    assert not asked.hooked()


def test_a_question_that_is_none_gets_an_answer(asked: Asked) -> None:
    for question in ("", "{", "[]", '{"what": "fly"}', '{"what": "change", "limits": {"a": "b"}}'):
        reply = msgspec.json.decode(answer(asked.core, question), type=Reply)
        assert reply.problem is not None


def test_every_change_is_a_line_of_the_servers_log(
    asked: Asked, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "vllm.tputtui"):
        asked("take", "a", holder="ann@desk")
        asked("change", "a", limits={"max_num_seqs": 8})
        asked("release", "a")
    lines = [record.getMessage() for record in caplog.records if record.name == "vllm.tputtui"]
    assert "took control (control: ann@desk)" in lines[0]
    assert "max_num_seqs 256 → 8 (control: ann@desk)" in lines[1]
    assert "max_num_seqs 8 → 256 (control: ann@desk)" in lines[2]


def test_the_operators_bounds_reach_engines_that_are_ray_actors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ray_env = pytest.importorskip("vllm.ray.ray_env")
    from vllm import envs
    from vllm.v1.engine.core import EngineCore

    # An engine that was in this process has them cached; the front asks before it has one.
    envs.disable_envs_cache()
    monkeypatch.setattr(EngineCore, "tputtui", None, raising=False)
    monkeypatch.setenv("VLLM_PLUGINS", "tputtui")
    monkeypatch.setenv("VLLM_RAY_EXTRA_ENV_VARS_TO_COPY", "THEIRS")
    plugin.install()
    plugin.install()
    assert os.environ["VLLM_RAY_EXTRA_ENV_VARS_TO_COPY"] == "THEIRS,TPUTTUI_BOUNDS"
    names = ray_env.get_env_vars_to_copy()
    assert {"THEIRS", "TPUTTUI_BOUNDS", "VLLM_PLUGINS"} <= names
    # Only the front asks for the token.
    assert "TPUTTUI_CONTROL_TOKEN_FILE" not in names


@pytest.mark.parametrize("named", [None, "", "other", "tputtui-not"])
def test_without_being_named_nothing_is_installed(
    named: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vllm.v1.engine.core import EngineCore

    if named is None:
        monkeypatch.delenv("VLLM_PLUGINS", raising=False)
    else:
        monkeypatch.setenv("VLLM_PLUGINS", named)
    monkeypatch.setenv("VLLM_RAY_EXTRA_ENV_VARS_TO_COPY", "")
    plugin.install()
    assert not hasattr(EngineCore, "tputtui")
    assert not os.environ["VLLM_RAY_EXTRA_ENV_VARS_TO_COPY"]
    monkeypatch.setenv("VLLM_PLUGINS", "other,tputtui")
    plugin.install()
    assert EngineCore.tputtui is answer
    del EngineCore.tputtui
