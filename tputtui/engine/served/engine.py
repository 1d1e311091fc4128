"""A server that runs elsewhere, driven like an engine: requests go out over HTTP, tokens come back.

Engine thread. A step here is a tick: what has come since the one before. Its limits are the
server's own, read-only, but for those that it offers to turn (GET and PATCH /v1/runtime_config,
vllm#54816).
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from tputtui.attach.about import About
from tputtui.attach.access import Access
from tputtui.attach.address import Address
from tputtui.attach.poller import Poller
from tputtui.attach.reading import Reading
from tputtui.attach.span import Span
from tputtui.engine.protocol import Counts, Ended, EngineFacts, Report, State, StepReport
from tputtui.engine.served.link import Link
from tputtui.engine.target import check_arguments
from tputtui.errors import EngineError, KnobError
from tputtui.knobs import KNOBS, UNTOLD, Knobs
from tputtui.load.generator import RequestSpec
from tputtui.measure.samples import StepSample
from tputtui.profile import EngineSpec

__all__ = ["ServedEngine"]

_TICK_S = 0.004
_SCRAPED_EVERY_S = 0.5
_GAPS_EVERY_S = 0.25
_GAP_STEPS = 200.0
"""Gaps between tokens are pooled to within half a percent: thousands a second have to be kept."""
_FIRST_ANSWER_S = 15.0
_LIVE = "max_num_running_seqs"
_RUNTIME = "/v1/runtime_config"
_NOTHING_TOLD = Knobs(*[UNTOLD] * len(KNOBS))


class ServedEngine:
    """Serves the requests of one run by sending them to `address`.

    clock: monotonic seconds, the host's. Latencies are what a client sees: from due, over the
    network, to the first chunk with content. What /metrics tells (KV cache, prefix hits,
    preemptions) is of everybody's requests.
    """

    def __init__(
        self, address: Address, access: Access, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._address = address
        self._clock = clock
        self._link = Link(address, access, clock)
        self._poller = Poller((address,), access, _SCRAPED_EVERY_S, clock)
        self._about = About()
        self._span = Span(0.0)
        """The two newest scrapes."""
        self._model = ""
        self._knobs = _NOTHING_TOLD
        self._kv_blocks = self._spared = 0
        self._kv_frac = math.nan
        self._gaps: Counter[float] = Counter()
        self._stepped_s = self._pooled_s = clock()

    def boot(self, spec: EngineSpec, report: Report) -> EngineFacts:
        """Find the server, and what it tells.

        Raises UsageError for arguments that would be another server's, EngineError when it does
        not answer.
        """
        check_arguments(spec)
        began_s = self._clock()
        report(State.LOADING, f"asking {self._address.name}")
        self._link.open()
        self._poller.start()
        reading = self._first_figures()
        self._model = self._about.model or reading.model
        if not self._model:
            raise EngineError(
                f"{self._address.name} does not say which model it serves.",
                "Its /v1/models should.",
            )
        report(State.LOADING, "finding which tokens it takes")
        vocabulary = self._link.vocabulary(self._model)
        self._stepped_s = self._clock()
        return self._facts(reading, vocabulary, self._stepped_s - began_s)

    def submit(self, request: RequestSpec) -> None:
        """Send one request."""
        body: dict[str, Any] = {
            "model": self._model,
            "prompt": request.token_ids().tolist(),
            "max_tokens": request.output_tokens,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
            "return_token_ids": True,
        }
        self._link.send(request.number, request.prompt_tokens, msgspec.json.encode(body))

    def step(self) -> StepReport:
        """What has come in the last few milliseconds. Raises EngineError when it is gone."""
        time.sleep(_TICK_S)
        if self._link.failure is not None:
            raise self._link.failure
        cached, looked_up, preempted = self._scraped()
        tick, running, waiting = self._link.take()
        # What the server found in its cache it did not compute.
        self._spared += cached
        spared = min(self._spared, tick.prompt_tokens)
        self._spared -= spared
        now_s = self._clock()
        duration_s, self._stepped_s = now_s - self._stepped_s, now_s
        sample = StepSample(
            end_s=now_s,
            duration_s=duration_s,
            running=running,
            waiting=waiting,
            prefill_tokens=tick.prompt_tokens - spared,
            decode_tokens=max(0, tick.tokens - len(tick.first)),
            generated_tokens=tick.tokens,
            cached_tokens=cached,
            looked_up_tokens=looked_up,
            preemptions=preempted,
            kv_frac=self._kv_frac,
            max_num_seqs=self._knobs.max_num_seqs,
            max_num_batched_tokens=self._knobs.max_num_batched_tokens,
            kv_blocks=self._kv_blocks,
        )
        over = not running and not waiting
        return StepReport(sample, tick.first, self._pooled(tick.gaps, now_s, over), tick.ended)

    def apply(self, knobs: Knobs) -> list[Ended]:
        """Turn what the server lets turn. Raises KnobError when it refuses."""
        if _LIVE in self._about.live and knobs.max_num_seqs != self._knobs.max_num_seqs:
            status, said = self._link.ask("PATCH", _RUNTIME, {_LIVE: knobs.max_num_seqs})
            if status != 200:
                raise KnobError(f"The server refuses max_num_seqs: {status} {said}.")
        self._knobs = knobs
        return []

    def end(self, numbers: Iterable[int]) -> list[Ended]:
        """Hang up on requests; a server that notices aborts them."""
        return self._link.hang_up(numbers)

    def preempt(self) -> int:
        """Nothing: that is the server's to do."""
        return 0

    def reset_prefix_cache(self) -> int | None:
        """Empty it, where the server has its developers' route for that switched on."""
        with contextlib.suppress(EngineError):
            status, _ = self._link.ask("POST", "/reset_prefix_cache")
            return 0 if status == 200 else None
        return None

    def counts(self) -> Counts:
        """What streams, and what has no token yet."""
        return Counts(*self._link.counts(), self._kv_blocks)

    def shutdown(self) -> None:
        """Hang up."""
        self._poller.stop(1.0)
        self._link.close()

    # -- inside ----------------------------------------------------------------------------

    def _first_figures(self) -> Reading:
        """Wait until the server has told figures and what it is. Raises EngineError."""
        end_s, why, asked = self._clock() + _FIRST_ANSWER_S, "no answer", False
        while not asked or self._span.latest is None:
            for news in self._poller.news():
                if news.about is not None:
                    self._about, asked = news.about, True
                if news.reading is not None:
                    self._note(news.at_s, news.reading)
                why = news.why or why
            if self._clock() > end_s:
                raise EngineError(
                    f"{self._address.name}: {why}.", "`tputtui attach` shows whether it is up."
                )
            time.sleep(0.02)
        return self._span.latest

    def _note(self, at_s: float, reading: Reading) -> None:
        self._span.add(at_s, reading)
        self._kv_frac = self._span.total().kv_frac

    def _facts(self, reading: Reading, vocabulary: int, boot_s: float) -> EngineFacts:
        limits, live = self._about.limits, self._about.live
        blocks = reading.configured("num_gpu_blocks") or 0
        size = reading.configured("block_size") or 1
        self._kv_blocks = max(0, blocks - 1)
        caching = reading.info.get("enable_prefix_caching")
        ceilings = _NOTHING_TOLD.overridden(
            {
                "max_num_seqs": limits.get("max_num_seqs"),
                "max_num_batched_tokens": limits.get("max_num_batched_tokens"),
                "max_model_len": limits.get("max_model_len"),
                "num_gpu_blocks": blocks or None,
                "enable_prefix_caching": None if caching is None else int(caching == "True"),
            }
        )
        fixed = {knob.name: "it is the server's, set when that was started" for knob in KNOBS}
        self._knobs = ceilings
        if _LIVE in live:
            del fixed["max_num_seqs"]
            self._knobs = ceilings.with_value("max_num_seqs", live[_LIVE])
        kind, version = reading.dialect.name, self._about.version
        return EngineFacts(
            model=self._model,
            device=self._address.name,
            dtype="",
            ceilings=ceilings,
            booted=self._knobs,
            kv_tokens=reading.configured("kv_cache_size_tokens") or blocks * size,
            block_size=size,
            vocab_size=vocabulary,
            boot_s=boot_s,
            versions={kind.lower(): version} if version else {},
            fixed=fixed,
            stepped=False,
            kind=kind,
        )

    def _scraped(self) -> tuple[int, int, int]:
        """Tokens cached and looked up, and preemptions, in the scrapes that have come."""
        cached = looked_up = preempted = 0
        for news in self._poller.news():
            if news.reading is not None:
                self._note(news.at_s, news.reading)
                cached += self._more("cached")
                looked_up += self._more("looked_up")
                preempted += self._more("preemptions")
        return cached, looked_up, preempted

    def _more(self, key: str) -> int:
        increase = self._span.increase(key)
        return 0 if math.isnan(increase) else int(increase)

    def _pooled(self, gaps: Iterable[float], now_s: float, over: bool) -> list[tuple[float, int]]:
        """Gaps as (seconds, how many), a few times a second, and once all are there."""
        for gap_s in gaps:
            self._gaps[math.exp(round(math.log(max(gap_s, 1e-6)) * _GAP_STEPS) / _GAP_STEPS)] += 1
        if not over and now_s - self._pooled_s < _GAPS_EVERY_S:
            return []
        pooled, self._pooled_s = list(self._gaps.items()), now_s
        self._gaps.clear()
        return pooled
