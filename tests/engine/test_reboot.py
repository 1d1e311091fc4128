"""Another engine in place of the running one, in this process; memory comes back."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.conftest import Bench, Served
from tputtui.engine.protocol import State
from tputtui.errors import CeilingError
from tputtui.load.generator import Generator
from tputtui.load.lengths import Uniform
from tputtui.load.prompts import Piece, Prompt, TokenSource
from tputtui.load.request import RequestSpec
from tputtui.measure.samples import Outcome

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]


@pytest.fixture
def own(bench: Bench, cpu: Served) -> Iterator[Served]:
    """The CPU engine, given up afterwards: its arguments are no longer what others expect."""
    yield cpu
    bench.close()


def test_above_the_ceiling_a_boot_raises_it_and_the_same_load_goes_on(own: Served) -> None:
    session = own.session
    earlier = own.recorder.accounting.issued
    own.start(40, Uniform(16, 64), Uniform(8, 24), seed=21)
    # A seed counts from request 0 on.
    session.steer.load.stop()
    session.steer.load.toggle()
    own.turn(30)
    session.steer.limits.set("max_num_batched_tokens", 1024)
    own.turn()
    marks, issued = len(own.recorder.marks), own.recorder.accounting.issued - earlier
    with pytest.raises(CeilingError) as refusal:
        session.steer.limits.set("max_num_seqs", 96)
    assert "in flight are aborted" in session.steer.engine.boot_cost
    session.steer.engine.boot_higher(refusal.value.name, refusal.value.value)
    own.turn(30)
    status = own.host.status
    assert status.state is State.RUNNING
    assert status.facts.ceilings.max_num_seqs == 96
    assert status.knobs.max_num_seqs == 96
    # What had been turned stays; what had not is as the new engine was booted.
    assert status.knobs.max_num_batched_tokens == 1024
    assert session.engine.args["max_num_seqs"] == 96
    assert "booted shape:demo" in list(own.recorder.marks)[marks].text
    # The very requests that were next, not the first ones again.
    reference = Generator(session.workload, status.facts.vocab_size)
    reference.resume(0.0)
    wanted: dict[int, tuple[int, int]] = {}
    while len(wanted) < own.recorder.accounting.issued - earlier:
        for request in reference.due(0.0, 0, 2048):
            wanted[request.number] = (request.prompt_tokens, request.output_tokens)
            reference.ended(request.number, 0.0, request.output_tokens, ())
    seen = {s.number: (s.prompt_tokens, s.wanted_tokens) for s in own.ended}
    assert max(seen) > issued
    assert seen == {number: wanted[number] for number in seen}
    own.drain(at_most=300)
    outcomes = {sample.outcome for sample in own.ended}
    assert outcomes == {Outcome.FINISHED, Outcome.ABORTED}


@pytest.mark.long
def test_a_boot_that_fails_goes_back_to_the_arguments_before_and_says_why(own: Served) -> None:
    session = own.session
    own.start(20, Uniform(16, 64), Uniform(8, 24), seed=22)
    own.turn(10)
    session.steer.limits.set("max_num_seqs", 24)
    own.turn()
    before = session.engine
    for args, says in (
        ({**before.args, "dtype": "float7"}, "float7"),
        ({**before.args, "max_num_batched_tokens": 16}, "max_num_batched_tokens"),
    ):
        session.steer.engine.boot_with(args, {})
        own.turn(10)
        frame = session.advance()
        assert frame.status.state is State.RUNNING
        assert says in frame.status.refused.message
        assert session.engine == before
        assert frame.status.knobs.max_num_seqs == 24
        assert "Back to what ran before" in " ".join(mark.text for mark in own.recorder.marks)
    own.drain(at_most=300)


@pytest.mark.long
def test_a_compiled_model_goes_with_its_engine(own: Served) -> None:
    """What vLLM does as it compiles a model, without the 40 s that this takes on a CPU."""
    from torch._dynamo.convert_frame import register_bytecode_hook
    from vllm.compilation.wrapper import TorchCompileWithNoGuardsWrapper

    class Model(TorchCompileWithNoGuardsWrapper):  # type: ignore[misc]
        def __init__(self) -> None:
            register_bytecode_hook(self.bytecode_hook)

        def forward(self) -> None:
            pass

    model = weakref.ref(Model())
    gc.collect()
    assert model() is not None
    own.host.close(0.0)
    own.host.run_pass()
    assert own.host.status.state is State.STOPPED
    assert model() is None


BOOTS = 10 if "FAULT_SEQUENCES" in os.environ else 6
MANY_BOOTS = """
import json, sys, threading
import psutil
from tests import PATIENCE_S
from tests.engine.conftest import CPU, Served
from tputtui.engine.memory import give_back
from tputtui.engine.protocol import State
from tputtui.engine.vllm.inproc import VllmEngine
from tputtui.load.lengths import Uniform
from tputtui.profile import EngineSpec

