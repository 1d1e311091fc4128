"""Our figures beside vLLM's own: the same work through `vllm bench` and through our loop.

    python benchmarks/agreement.py                     # 5 pairs of each, every leg a process
    python benchmarks/agreement.py throughput --one-engine --pairs 10
    python benchmarks/agreement.py --model .models/smollm2   # a real model's weights

throughput  `vllm bench throughput`: requests of fixed lengths, all put in at once, ÷ the time of
            its `generate()`. Ours: a closed loop of as many, held after its first turn; what the
            request log says ÷ (last `end_s` - first `due_s`).
latency     `vllm bench latency`: the time of one batch, again and again. Ours: such waves, the
            E2E from due of the slowest request of each, from the request log.

Legs alternate (A B, B A, …). vLLM's benchmark runs as it is, through its own parser, and its
figures come from its `--output-json`. Ours is the host, turned by hand on the main thread, where
vLLM's loop runs as well. Alike on both sides: the demo shape with 12 288 words (the latency
benchmark draws ids up to 10 000), dummy weights, engine arguments, environment, warm-up, no prefix
caching, sampling (temperature 1, top_p 1, `ignore_eos`), no detokenizing, statistics on, the core
in process (vLLM's default is a second process: --own-process-core). Settings and vLLM's own counts
of steps, tokens and preemptions are compared after each pair, and differences printed.

What no option makes alike, with its size on 2 cores of a Xeon under vLLM 0.32:
- Our loop: about 0.1 ms a step, of 5.6 ms with 8 running (1.8 %) and 15 ms with 64 (0.7 %); its
  hooks are 0.01 ms of it. 0.05 ms a request to draw and book it.
- The throughput benchmark sends text: 0.16 ms a request more than ids, which latency sends.
- It draws a progress bar (into a file). vLLM's time ends with `generate()`, < 1 ms after ours.

Two processes differ by some percent whatever they run. --one-engine takes that away: vLLM's
benchmark gets an `LLM` around our engine, our hooks off. Nothing else may run meanwhile.

Nearly all of a throughput leg is the model's own steps, which neither side's code touches, and
whose speed wanders from leg to leg. So a second ratio is given, with as much model time on both
sides (the pair's mean): it settles far more closely what the two loops and rulers add. What it
cannot see, a loop that slows the model itself, is what the first ratio is there for.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest import mock

# vLLM's benchmark divides by the time of its progress bar, which has none where it is off: ours
# switches it off later, and tqdm reads that when it is imported.
os.environ.pop("TQDM_DISABLE", None)

import msgspec
import numpy as np
import tqdm  # noqa: F401
from overhead import interval, machine

from tputtui.engine import dispatch
from tputtui.engine.flags import from_argv
from tputtui.engine.host import Host
from tputtui.engine.models import shapes
from tputtui.engine.orders import Boot, HoldLoad, RunLoad, SetWorkload, Start
from tputtui.engine.protocol import State
from tputtui.engine.vllm.inproc import VllmEngine
from tputtui.engine.vllm.sampling import sampling_of
from tputtui.load.lengths import Fixed
from tputtui.load.workload import ClosedLoop, Workload
from tputtui.measure.recorder import Recorder
from tputtui.measure.samples import RequestSample
from tputtui.profile import EngineSpec

VOCABULARY = 12_288
WARM_UP = 16  # requests before a throughput leg, at most
BAND = {"throughput": 0.02, "latency": 0.05}
FIGURES = {
    "throughput": ("requests/s", "total tok/s", "output tok/s"),
    "latency": ("mean s", "p50 s", "p90 s", "p99 s"),
}
ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_CONFIGURE_LOGGING": "0"}
ENGINE = """
    --load-format {weights} --dtype float32 --enforce-eager --no-enable-prefix-caching
    --block-size 32 --kv-cache-memory-bytes {kv_bytes} --max-num-batched-tokens 2048
    --max-model-len 2048 --max-num-seqs {o.max_num_seqs} --seed {o.seed}"""
BENCHMARK = {
    "throughput": """ --disable-detokenize --num-prompts {o.requests} --num-warmups {warm_up}
        --dataset-name random --random-input-len {o.input} --random-output-len {o.output}""",
    "latency": """ --disable-detokenize --batch-size {o.batch} --num-iters {o.iters}
        --num-iters-warmup {o.warmup} --input-len {o.input} --output-len {o.output}""",
}


def engine_words(options: argparse.Namespace) -> list[str]:
    """The engine's arguments, but the model."""
    weights, kv_bytes = ("auto", 2 << 30) if options.model else ("dummy", 64 << 20)
    return ENGINE.format(o=options, weights=weights, kv_bytes=kv_bytes).split()


