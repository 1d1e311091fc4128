"""What our plugin inside `vllm serve` and the board exchange: JSON over HTTP under `PATH`.

GET    PATH                  Offer: the engines, their limits, who controls them
GET    PATH/steps            StepBatch, one JSON document a line, as they are made
GET    PATH/requests?since=N Requests that have ended, of everybody
GET    PATH/arguments        what an engine can be booted with
POST   PATH/control          Take: the lease, or who has it (409)
PUT    PATH/control          renew it; DELETE gives it back, `?keep=1` leaves the limits as they are
PATCH  PATH/limits           LimitChange
POST   PATH/{preempt,reset_prefix_cache,pause,resume}   Acted

What changes anything needs the control token in the header `CONTROL`, and a lease. What would cost
requests of others something is refused while any are under way, but with `?anyway=1`.
"""

from __future__ import annotations

import msgspec

__all__ = ["CONTROL", "HOLD_S", "LEASE", "OURS", "PATH", "RENEW_S", "VERSION", "Acted", "Control",
           "CoreFacts", "LimitChange", "Offer", "Problem", "Requests", "StepBatch",
           "Take"]  # fmt: skip

VERSION = 1
PATH = "/v1/tputtui"
CONTROL = "X-Tputtui-Control"
"""The header with the control token; the server's own key stands in `Authorization` beside it."""
LEASE = "X-Tputtui-Lease"
"""The header that names the lease."""
OURS = "tputtui-"
"""Stands in the ids of the requests that we send: all others are other people's."""
HOLD_S, RENEW_S = 20.0, 2.0
"""A lease that is not renewed for so long has run out; it is renewed so often."""


class CoreFacts(msgspec.Struct, omit_defaults=True):
    """One engine core of the server.

    ceilings, booted, limits: by the limits' names; the last is in force. fixed: limits that cannot
    be changed here, and why. bounds: the operator's own, (least, greatest), by name.
    got: what the engine's arguments were resolved to, by name. said: lines of its process's log
    that give reasons for some.
    kv_groups: kinds of layers that take blocks of their own. kv_block_tokens: tokens that a block
    stands for; 0: `block_size` of them, over all groups. kv_request_blocks: blocks that a request
    of the greatest length takes, by kind of attention. kv_state_blocks: those for states besides,
    of any length. overlapped: asynchronous scheduling.
    holder: who controls it, in words; empty for nobody. paused: whether it runs no steps.
    """

    ceilings: dict[str, int]
    booted: dict[str, int]
    limits: dict[str, int]
    fixed: dict[str, str] = {}
    bounds: dict[str, tuple[int, int]] = {}
    block_size: int = 1
    kv_groups: int = 1
    kv_block_tokens: float = 0.0
    kv_request_blocks: tuple[int, ...] = ()
    kv_state_blocks: int = 0
    overlapped: bool = False
    dtype: str = ""
    vocab_size: int = 0
    holder: str = ""
    paused: bool = False
    got: dict[str, str] = {}
    said: list[str] = []
    engine: int = 0
    """Its place among the server's engines."""


class Control(msgspec.Struct, omit_defaults=True):
    """Whether limits can be changed; `why` not, in a sentence."""

    offered: bool
    why: str = ""


class Offer(msgspec.Struct):
    """What the server is. vllm: its version. tputtui: the plugin's.

    asked: which of the arguments in `CoreFacts.got` were given, by name; None where not known.
    said: lines of the front's log that give reasons for what came of them.
    """

    version: int
    tputtui: str
    vllm: str
    model: str
    engines: list[CoreFacts]
    control: Control
    asked: dict[str, str] | None = None
    said: list[str] = []


class StepBatch(msgspec.Struct, omit_defaults=True):
    """Steps of one engine.

    now_s: of the engine's clock, when this was asked. next: number of the step after the last one
    here. lost: steps that left the ring before they were asked for. rows: as `StepSample` has it,
    without generated tokens' owners. limits: in force now. others:
    requests of other people under way. running, waiting, kv_frac: of everybody's, now.
    """

    now_s: float
    next: int
    rows: list[list[float]]
    lost: int = 0
    limits: dict[str, int] = {}
    holder: str = ""
    others: int = 0
    engine: int = 0
    """As in CoreFacts."""
    running: int = 0
    waiting: int = 0
    kv_frac: float = 0.0
    kv_blocks: int = 0
    """Blocks of the KV cache usable now: those that are held back are none."""
    oldest_s: float | None = None
    """When the oldest request under way arrived; None with none."""


class Requests(msgspec.Struct):
    """Requests that have ended, of everybody; `next` as in StepBatch.

    Each row: end_s (of that front's clock), e2e_s, ttft_s and queued_s (how long), prompt, output
    and cached tokens, and why it ended.
    """

    next: int
    rows: list[list[float | int | str | None]]


class Take(msgspec.Struct, omit_defaults=True):
    """Ask for control. holder: who asks, as `user@host`. keep: leave the limits at the end."""

    holder: str
    keep: bool = False


class LimitChange(msgspec.Struct):
    """New limits by their names; those left out stay."""

    limits: dict[str, int]


class Acted(msgspec.Struct, omit_defaults=True):
    """What came of it: lease (of Take), the limits in force, or how many were preempted."""

    lease: str = ""
    limits: dict[str, int] = {}
    preempted: int = 0


class Problem(msgspec.Struct, omit_defaults=True):
    """Why nothing was done, and what helps; holder: who controls the server now."""

    message: str
    hint: str = ""
    holder: str = ""