if __name__ == "__main__":
    engine = {**CPU.args, **json.loads(sys.argv[2])}
    served, process = Served(VllmEngine, EngineSpec(CPU.model, engine)), psutil.Process()
    served.start(20, Uniform(16, 64), Uniform(8, 24), seed=23)
    served.turn(20)

    def boot(tokens):
        served.session.steer.engine.boot_with({**engine, "max_num_batched_tokens": tokens}, {})
        served.turn(20)
        assert served.host.status.state is State.RUNNING
        assert served.host.status.facts.ceilings.max_num_batched_tokens == tokens
        # What the allocator holds for itself is nothing that a boot has left.
        give_back()
        return {
            "rss": process.memory_info().rss,
            "threads": threading.active_count(),
            "children": len(process.children(recursive=True)),
            "files": process.num_fds(),
        }

    boot(1024)
    first = boot(2048)
    seen = [boot(tokens) for tokens in (1024, 2048) * (int(sys.argv[1]) // 2)]
    served.drain(at_most=300)
    assert served.session.close(PATIENCE_S)
    served.host.run_pass()
    print(json.dumps([first, *seen]))
"""


@pytest.mark.long
@pytest.mark.parametrize(("args", "growth_frac"), [
    ({}, 0.05),
    # Code that torch has compiled and loaded stays: 7 MB a boot here, whatever the model's size.
    pytest.param({"enforce_eager": False}, 0.05 + 0.01 * BOOTS, marks=pytest.mark.skipif(
        "FAULT_SEQUENCES" not in os.environ, reason="two minutes: make faults",
    )),
])  # fmt: skip
def test_many_boots_leave_memory_threads_and_children_as_they_were(
    args: dict[str, bool], growth_frac: float
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MANY_BOOTS, str(BOOTS), json.dumps(args)],
        cwd=ROOT,
        # oneDNN keeps up to 1,024 kernels, one for each shape of batch served so far: that grows
        # with what is served, however often is booted, and would hide what boots leave behind.
        env=os.environ | {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "0", "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert done.returncode == 0, done.stderr
    first, *seen = json.loads(done.stdout.splitlines()[-1])
    assert len(seen) == BOOTS
    assert first["children"] == 0
    for name in ("threads", "children", "files"):
        assert [found[name] for found in seen] == [first[name]] * BOOTS, name
    for found in seen:
        assert found["rss"] == pytest.approx(first["rss"], rel=growth_frac)


def test_each_boot_tells_what_it_was_asked_for_and_what_came_of_it(
    own: Served, caplog: pytest.LogCaptureFixture
) -> None:
    # As the program has it.
    caplog.set_level("INFO", "vllm")
    args = own.session.engine.args | {
        "max_model_len": -1, "async_scheduling": True, "compilation_config": {"cudagraph_mode": 1}
    }  # fmt: skip
    for _ in range(2):
        # vLLM says some of its reasons once in a process: the second boot has them as well.
        own.session.steer.engine.boot_with(args, {})
        own.turn()
        rows = {row.name: row for row in own.host.status.facts.resolved}
        # The platform for CPUs switches it off, and says nothing of it.
        overlap = rows["async_scheduling"]
        assert (overlap.asked, overlap.got, overlap.why) == ("on", "off", "")
        length = rows["max_model_len"]
        assert (length.asked, length.warns) == ("as fits", False)
        assert length.got == str(own.host.status.facts.ceilings.max_model_len)
        assert length.why.startswith("Auto-fit max_model_len")
        graphs = rows["compilation_config.cudagraph_mode"]
        assert (graphs.asked, graphs.got, graphs.warns) == ("PIECEWISE", "NONE", True)
        assert graphs.why.startswith("Enforce eager set")
        assert rows["attention_backend"].got == "CPU_ATTN"
        assert rows["attention_backend"].asked == ""
        assert rows["block_size"].asked == rows["block_size"].got == "32"


@pytest.mark.long
def test_hits_beyond_the_first_cache_are_told_by_tier(own: Served, tmp_path: Path) -> None:
    connector = {
        "kv_connector": "ExampleConnector",
        "kv_role": "kv_both",
        "kv_connector_extra_config": {"shared_storage_path": str(tmp_path)},
    }
    args = own.session.engine.args | {"kv_transfer_config": connector}
    own.session.steer.engine.boot_with(args, {})
    own.turn()
    assert own.host.status.load_failure is None
    engine = own.vllm
    # The same prompt each time.
    prompt = Prompt(TokenSource(9, 4096), (Piece(256),), 256)

    def serve() -> dict[str, int]:
        engine.submit(RequestSpec(0, 0.0, prompt, 4, False))
        while engine._numbers:
            engine.step()
        return dict(engine.counts().tiers)

    assert serve() == {}
    # vLLM leaves the last block to be computed: 256 tokens, less one block of 32.
    for times in (1, 2):
        assert engine.reset_prefix_cache() == 0
        assert serve() == {"external_unspecified": 224 * times}
    # Without a reset the engine's own cache has it.
    assert serve() == {"external_unspecified": 448, "device": 224}
