"""The front process's part: the routes under `/v1/tputtui`. On vLLM's own event loop.

It asks each engine core what `core` knows there, and keeps nothing itself but the token and the
requests that have ended: every front of one server gives the same answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import msgspec

from tputtui import __version__
from tputtui.engine.vllm.resolving import asked_of, said_at_boot
from tputtui.engine.wire import (
    CONTROL,
    HOLD_S,
    LEASE,
    PATH,
    VERSION,
    Acted,
    Control,
    LimitChange,
    Offer,
    Problem,
    StepBatch,
    Take,
)
from tputtui.plugin import NAME
from tputtui.plugin.core import Question, Reply
from tputtui.plugin.feed import StepFeed
from tputtui.plugin.front import NO_FRONT, Front
from tputtui.plugin.token import ControlToken

__all__ = ["Endpoint", "socket_wanted"]

_KEPT_REQUESTS = 2000
_SENT_EVERY_S, _UNREAD_EVERY_S = 0.25, 2.0
_ASKED_TIMES = 15
_MOST_BYTES = 4096
_BLOCKS = "num_gpu_blocks"
_ACTIONS = ("preempt", "reset_prefix_cache", "pause", "resume")

log = logging.getLogger("vllm.tputtui")


def socket_wanted() -> bool:
    """Whether there are to be no routes: the engine's own socket takes their place (`local`)."""
    return os.environ.get("TPUTTUI_SOCKET") == "1"


class _Refused(Exception):
    """status: HTTP's."""

    def __init__(self, status: int, problem: Problem) -> None:
        super().__init__(problem.message)
        self.status = status
        self.problem = problem


