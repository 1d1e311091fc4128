"""What vLLM's own server costs beside the engine in process, and what our plugin costs there.

    make served                                    # 12 rounds of 4 s a leg, about ten minutes
    python benchmarks/served.py --rounds 30

The demo's model and load on one machine, by turns:

engine    the engine in this process, as `tputtui` hosts it
bare      `vllm serve`, as it is, driven over HTTP
named     the same with `VLLM_PLUGINS=tputtui` and nobody connected to the plugin
watched   the same while a board watches every step and holds control

Each of the three servers is a process of its own; only the one whose turn it is has a load. The
order of a round is turned by one from round to round. Ratios are of legs of one round, with the
95 % t interval of the mean of their logarithms. Then limits are changed under load, and the time
of each round trip is taken. Nothing else may run meanwhile.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from overhead import interval, machine

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.realserver import serving
from tputtui.attach.access import Access
from tputtui.attach.address import parse_addresses
from tputtui.engine import flags, models
from tputtui.engine.host import Host
from tputtui.engine.orders import Boot, RunLoad, Start, StopLoad
from tputtui.engine.protocol import Engine
from tputtui.engine.served.engine import ServedEngine
from tputtui.engine.vllm.args import BRIEFLY
from tputtui.engine.vllm.inproc import VllmEngine
from tputtui.load.workload import Workload
from tputtui.measure.recorder import Recorder
from tputtui.profile import EngineSpec, load, shipped

SETTLE_S = 2.0
TOKEN = "the token of a benchmark"


class Driven:
    """A host that drives one engine, run by hand."""

    def __init__(self, make_engine: Callable[[], Engine], spec: EngineSpec, work: Workload) -> None:
        self.recorder = Recorder()
        self.host = Host(make_engine, self.recorder, work, time.monotonic)
        self.host.order(Boot(Start(spec, {}), load=False))
        self.run(0.1)
        if self.host.status.failure is not None:
            raise SystemExit(str(self.host.status.failure))

    def run(self, seconds: float) -> None:
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            self.host.run_pass()

    def leg(self, seconds: float) -> float:
        """Tokens/s over `seconds`, from the tokens of requests as they come."""
        self.host.order(RunLoad())
        self.run(SETTLE_S)
        before, began_s = self.recorder.generated_tokens, time.monotonic()
        self.run(seconds)
        tokens_per_s = (self.recorder.generated_tokens - before) / (time.monotonic() - began_s)
        self.host.order(StopLoad())
        self.run(0.5)
        return tokens_per_s

    def close(self) -> None:
        self.host.close(5)
        self.host.run_pass()


def served_by(url: str, token: str, *, plugin: bool) -> Callable[[], Engine]:
    (address,) = parse_addresses([url])

    def make() -> Engine:
        engine = ServedEngine(address, Access(), token)
        if not plugin:
            engine._inside.find = lambda: None  # type: ignore[method-assign]
        return engine

    return make


@contextlib.contextmanager
def servers(folder: Path, spec: EngineSpec) -> Iterator[dict[str, str]]:
    """The address of each of the three."""
    resolved = models.resolve(spec)
    words = ["--model", resolved.model, *flags.to_argv(resolved.args)]
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(TOKEN)
    named = {"VLLM_PLUGINS": "tputtui", "TPUTTUI_CONTROL_TOKEN_FILE": str(token)}
    with contextlib.ExitStack() as stack:
        urls = {}
        for name, environment in (("bare", {}), ("named", named), ("watched", named)):
            log = folder / f"{name}.log"
            server = stack.enter_context(serving(words, log, {**BRIEFLY, **environment}))
            urls[name] = server.url
        yield urls


def changed(driven: Driven, changes: int) -> list[float]:
    """Seconds that each of so many changes takes, under load, until every engine has it."""
    driven.host.order(RunLoad())
    driven.run(SETTLE_S)
    took, rng = [], random.Random(1)
    engine = driven.host._engine
    assert isinstance(engine, ServedEngine)
    for _ in range(changes):
        limits = engine._knobs.with_value("max_num_seqs", rng.randint(8, 64))
        began_s = time.monotonic()
        engine.apply(limits)
        took.append(time.monotonic() - began_s)
        driven.run(0.05)
    driven.host.order(StopLoad())
    driven.run(0.5)
    return sorted(took)


def quantile(took_s: list[float], share: float) -> float:
    """Of sorted seconds, in milliseconds."""
    return took_s[min(len(took_s) - 1, int(share * len(took_s)))] * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--changes", type=int, default=200)
    options = parser.parse_args()
    demo = load(shipped()["demo"])
    work, spec = demo.load, EngineSpec(demo.engine.model, demo.engine.args)
    os.environ.update(BRIEFLY)
    print(f"{machine()}; {options.rounds} rounds of {options.seconds:.0f} s a leg, demo profile")
    kinds = ("engine", "bare", "named", "watched")
    rates: dict[str, list[float]] = {kind: [] for kind in kinds}
    with tempfile.TemporaryDirectory() as name, servers(Path(name), spec) as urls:
        here = Driven(VllmEngine, spec, work)
        makers = {kind: served_by(url, TOKEN, plugin=kind == "watched")
                  for kind, url in urls.items()}  # fmt: skip
        print("round" + "".join(f"{kind:>10}" for kind in kinds) + "   tokens/s")
        for turn in range(options.rounds):
            order = kinds[turn % 4 :] + kinds[: turn % 4]
            for kind in order:
                if kind == "engine":
                    rates[kind].append(here.leg(options.seconds))
                    continue
                driven = Driven(makers[kind], EngineSpec(f"server:{urls[kind]}"), work)
                rates[kind].append(driven.leg(options.seconds))
                driven.close()
            print(f"{turn + 1:>5}" + "".join(f"{rates[k][-1]:>10,.0f}" for k in kinds), flush=True)
        for kind in kinds[1:]:
            against = "engine" if kind == "bare" else "bare"
            ratios = [a / b for a, b in zip(rates[kind], rates[against], strict=True)]
            print(f"{kind} ÷ {against}: {interval(ratios)} (95 %), median "
                  f"{statistics.median(ratios):.3f}")  # fmt: skip
        driven = Driven(makers["watched"], EngineSpec(f"server:{urls['watched']}"), work)
        took = changed(driven, options.changes)
        driven.close()
        print(f"a change, until it is in force (n {len(took)}): p50 {quantile(took, 0.5):.0f}  p99 "
              f"{quantile(took, 0.99):.0f}  max {took[-1] * 1000:.0f} ms")  # fmt: skip
        here.close()


if __name__ == "__main__":
    main()
