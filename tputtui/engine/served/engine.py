"""Drives a server that runs elsewhere like an engine: sends requests over HTTP, receives tokens.

Engine thread. A step here is a tick: the tokens that arrived since the previous tick. The limits
are the server's own and read-only, except those that it can change while it runs (GET and PATCH
/v1/runtime_config, vllm#54816).
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from tputtui.attach.about import About
from tputtui.attach.access import Access
from tputtui.attach.address import Address, parse_addresses
from tputtui.attach.here import socket_behind
from tputtui.attach.poller import Poller
from tputtui.attach.reading import Reading
from tputtui.attach.span import ScrapeSpan
from tputtui.engine.protocol import Counts, Ended, EngineFacts, Report, State, StepReport
from tputtui.engine.resolved import resolved
from tputtui.engine.served.bodies import sent_for
from tputtui.engine.served.inside import Inside
from tputtui.engine.served.link import Link
from tputtui.engine.served.routes import Routes
from tputtui.engine.served.seen import SeenSteps
from tputtui.engine.target import check_arguments
from tputtui.engine.wire import Offer
from tputtui.errors import EngineError, KnobError, UsageError
from tputtui.knobs import KNOBS, UNTOLD, Knobs
from tputtui.load.request import RequestSpec
from tputtui.measure.samples import EngineLoad, StepSample
from tputtui.profile import EngineSpec

__all__ = ["ServedEngine"]

_TICK_S = 0.004
_SCRAPED_EVERY_S = 0.5
_GAPS_EVERY_S = 0.25
_GAP_STEPS = 200.0
"""Thousands of gaps a second arrive, so gaps that differ by less than half a percent are pooled."""
_FIRST_ANSWER_S = 15.0
_LIVE = "max_num_running_seqs"
_RUNTIME = "/v1/runtime_config"
_UNKNOWN_LIMITS = Knobs(*[UNTOLD] * len(KNOBS))


class ServedEngine:
    """Serves the requests of one run by sending them to `address`.

    control_token: shown to a server that has our plugin inside, to change its limits; empty to
    watch only. keep: leave those limits as they are in the end. clock: monotonic seconds, the
    host's.
    Latencies are those of a client: from due, over the network, to the first chunk with content.
    Figures from /metrics (KV cache, prefix hits, preemptions) cover the requests of all clients.
    """

    _everybodys = False
    """Whether generated tokens are those of all clients."""

    def __init__(
        self,
        address: Address,
        access: Access,
        control_token: str = "",
        clock: Callable[[], float] = time.monotonic,
        *,
        keep: bool = False,
    ) -> None:
        self._address = address
        self._clock = clock
        self._link = Link(address, access, clock)
        self._inside = Inside(self._link, control_token, clock, keep=keep)
        self._behind: Link | None = None
        """To the engine's own socket, where the server has no place for our routes."""
        self._seen: SeenSteps | None = None
        self._poller = Poller((address,), access, _SCRAPED_EVERY_S, clock)
        self._about = About()
        self._span = ScrapeSpan(0.0)
        """The two newest scrapes."""
        self._model = ""
        self._routes = Routes()
        self._knobs = _UNKNOWN_LIMITS
        self._kv_blocks = self._spared = 0
        self._kv_frac = math.nan
        self._gaps: Counter[float] = Counter()
        self._gaps_kept: list[tuple[float, int]] = []
        self._stepped_s = self._pooled_s = clock()

    def boot(self, spec: EngineSpec, report: Report) -> EngineFacts:
        """Connect to the server and read its figures and properties.

        Raises UsageError for arguments that do not apply to a server that already runs, and
        EngineError if it does not answer.
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
        if not self._everybodys:
            report(State.LOADING, "finding which requests it takes")
            self._routes = self._link.routes(self._model)
        self._stepped_s = self._clock()
        facts = self._facts(reading, self._stepped_s - began_s)
        report(State.LOADING, "asking for the plugin inside it")
        about = self._inside.find() or self._find_behind()
        return facts if about is None else self._with_plugin(facts, about)

    def submit(self, request: RequestSpec) -> None:
        """Send one request. Raises ValueError for one that the server cannot take."""
        sent = sent_for(request, self._model, self._routes)
        self._link.send(request.number, request.prompt_tokens, sent)

    def step(self) -> StepReport:
        """Collect the tokens of the last milliseconds. Raises EngineError if the server is gone."""
        time.sleep(_TICK_S)
        self._check_alive()
        cached, looked_up, preempted = self._scraped()
        tick, running, waiting = self._link.take()
        # The server did not compute the prompt tokens that were in its cache.
        self._spared += cached
        prompt_tokens = tick.prompt_tokens
        if prompt_tokens < 0:
            # The server has counted fewer than were estimated.
            self._spared, prompt_tokens = self._spared - prompt_tokens, 0
        spared = min(self._spared, prompt_tokens)
        self._spared -= spared
        now_s = self._clock()
        over = not running and not waiting
        gaps = self._pooled(tick.gaps, now_s, over)
        if self._seen is not None:
            self._gaps_kept += gaps
            samples = self._seen.take(tick.tokens, now_s)
            if not samples:
                unfinished = over and self._seen.awaits(now_s)
                return StepReport(None, tick.first, [], tick.ended, (), unfinished)
            gaps, self._gaps_kept = self._gaps_kept, []
            of_engines = self._seen.of_engines()
            return StepReport(
                samples[-1], tick.first, gaps, tick.ended, samples[:-1], of_engines=of_engines
            )
        duration_s, self._stepped_s = now_s - self._stepped_s, now_s
        sample = StepSample(
            end_s=now_s,
            duration_s=duration_s,
            running=running,
            waiting=waiting,
            prefill_tokens=prompt_tokens - spared,
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
        return StepReport(sample, tick.first, gaps, tick.ended)

    def apply(self, knobs: Knobs, *, anyway: bool = False) -> list[Ended]:
        """Set the limits that the server can change. Raises KnobError if it refuses."""
        if self._seen is not None:
            if self._inside.lost_control:
                raise KnobError(self._inside.lost_control)
            old = self._knobs.as_dict()
            changed = {name: n for name, n in knobs.as_dict().items() if n != old[name]}
            if changed:
                self._inside.change(changed, anyway=anyway)
            self._knobs = knobs
            return []
        if _LIVE in self._about.live and knobs.max_num_seqs != self._knobs.max_num_seqs:
            status, reply = self._link.ask("PATCH", _RUNTIME, {_LIVE: knobs.max_num_seqs})
            if status != 200:
                raise KnobError(f"The server refuses max_num_seqs: {status} {reply}.")
        self._knobs = knobs
        return []

    def end(self, numbers: Iterable[int]) -> list[Ended]:
        """Close the connections of requests; a server that notices this aborts them."""
        return self._link.hang_up(numbers)

    def set_paused(self, paused: bool, *, anyway: bool = False) -> None:
        """Pause every engine, or let them go on. Raises UsageError where that is not to be had."""
        if self._seen is None:
            raise UsageError("A server is paused by our plugin inside it only.")
        self._inside.act("pause" if paused else "resume", anyway=anyway)

    def preempt(self, *, anyway: bool = False) -> int:
        """Preempt what runs above the limit, where the plugin is inside; else only it can."""
        return 0 if self._seen is None else self._inside.act("preempt", anyway=anyway)

    def reset_prefix_cache(self, *, anyway: bool = False) -> int | None:
        """Empty the prefix cache, by the plugin or the server's developer route for that."""
        if self._seen is not None:
            return self._inside.act("reset_prefix_cache", anyway=anyway)
        status, _ = self._link.ask("POST", "/reset_prefix_cache")
        return 0 if status == 200 else None

    def counts(self) -> Counts:
        """Requests that stream, requests without a token, and usable KV blocks."""
        engines: tuple[EngineLoad, ...] = ()
        if self._seen is not None:
            engines = self._seen.engines
            # What is held back of it is held step by step.
            self._kv_blocks = sum(each.kv_blocks for each in engines) or self._kv_blocks
        return Counts(*self._link.counts(), self._kv_blocks, self._inside.others, engines)

    def shutdown(self) -> None:
        """Give control back, and close all connections."""
        self._inside.release()
        self._poller.stop(1.0)
        for link in (self._link, self._behind):
            if link is not None:
                link.close()

    # -- inside ----------------------------------------------------------------------------

    def _check_alive(self) -> None:
        """Raise EngineError where the server is gone, or control of it is."""
        if self._link.failure is not None:
            raise self._link.failure
        if self._inside.lost_control:
            # The limits are back at what stood before: what is measured is not of these.
            raise EngineError(self._inside.lost_control, "Boot again (b) takes control anew.")

    def _find_behind(self) -> Offer | None:
        """The plugin at the engine's own socket, of a server here that has no place for routes."""
        port = self._address.port_here
        path = socket_behind(port) if port else ""
        if not path:
            return None
        (address,) = parse_addresses([f"unix:{path}"])
        self._behind = Link(address, Access(), self._clock)
        self._behind.open()
        self._inside.use(self._behind)
        return self._inside.find()

    def _first_figures(self) -> Reading:
        """Wait for the server's first figures and its properties. Raises EngineError."""
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

    def _facts(self, reading: Reading, boot_s: float) -> EngineFacts:
        limits, live = self._about.limits, self._about.live
        blocks = reading.configured("num_gpu_blocks") or 0
        size = reading.configured("block_size") or 1
        self._kv_blocks = max(0, blocks - 1)
        caching = reading.info.get("enable_prefix_caching")
        ceilings = _UNKNOWN_LIMITS.overridden(
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
            vocab_size=self._routes.vocabulary,
            boot_s=boot_s,
            versions={kind.lower(): version} if version else {},
            fixed=fixed,
            vocab_exact=False,
            pausable=False,
            stepped=False,
            served=True,
            kind=kind,
            resolved=resolved(None, reading.resolved),
            takes_ids=self._routes.ids,
            renders=self._routes.chat,
        )

    def _with_plugin(self, facts: EngineFacts, about: Offer) -> EngineFacts:
        """What the plugin adds to `facts`: limits that can be changed, and steps."""
        first, engines = about.engines[0], about.engines
        # Each can take what the smallest can: caches of several engines differ in size.
        ceilings = _least([each.ceilings for each in engines])
        self._knobs = _least([each.limits for each in engines])
        why = self._inside.take_control()
        fixed = first.fixed if not why else {knob.name: why.rstrip(".") for knob in KNOBS}
        self._seen = SeenSteps(self._inside, len(engines), everybodys=self._everybodys)
        self._inside.watch()
        self._inside.wait_for_news(len(engines))
        self._kv_blocks = sum(each.limits["num_gpu_blocks"] - 1 for each in engines)
        whole = sum(each.ceilings["num_gpu_blocks"] - 1 for each in engines)
        told = replace(
            facts,
            dtype=first.dtype,
            ceilings=ceilings,
            booted=self._knobs,
            kv_block_tokens=first.kv_block_tokens,
            block_size=first.block_size,
            kv_request_blocks=first.kv_request_blocks,
            kv_state_blocks=first.kv_state_blocks,
            kv_groups=first.kv_groups,
            overlapped=first.overlapped,
            versions={"vllm": about.vllm, **facts.versions},
            fixed=fixed,
            resolved=resolved(about.asked, first.got, [*about.said, *first.said]),
            pausable=not why,
            stepped=len(engines) == 1,
            engines=len(engines),
        )
        return replace(told, kv_tokens=told.kv_tokens_in(whole))

    def _scraped(self) -> tuple[int, int, int]:
        """Cached tokens, looked-up tokens and preemptions in the scrapes since the last tick."""
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
        """Gaps as (seconds, how many), returned a few times a second and once all requests end."""
        for gap_s in gaps:
            self._gaps[math.exp(round(math.log(max(gap_s, 1e-6)) * _GAP_STEPS) / _GAP_STEPS)] += 1
        if not over and now_s - self._pooled_s < _GAPS_EVERY_S:
            return []
        pooled, self._pooled_s = list(self._gaps.items()), now_s
        self._gaps.clear()
        return pooled


def _least(limits: Sequence[Mapping[str, int]]) -> Knobs:
    """Of each limit the lowest value."""
    return Knobs(**{name: min(each[name] for each in limits) for name in limits[0]})