class Endpoint:
    """vLLM's `EndpointPlugin`."""

    name = NAME
    required_tasks = None

    def __init__(self) -> None:
        self._core: Any = None
        self._model = ""
        self._asked: dict[str, str] | None = None
        self._said: list[str] = []
        self._front: Front | None = None
        self._order = asyncio.Lock()
        """Held while limits are asked for and followed: what is told last is followed last."""
        self._token = ControlToken()
        self._feed = StepFeed(self._new_steps)
        self._requests: deque[tuple[float | int | str | None, ...]] = deque(maxlen=_KEPT_REQUESTS)
        self._keeping: asyncio.Task[None] | None = None
        self._sending: asyncio.Task[None] | None = None

    # -- what vLLM calls ---------------------------------------------------------------------

    def attach_router(self, app: Any) -> None:
        """Add the routes; vLLM's own key guards them, as everything under /v1."""
        if not socket_wanted():
            self.add_routes(app)

    def add_routes(self, app: Any) -> None:
        """Add the routes to a Starlette application."""
        add = app.router.add_route
        add(PATH, self._guarded(self._about), methods=["GET"])
        add(f"{PATH}/steps", self._steps, methods=["GET"])
        add(f"{PATH}/requests", self._guarded(self._requests_since), methods=["GET"])
        add(f"{PATH}/arguments", self._guarded(self._arguments), methods=["GET"])
        add(f"{PATH}/control", self._guarded(self._take), methods=["POST"])
        add(f"{PATH}/control", self._guarded(self._renew), methods=["PUT"])
        add(f"{PATH}/control", self._guarded(self._release), methods=["DELETE"])
        add(f"{PATH}/limits", self._guarded(self._change), methods=["PATCH"])
        for action in _ACTIONS:
            add(f"{PATH}/{action}", self._guarded(self._act(action)), methods=["POST"])

    async def init_state(self, engine_client: Any, state: Any, args: Any) -> None:
        """Keep the way to the engines, and look at the requests that end."""
        if engine_client is None:
            return  # vLLM's render server has no engine.
        try:
            self._core = engine_client.engine_core
            self._model = str((getattr(args, "served_model_name", None) or [args.model])[0])
            fronts = getattr(args, "api_server_count", None) or 1
            self._front = Front(engine_client.vllm_config.scheduler_config, fronts)
            if (manager := engine_client.logger_manager) is not None:
                manager.stat_loggers.append(self._logger())
        except Exception:
            log.exception("tputtui: the plugin found no way to the engine, and is off")
            self._core = None
            return
        self._said = said_at_boot()
        with contextlib.suppress(Exception):
            from vllm.engine.arg_utils import EngineArgs

            self._asked = asked_of(EngineArgs.from_cli_args(args))
        log.info("tputtui: watching at %s; %s", PATH, self.told)

    @property
    def told(self) -> str:
        """Whether limits can be changed, in words."""
        return self._token.why_not or "its limits can be changed with the control token"

    def serve(self, core: Any, model: str) -> None:
        """Ask `core` for `model`: what stands in for vLLM's client where there is none."""
        self._core, self._model = core, model

    # -- routes ------------------------------------------------------------------------------

    async def _about(self, request: Any) -> Any:
        engines = []
        for at, reply in enumerate(await self._ask(Question("about"))):
            if reply.engine is not None:
                reply.engine.engine = at
                reply.engine.fixed = {**reply.engine.fixed, **self._fixed}
                engines.append(reply.engine)
        import vllm

        why = self._token.why_not
        return Offer(
            VERSION,
            __version__,
            vllm.__version__,
            self._model,
            engines,
            Control(not why, why),
            self._asked,
            self._said,
        )

    async def _steps(self, request: Any) -> Any:
        """New steps of every engine, a JSON document a line, until the client hangs up."""
        from starlette.responses import StreamingResponse

        return StreamingResponse(self._feed.lines(), media_type="application/x-ndjson")

    async def _new_steps(self, since: Mapping[int, int]) -> list[StepBatch]:
        """The steps of each engine after `since`. Raises RuntimeError where one does not answer."""
        told = []
        for at, ident in enumerate(self._idents()):
            reply = await self._ask_one(ident, Question("steps", since=since.get(at, -1)))
            if reply.problem is not None or reply.steps is None:
                raise RuntimeError(reply.problem.message if reply.problem else "no answer")
            reply.steps.engine = at
            told.append(reply.steps)
        return told

    async def _requests_since(self, request: Any) -> Any:
        """Requests that have ended at any front: the first engine keeps them for all."""
        text = request.query_params.get("since", "")
        since = int(text) if text.isdecimal() and len(text) < 19 else -1
        reply = await self._ask_one(self._idents()[0], Question("requests", since=since))
        if reply.requests is None:
            raise _Refused(409, reply.problem or Problem("The engine does not answer."))
        return reply.requests

    async def _arguments(self, request: Any) -> Any:
        """What an engine of this vLLM can be booted with, as its own parser describes it."""
        from tputtui.engine.arguments import arguments
        from tputtui.engine.vllm.args import argument_parser

        return await asyncio.to_thread(lambda: arguments(argument_parser(), {}))

    async def _take(self, request: Any) -> Any:
        self._check_token(request)
        wanted = await _body(request, Take)
        lease = secrets.token_hex(8)
        holder = f"{wanted.holder[:80]} from {request.client.host if request.client else 'here'}"
        holder = "".join(char for char in holder if char.isprintable())
        question = Question("take", lease, holder, keep=wanted.keep)
        taken: list[Any] = []
        for ident in self._idents():
            # In order: the first engine decides between two who ask at once.
            reply = await self._ask_one(ident, question)
            if reply.problem is not None:
                for other in taken:
                    await self._ask_one(other, Question("release", lease))
                raise _Refused(409, reply.problem)
            taken.append(ident)
        if self._keeping is None or self._keeping.done():
            self._keeping = asyncio.create_task(self._keep_looking())
        return Acted(lease)

    async def _renew(self, request: Any) -> Any:
        return await self._controlled(request, Question("renew"))

    async def _release(self, request: Any) -> Any:
        keep = request.query_params.get("keep") == "1"
        return await self._controlled(request, Question("release", keep=keep))

    async def _change(self, request: Any) -> Any:
        self._check_token(request)
        wanted = await _body(request, LimitChange)
        lease, idents = request.headers.get(LEASE, ""), self._idents()
        anyway = _anyway(request)
        for name in wanted.limits:
            if name in self._fixed:
                why = f"{name} cannot be changed here: {self._fixed[name]}."
                raise _Refused(409, Problem(why))
        async with self._order:
            replies = await asyncio.gather(
                *(
                    self._ask_one(ident, Question("change", lease, limits=limits, anyway=anyway))
                    for ident, limits in zip(
                        idents, await self._for_each(wanted.limits), strict=True
                    )
                )
            )
            self._follow(reply.acted.limits for reply in replies if reply.acted is not None)
        refused = {at: each.problem for at, each in enumerate(replies) if each.problem is not None}
        if refused:
            # All or none; what goes back is bounded by nothing.
            for at, reply in enumerate(replies):
                if at in refused:
                    continue
                back = Question("change", lease, limits=reply.before, anyway=True, back=True)
                if (kept := (await self._ask_one(idents[at], back)).problem) is not None:
                    log.error("tputtui: engine %d keeps its limits: %s", at, kept.message)
            await self._look()
            at, problem = next(iter(refused.items()))
            if len(idents) > 1:
                problem = Problem(f"Engine {at}: {problem.message}", problem.hint)
            raise _Refused(409, problem)
        return Acted(lease, wanted.limits)

    def _act(self, action: str) -> Callable[[Any], Awaitable[Any]]:
        async def act(request: Any) -> Any:
            return await self._controlled(request, Question(action, anyway=_anyway(request)))

        return act

    # -- inside ------------------------------------------------------------------------------

    def _guarded(self, route: Callable[[Any], Awaitable[Any]]) -> Callable[[Any], Awaitable[Any]]:
        """`route` with its answer as JSON; whatever it raises becomes an answer as well."""

        async def answered(request: Any) -> Any:
            from starlette.responses import Response

            status = 200
            try:
                body = await route(request)
            except _Refused as refused:
                status, body = refused.status, refused.problem
            except Exception as error:
                log.exception("tputtui: a route failed")
                status, body = 500, Problem(f"{type(error).__name__}: {error}")
            content = msgspec.json.encode(body)
            return Response(content, status, media_type="application/json")

        return answered

    def _check_token(self, request: Any) -> None:
        if self._token.why_not:
            raise _Refused(403, Problem(self._token.why_not))
        if not self._token.is_shown(request.headers.get(CONTROL, "")):
            raise _Refused(403, Problem("The control token is not this server's."))

    async def _controlled(self, request: Any, question: Question) -> Acted:
        """Ask all engines, for whom holds the lease; what came of it."""
        self._check_token(request)
        question.lease = request.headers.get(LEASE, "")
        async with self._order:
            replies = await self._ask(question)
            self._follow(reply.acted.limits for reply in replies if reply.acted is not None)
        problem = next((each.problem for each in replies if each.problem is not None), None)
        if problem is not None:
            if question.what == "pause":
                await self._ask(Question("resume", question.lease))  # all or none
            raise _Refused(409, problem)
        acted = [reply.acted for reply in replies if reply.acted is not None]
        return Acted(question.lease, acted[0].limits, sum(each.preempted for each in acted))

    def _idents(self) -> list[Any]:
        """The engines, as vLLM's client calls them."""
        if self._core is None:
            raise _Refused(503, Problem("The plugin found no way to the engine of this vLLM."))
        several = getattr(self._core, "core_engines", None)
        return list(several) if several else [self._core.core_engine]

    async def _ask(self, question: Question) -> list[Reply]:
        return await asyncio.gather(
            *(self._ask_one(ident, question) for ident in self._idents())
        )  # fmt: skip

    async def _for_each(self, limits: dict[str, int]) -> list[dict[str, int]]:
        """`limits` for each engine: all the blocks of the smallest KV cache are all of each."""
        count = len(self._idents())
        if _BLOCKS in limits and count > 1:
            told = [reply.engine for reply in await self._ask(Question("about"))]
            most = [each.ceilings[_BLOCKS] for each in told if each is not None]
            if len(most) == count and limits[_BLOCKS] == min(most):
                return [{**limits, _BLOCKS: own} for own in most]
        return [limits] * count

    async def _ask_one(self, ident: Any, question: Question) -> Reply:
        """What it answers; a problem where it does not."""
        text = msgspec.json.encode(question).decode()
        try:
            answer = await self._core._call_utility_async(NAME, text, engine=ident)
        except Exception as error:
            return Reply(problem=Problem(f"The engine does not answer: {error}."))
        return msgspec.json.decode(answer, type=Reply)

    async def _keep_looking(self) -> None:
        """While somebody controls: an idle engine notices as well that a lease has run out."""
        while True:
            await asyncio.sleep(HOLD_S / 4)
            if not any(reply.engine and reply.engine.holder for reply in await self._look()):
                return

    async def _look(self) -> list[Reply]:
        """Ask what stands in the engines, and follow it."""
        async with self._order:
            replies = await self._ask(Question("about"))
            self._follow(reply.engine.limits for reply in replies if reply.engine is not None)
        return replies

    @property
    def _fixed(self) -> Mapping[str, str]:
        """Limits that this front cannot change, and why."""
        return NO_FRONT if self._front is None else self._front.fixed

    def _follow(self, told: Iterable[Mapping[str, int]]) -> None:
        """Refuse requests by the limits that the first engine has told."""
        limits = next(iter(told), None)
        if limits and self._front is not None:
            self._front.follow(limits)

    def _logger(self) -> Any:
        """What vLLM's client tells of each iteration: here, of the requests that end in it."""
        from vllm.v1.metrics.loggers import AggregateStatLoggerBase

        endpoint = self

        class EndedRequests(AggregateStatLoggerBase):  # type: ignore[misc]
            def __init__(self) -> None: ...

            def record(
                self, scheduler_stats: Any, iteration_stats: Any, *_: Any, **__: Any
            ) -> None:
                if iteration_stats is not None and iteration_stats.finished_requests:
                    endpoint._note_ended(iteration_stats.finished_requests)

            def log_engine_initialized(self) -> None: ...

        return EndedRequests()

    async def _send_ended(self) -> None:
        """Hand requests that have ended to the first engine while somebody reads them there.

        While nobody does, it is asked a few times, and again after the next request that ends; the
        newest are kept.
        """
        read, left = False, _ASKED_TIMES
        while self._requests and left:
            await asyncio.sleep(_SENT_EVERY_S if read else _UNREAD_EVERY_S)
            left = _ASKED_TIMES if read else left - 1
            rows = [list(row) for row in self._requests] if read else []
            reply = await self._ask_one(self._idents()[0], Question("ended", rows=rows))
            if reply.problem is not None:
                return  # The engine is gone.
            read = reply.read
            for _ in range(min(len(rows), len(self._requests)) if read else 0):
                self._requests.popleft()

    def _note_ended(self, finished: list[Any]) -> None:
        try:
            now_s = time.monotonic()
            if self._sending is None or self._sending.done():
                self._sending = asyncio.get_running_loop().create_task(self._send_ended())
            for each in finished:
                decode_s, e2e_s = each.decode_time, each.e2e_latency
                self._requests.append(
                    (
                        now_s, e2e_s, e2e_s - decode_s, each.queued_time, each.num_prompt_tokens,
                        each.num_generation_tokens, each.num_cached_tokens,
                        str(each.finish_reason),
                    )
                )  # fmt: skip
        except Exception:
            log.exception("tputtui: requests that end are noted no more")
            self._note_ended = lambda finished: None  # type: ignore[method-assign]


def _anyway(request: Any) -> bool:
    return bool(request.query_params.get("anyway") == "1")


async def _body(request: Any, kind: Any) -> Any:
    """The request's body as `kind`, a Struct."""
    raw = await request.body()
    if len(raw) > _MOST_BYTES:
        raise _Refused(413, Problem("That is too long."))
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.MsgspecError as error:
        raise _Refused(400, Problem(f"Not what is expected here: {error}.")) from None
