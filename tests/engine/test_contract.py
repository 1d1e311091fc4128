"""What we rely on inside vLLM is still there; the first thing to look at after an upgrade."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests.engine.conftest import Served
from tputtui.engine import vllm as vllm_room
from tputtui.engine.vllm.internals import IN_MODULES, IN_THE_ENGINE, NOT_EVERYWHERE
from tputtui.load.lengths import Uniform
from tputtui.measure.padding import padding
from tputtui.measure.samples import STEP

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]


def walk(root: ModuleType, path: str, purpose: str, version: str) -> ModuleType:
    """What stands at a dotted path; fails naming the part that is gone."""
    found = root
    for name in path.split("."):
        assert hasattr(found, name), (
            f"vLLM has no {path} any more: {type(found).__name__} has no {name!r}. "
            f"It was there in vLLM {version}; tputtui needs it for: {purpose}."
        )
        found = getattr(found, name)
    return found


@pytest.mark.parametrize(
    ("path", "purpose", "version"),
    IN_THE_ENGINE + NOT_EVERYWHERE,
    ids=[row[0] for row in IN_THE_ENGINE + NOT_EVERYWHERE],
)
def test_vllm_still_has(cpu: Served, path: str, purpose: str, version: str) -> None:
    walk(cpu.llm_engine, path, purpose, version)


@pytest.mark.parametrize(
    ("place", "purpose", "version"), IN_MODULES, ids=[row[0] for row in IN_MODULES]
)
def test_vllm_and_torch_still_have(cpu: Served, place: str, purpose: str, version: str) -> None:
    module, _, name = place.partition(":")
    found = importlib.import_module(module)
    if name:
        walk(found, name, purpose, version)


def test_whatever_is_imported_from_vllm_has_its_row() -> None:
    """What these modules import of vLLM and transformers, by name, is listed."""
    listed = {place for place, _, _ in IN_MODULES}
    room = Path(vllm_room.__file__).parent
    missing = []
    for source in sorted(room.glob("*.py")):
        for node in ast.walk(ast.parse(source.read_text())):
            if not isinstance(node, ast.ImportFrom) or not node.module:
                continue
            if node.module.split(".")[0] in ("vllm", "torch", "transformers"):
                names = [f"{node.module}:{alias.name}" for alias in node.names]
                missing += [
                    f"{source.name}: {name}"
                    for name in names
                    if not any(
                        place == name or place.startswith(name.replace(":", ".") + ":")
                        for place in listed
                    )
                ]
    # Where the parser stood before 0.19.
    assert missing == ["args.py: vllm.utils:FlexibleArgumentParser"]


def test_a_missing_internal_is_named_with_purpose_and_version(cpu: Served) -> None:
    with pytest.raises(AssertionError) as failure:
        walk(cpu.llm_engine, "engine_core.engine_core.conductor.running", "the batch", "0.32")
    told = str(failure.value)
    assert "engine_core.engine_core.conductor.running" in told
    assert "EngineCore has no 'conductor'" in told
    assert "vLLM 0.32" in told
    assert "the batch" in told


def test_limits_are_plain_numbers_that_the_scheduler_reads_at_each_step(cpu: Served) -> None:
    scheduler = cpu.scheduler
    # A property or a slot that is only read at boot would take the value and do nothing.
    for name in ("max_num_active_reqs", "max_num_scheduled_tokens", "max_num_running_reqs"):
        assert type(vars(scheduler)[name]) is int, name
    source = inspect.getsource(type(scheduler).schedule)
    assert "self.max_num_active_reqs" in source
    assert "self.max_num_scheduled_tokens" in source


def names(kind: type[Any]) -> set[str]:
    """Fields of a dataclass or a msgspec struct."""
    if dataclasses.is_dataclass(kind):
        return {field.name for field in dataclasses.fields(kind)}
    return set(kind.__struct_fields__)


FIELDS = (
    # class, what we read of it
    ("vllm.v1.core.sched.output.SchedulerOutput",
     {"scheduled_new_reqs", "scheduled_cached_reqs", "num_scheduled_tokens",
      "total_num_scheduled_tokens", "scheduled_spec_decode_tokens"}),
    ("vllm.v1.spec_decode.metrics.SpecDecodingStats",
     {"num_drafts", "num_draft_tokens", "num_accepted_tokens", "num_accepted_tokens_per_pos"}),
    ("vllm.v1.core.sched.output.NewRequestData", {"req_id"}),
    ("vllm.v1.core.sched.output.CachedRequestData",
     {"req_ids", "num_output_tokens", "num_computed_tokens"}),
    ("vllm.v1.engine.EngineCoreOutputs", {"outputs", "timestamp", "scheduler_stats"}),
    ("vllm.v1.engine.EngineCoreOutput", {"request_id", "new_token_ids"}),
    ("vllm.v1.metrics.stats.RequestStateStats",
     {"scheduled_ts", "first_token_ts", "last_token_ts", "num_generation_tokens",
      "num_preemptions"}),
    ("vllm.v1.metrics.stats.SchedulerStats",
     {"kv_cache_usage", "prefix_cache_stats", "spec_decoding_stats"}),
    ("vllm.v1.metrics.stats.PrefixCacheStats", {"queries", "hits"}),
    ("vllm.outputs.CompletionOutput", {"token_ids"}),
)  # fmt: skip


@pytest.mark.parametrize(("path", "fields"), FIELDS, ids=[path for path, _ in FIELDS])
def test_vllm_class_still_has_the_fields_we_read(cpu: Served, path: str, fields: set[str]) -> None:
    module, _, name = path.rpartition(".")
    gone = fields - names(getattr(__import__(module, fromlist=[name]), name))
    assert not gone, f"{path} has lost {sorted(gone)} since vLLM 0.32"


def test_vllm_iteration_stats_still_have_what_we_read(cpu: Served) -> None:
    from vllm.v1.metrics.stats import IterationStats

    stats = vars(IterationStats())
    for name in ("num_generation_tokens", "num_preempted_reqs", "inter_token_latencies_iter"):
        assert name in stats, f"IterationStats has lost {name} since vLLM 0.32"


def test_vllm_stat_loggers_are_still_called_as_ours_is_written(cpu: Served) -> None:
    from vllm.v1.metrics.loggers import StatLoggerBase

    first = list(inspect.signature(StatLoggerBase.record).parameters)[1:3]
    assert first == ["scheduler_stats", "iteration_stats"]
    assert set(StatLoggerBase.__abstractmethods__) <= {
        "__init__",
        "record",
        "log_engine_initialized",
    }


def test_requests_and_outputs_in_flight_still_have_what_we_read(cpu: Served) -> None:
    cpu.start(3, Uniform(20, 20), Uniform(6, 6), seed=50)
    cpu.turn(2)
    assert len(cpu.scheduler.requests) == 3
    for name, request in cpu.scheduler.requests.items():
        assert name in cpu.vllm._live, "add_request returns the name the scheduler uses"
        assert (request.num_prompt_tokens, request.num_tokens, request.max_tokens) == (20, 22, 6)
        state = cpu.llm_engine.output_processor.request_states[name]
        assert state.stats.num_generation_tokens == 2
        assert state.stats.scheduled_ts <= state.stats.first_token_ts
    outputs = []
    step = cpu.llm_engine.step

    def seen() -> list[Any]:
        new: list[Any] = step()
        outputs.extend(new)
        return new

    cpu.llm_engine.step = seen
    try:
        cpu.drain(at_most=20)
    finally:
        del cpu.llm_engine.step
    assert len(outputs) == 3
    for output in outputs:
        assert output.request_id.startswith("t")
        assert len(output.outputs[0].token_ids) == 6
        assert output.metrics.num_generation_tokens == 6
        assert output.num_cached_tokens == 0


@pytest.mark.parametrize("sizes", [[1, 2, 4, 8, 16, 64], [8, 16, 24], [5]])
def test_a_step_is_padded_as_vllms_dispatcher_pads_it(sizes: list[int]) -> None:
    from vllm.config import CUDAGraphMode
    from vllm.v1.cudagraph_dispatcher import CudagraphDispatcher

    class Stand:
        """What the dispatcher's table is made of."""

        cudagraph_mode = CUDAGraphMode.NONE
        _bs_to_padded_graph_size: list[int]

        class compilation_config:
            max_cudagraph_capture_size = max(sizes)
            cudagraph_capture_sizes = sizes
            compile_sizes = None

    CudagraphDispatcher._compute_bs_to_padded_graph_size(Stand)
    for tokens in range(1, max(sizes) + 1):
        row = np.zeros((1, len(STEP)))
        row[0, STEP["decode_tokens"]] = row[0, STEP["running"]] = tokens
        padded = Stand._bs_to_padded_graph_size[tokens]
        found = padding(row, sizes)
        assert found is not None
        assert found.frac == pytest.approx((padded - tokens) / padded)