def warm_up(options: argparse.Namespace) -> int:
    """Requests before a throughput leg: no fewer than give the first steps of the leg itself."""
    return min(WARM_UP, int(options.requests))


def model_of(options: argparse.Namespace, folder: pathlib.Path) -> str:
    """The folder of the model: a person's, or the one written into `folder`."""
    return options.model or str(folder)


def write_model(folder: pathlib.Path) -> None:
    """The demo shape's config with a larger vocabulary, and a tokenizer of one word per id."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    config = json.loads((shapes()["demo"] / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": VOCABULARY}))
    words = ["<unk>", "<eos>", *(f"t{i}" for i in range(2, VOCABULARY))]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="<eos>")
    fast.save_pretrained(folder)


# -- inside a leg's process ----------------------------------------------------------------------


def counted(engine: Any) -> dict[str, int]:
    """vLLM's own counts since the engine booted."""
    named = {metric.name.removeprefix("vllm:"): metric for metric in engine.get_metrics()}
    names = ("prompt_tokens", "generation_tokens", "num_preemptions")
    return {"steps": named["iteration_tokens_total"].count} | {n: named[n].value for n in names}


def time_model(spent: list[float]) -> None:
    """Append the seconds of each of the model's calls in this process to `spent`."""
    from vllm.v1.executor.uniproc_executor import UniProcExecutor

    def timed(call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                spent.append(time.perf_counter() - began)

        return called

    for name in ("execute_model", "sample_tokens"):
        setattr(UniProcExecutor, name, timed(getattr(UniProcExecutor, name)))


def leg_of(
    engine: Any, sampling: Any, figures: list[float], took_s: float = 0.0, model_s: float = 0.0
) -> dict[str, Any]:
    """A leg's figures; what its LLMEngine was booted with and how it sampled; its counts; for
    throughput, how long it took and how much of that the model did."""
    config = engine.vllm_config
    places = (
        (config.scheduler_config, "max_num_seqs max_num_batched_tokens async_scheduling policy"),
        (config.cache_config, "block_size num_gpu_blocks enable_prefix_caching cache_dtype"),
        (config.model_config, "max_model_len dtype seed enforce_eager skip_tokenizer_init"),
        (sampling, "temperature top_p top_k max_tokens ignore_eos detokenize output_kind"),
    )
    found = {name: str(getattr(of, name)) for of, names in places for name in names.split()}
    found |= {"core": type(engine.engine_core).__name__, "log_stats": str(engine.log_stats)}
    found["torch threads"] = str(sys.modules["torch"].get_num_threads())
    return {
        "figures": list(map(float, figures)),
        "settings": found,
        "counted": counted(engine),
        "times": [took_s, model_s],
    }


def vllm_leg(
    kind: str, options: argparse.Namespace, folder: pathlib.Path, model: list[float]
) -> dict[str, Any]:
    """vLLM's own benchmark, through its parser and its main."""
    from vllm import LLM
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    out = folder / "vllm.json"
    words = (
        engine_words(options) + BENCHMARK[kind].format(o=options, warm_up=warm_up(options)).split()
    )
    words += ["--model", model_of(options, folder), "--output-json", str(out)]
    benchmark = importlib.import_module(f"vllm.benchmarks.{kind}")
    benchmark.add_cli_args(parser := FlexibleArgumentParser())
    generate = LLM.generate
    seen: dict[str, Any] = {}

    # once a wave
    def noted(llm: Any, prompts: Any, sampling_params: Any, **rest: Any) -> Any:
        model.clear()
        seen.update(llm=llm, sampling=sampling_params)
        return generate(llm, prompts, sampling_params, **rest)

    with mock.patch.object(LLM, "generate", noted):
        benchmark.main(parser.parse_args(words))
    told, engine, sampling = json.loads(out.read_text()), seen["llm"].llm_engine, seen["sampling"]
    sampling = sampling[0] if isinstance(sampling, list) else sampling
    if kind == "latency":
        figures = [told["avg_latency"], *(told["percentiles"][p] for p in ("50", "90", "99"))]
        return leg_of(engine, sampling, figures)
    took_s = told["elapsed_time"]
    figures = [told["requests_per_second"], told["tokens_per_second"]]
    figures.append(options.requests * options.output / took_s)
    return leg_of(engine, sampling, figures, took_s, sum(model))


def boot(options: argparse.Namespace, folder: pathlib.Path) -> tuple[Host, Recorder]:
    """Our host on a booted engine, idle; and its recorder. A pass hands over all that is due,
    however busy the machine: so does vLLM's benchmark."""
    dispatch._SENDING_S = math.inf
    load = Workload(ClosedLoop(0), Fixed(options.input), Fixed(options.output), seed=options.seed)
    host = Host(VllmEngine, recorder := Recorder(), load, time.monotonic)
    args = from_argv(engine_words(options))
    host.order(Boot(Start(EngineSpec(model_of(options, folder), args), {}), load=False))
    host.run_pass()
    assert not host.status.failure, host.status.failure
    return host, recorder


def wave(host: Host, recorder: Recorder, requests: int) -> list[RequestSample]:
    """`requests` all due at once and served to the end: their samples."""
    issued, generated = recorder.issued.count, recorder.generated_tokens
    host.order(
        SetWorkload(msgspec.structs.replace(host._workload, arrivals=ClosedLoop(requests)), "")
    )
    host.order(RunLoad())
    host.run_pass()
    host.order(HoldLoad())
    while host.status.state in (State.RUNNING, State.DRAINING):
        host.run_pass()
    assert not host.status.failure, host.status.failure
    samples = list(recorder.request_log)[-requests:]
    assert recorder.issued.count - issued == requests == len(samples)
    assert {sample.outcome for sample in samples} == {"finished"}
    assert recorder.generated_tokens - generated == sum(s.output_tokens for s in samples)
    return samples


def our_leg(
    kind: str, options: argparse.Namespace, host: Host, recorder: Recorder, model: list[float]
) -> dict[str, Any]:
    """The same through our loop."""
    took_s = 0.0
    if kind == "throughput":
        wave(host, recorder, warm_up(options))
        model.clear()
        samples = wave(host, recorder, options.requests)
        took_s = max(s.end_s for s in samples) - min(s.due_s for s in samples)
        output = sum(s.output_tokens for s in samples)
        total = output + sum(s.prompt_tokens for s in samples)
        figures = [len(samples) / took_s, total / took_s, output / took_s]
    else:
        waves = [wave(host, recorder, options.batch) for _ in range(options.warmup + options.iters)]
        took = [max(s.e2e_s for s in samples) for samples in waves[options.warmup :]]
        figures = [float(np.mean(took)), *np.percentile(took, [50, 90, 99])]
    engine: Any = host._engine
    asked: Any = SimpleNamespace(serving=None, output_tokens=options.output)
    sampling = sampling_of(engine._engine.model_config)(asked)
    return leg_of(engine._engine, sampling, figures, took_s, sum(model))


def legs_here(
    sides: list[str], kind: str, options: argparse.Namespace, folder: pathlib.Path
) -> list[dict[str, Any]]:
    """Legs on one engine, ours; our hooks are off while vLLM's benchmark runs."""
    model: list[float] = []
    time_model(model)
    if sides == ["vllm"]:
        return [vllm_leg(kind, options, folder, model)]
    host, recorder = boot(options, folder)
    ours: Any = host._engine
    engine, scheduler = ours._engine, ours._scheduler
    found = []
    for side in sides:
        before = counted(engine)
        if side == "ours":
            leg = our_leg(kind, options, host, recorder, model)
        else:
            off = scheduler.__dict__.pop("schedule"), engine.engine_core.__dict__.pop("get_output")
            with mock.patch.object(type(engine), "from_engine_args", return_value=engine):
                leg = vllm_leg(kind, options, folder, model)
            scheduler.schedule, engine.engine_core.get_output = off
        leg["counted"] = {name: n - before[name] for name, n in leg["counted"].items()}
        found.append(leg)
    return found


# -- outside -------------------------------------------------------------------------------------


def order(pairs: int) -> list[str]:
    """Who runs: A B, B A, …"""
    return [s for i in range(pairs) for s in (("vllm", "ours") if i % 2 == 0 else ("ours", "vllm"))]


def legs_of(
    side: str, kind: str, options: argparse.Namespace, folder: pathlib.Path
) -> list[dict[str, Any]]:
    """What a new process finds: one leg, or `both` for all of them."""
    apart = side == "vllm" and options.own_process_core
    env = os.environ | ENVIRONMENT | {"VLLM_ENABLE_V1_MULTIPROCESSING": "1" if apart else "0"}
    words = [sys.executable, __file__, *sys.argv[1:], "--inside", side, kind, str(folder)]
    out, log = folder / "legs.json", folder / "log"
    out.unlink(missing_ok=True)
    with log.open("w") as file:
        subprocess.run(words, env=env, stdout=file, stderr=file)
    if not out.exists():
        raise SystemExit(f"{log.read_text()[-3000:]}\nno result: {' '.join(words)}")
    legs: list[dict[str, Any]] = json.loads(out.read_text())
    return legs


def verdict(ratios: list[float], band: float) -> str:
    """Mean ± half its 95 % t interval, and where that lies."""
    told = interval(ratios)
    if len(ratios) < 2:
        return f"{told}: one pair, no interval"
    mean, half = map(float, told.split(" ± "))
    low, high = abs(mean - 1) - half, abs(mean - 1) + half
    where = "inside" if high <= band else "OUTSIDE" if low > band else "straddles"
    return f"{told}, median {statistics.median(ratios):.3f}: {where}"


def compare(kind: str, options: argparse.Namespace, folder: pathlib.Path) -> None:
    """Run and print all pairs of one kind."""
    names, band, sides = FIGURES[kind], BAND[kind], order(options.pairs)
    batches = f"batches of {options.batch}, {options.iters} a leg after {options.warmup}"
    load = {
        "throughput": f"{options.requests} at once after {warm_up(options)}",
        "latency": batches,
    }[kind]
    print(f"\n{kind}: {load}, {options.input} in, {options.output} out, seed {options.seed}")
    print("pair" + "".join(f"{name + ': vLLM':>20}{'ours':>9}{'ratio':>7}" for name in names))
    both = iter(legs_of("both", kind, options, folder)) if options.one_engine else None
    ratios, alike, shares = [], [], []
    for pair in range(options.pairs):
        legs = {}
        for side in sides[2 * pair : 2 * pair + 2]:
            legs[side] = next(both) if both else legs_of(side, kind, options, folder)[0]
        figures = list(zip(legs["vllm"]["figures"], legs["ours"]["figures"], strict=True))
        ratios.append([b / a for a, b in figures])
        took, model = np.array([legs[side]["times"] for side in ("vllm", "ours")]).T
        if all(model):
            beside = took - model + model.mean()
            alike.append(beside[0] / beside[1])
            shares.append(sum(model) / sum(took))
        cells = [f"{a:>20,.5g}{b:>9,.5g}{b / a:>7.3f}" for a, b in figures]
        print(f"{pair + 1:>4}" + "".join(cells), flush=True)
        a, b = (legs[side]["settings"] | legs[side]["counted"] for side in ("vllm", "ours"))
        if pair == 0:
            print("     same: " + ", ".join(f"{k} {v}" for k, v in a.items() if b[k] == v))
        unlike = [f"{k} {v} / {b[k]}" for k, v in a.items() if b[k] != v]
        print(*(f"     DIFFERENT, vLLM / ours: {words}\n" for words in unlike), sep="", end="")
    print(f"ours ÷ vLLM, mean with its 95 % interval; target 1 ± {band}")
    for name, found in zip(names, zip(*ratios, strict=True), strict=True):
        print(f"  {name:<13}{verdict(list(found), band)}")
    if alike:
        print(f"with as much model time on both sides ({np.mean(shares):.1%} of the legs)")
        print(f"  {'throughput':<13}{verdict(alike, band)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("kind", nargs="?", choices=BAND, help="both if left out")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--one-engine", action="store_true", help="all legs in one process, on one")
    how.add_argument("--own-process-core", action="store_true", help="for vLLM's legs: its default")
    parser.add_argument("--inside", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--model", help="folder of a model with its weights (the demo's shape)")
    for name, default, text in (
        ("pairs", 5, "of legs"), ("requests", 256, "of a throughput leg"),
        ("batch", 8, "requests of a latency leg's batch"), ("iters", 30, "batches measured"),
        ("warmup", 5, "batches before"), ("input", 128, "tokens"), ("output", 64, "tokens"),
        ("max-num-seqs", 64, "of the engines"), ("seed", 0, "of load and engines"),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{text} ({default})")
    options = parser.parse_args()
    if options.inside:
        side, kind, where = options.inside
        folder = pathlib.Path(where)
        sides = order(options.pairs) if side == "both" else [side]
        found = legs_here(sides, kind, options, folder)
        (folder / "legs.json").write_text(json.dumps(found))
        return
    where = "one engine" if options.one_engine else "a process per leg"
    core = f"vLLM's core in {'its own' if options.own_process_core else 'the same'} process"
    print(f"{machine()}; {where}, {core}; load average {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as name:
        if not options.model:
            write_model(pathlib.Path(name))
        for kind in [options.kind] if options.kind else BAND:
            compare(kind, options, pathlib.Path(name))


if __name__ == "__main__":
    main()
