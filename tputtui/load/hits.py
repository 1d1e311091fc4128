"""Predicts prefix-cache hits by walking through the requests of a load one by one. Pure.

If the load has a trace, the walk reads it as it goes on.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from tputtui.load.prompts import Piece, Stream
from tputtui.load.source import Drawn
from tputtui.load.traces import Trace, TraceRecord, format_of
from tputtui.load.workload import TraceFile, Workload

__all__ = ["WalkedRequest", "beginning", "hit_frac", "opened", "predicted_hits", "replay", "walk"]

_NO_LIMIT = 1 << 62
_MAX_IDS = 400_000
"""The most token ids of a trace to read: more would delay typing in the editor."""


class WalkedRequest(NamedTuple):
    """One request of a walk, with the lengths that are sent.

    cached_tokens: prompt tokens in the cache; None if the trace does not contain its prompts.
    clamped: whether it was cut to fit `max_model_len`. turn: of its conversation, from 0.
    """

    prompt_tokens: int
    output_tokens: int
    cached_tokens: int | None
    clamped: bool
    turn: int = 0


def predicted_hits(workload: Workload, block_size: int, requests: int = 2000) -> float:
    """Cached ÷ prompt tokens over the first `requests`; NaN for a trace of unknown content.

    vLLM caches whole blocks of `block_size` tokens, and never a prompt's last token. Assumptions:
    nothing is evicted; each request comes after the previous one has ended; the cache is empty at
    first; `max_model_len` cuts nothing. So a busy engine, or one with a small KV cache, has fewer
    hits. The prefix of a group is cached from its first request on; a later turn hits all of the
    previous turn except the last token. In a Mooncake trace the block ids show what is shared, in
    our own traces the prefixes and token ids.
    Raises UsageError if the trace cannot be read.
    """
    if workload.requests is not None:
        return math.nan
    if workload.trace is None:
        return hit_frac(walk(workload, block_size, requests))
    trace = opened(workload.trace)
    return hit_frac(replay(beginning(trace, requests), block_size)) if trace else math.nan


def hit_frac(asked: Iterable[WalkedRequest]) -> float:
    """Cached ÷ prompt tokens; NaN if the content of every prompt is unknown."""
    prompt = cached = 0
    known = False
    for request in asked:
        prompt += request.prompt_tokens
        cached += request.cached_tokens or 0
        known = known or request.cached_tokens is not None
    return cached / prompt if known else math.nan


def walk(
    workload: Workload, block_size: int, requests: int, max_model_len: int | None = None
) -> Iterator[WalkedRequest]:
    """The first `requests` of a load without a trace, cut as the generator cuts them.

    The walk finishes one conversation before the next.
    """
    return islice(_drawn(workload, _Seen(block_size), max_model_len or _NO_LIMIT), requests)


def replay(
    records: Iterable[TraceRecord], block_size: int, max_model_len: int | None = None
) -> Iterator[WalkedRequest]:
    """The requests of a trace, cut as the generator cuts them."""
    seen, limit = _Seen(block_size), max_model_len or _NO_LIMIT
    for whole in records:
        if any(each.continues is not None for each in whole.steps):
            yield from _steps(whole, seen, limit)
            continue
        records_of = [each.record for each in whole.steps] or [whole]
        for turn, record in enumerate(records_of):
            request = _cut(record.prompt_tokens, record.output_tokens, limit)._replace(turn=turn)
            if not (record.blocks or record.token_ids or record.prefix):
                yield request
                continue
            prompt = request.prompt_tokens
            shared = seen.shared(_stretches(record, prompt, block_size))
            yield request._replace(cached_tokens=seen.cached(shared, prompt))


def beginning(trace: Trace, requests: int) -> Iterator[TraceRecord]:
    """The first `requests` records of `trace`, or fewer if they hold many token ids."""
    ids = 0
    for record in islice(trace, requests):
        yield record
        ids += len(record.token_ids)
        if ids > _MAX_IDS:
            return


def opened(file: TraceFile) -> Trace | None:
    """The trace; None for ShareGPT, whose lengths need a tokenizer.

    Loading a tokenizer can take seconds or the network, which is too slow while someone types.
    Raises UsageError if the file is no trace.
    """
    path = Path(file.path).expanduser()
    return None if format_of(path) == "sharegpt" else Trace(path)


class _Seen:
    """Beginnings of earlier prompts, as a tree of named stretches of tokens."""

    def __init__(self, block_size: int) -> None:
        self._block_size = block_size
        # (node, name of the next stretch) → (next node, tokens of that stretch)
        self._tree: dict[tuple[int, Hashable], tuple[int, int]] = {}

    def cached(self, shared_tokens: int, prompt_tokens: int) -> int:
        """Cached tokens of a prompt whose first `shared_tokens` an earlier prompt had."""
        size = self._block_size
        return min(shared_tokens, prompt_tokens - 1) // size * size

    def shared(self, stretches: Iterable[tuple[Hashable, int]]) -> int:
        """How many first tokens of a prompt earlier prompts had; adds the prompt to the tree."""
        place = shared = 0
        along = True
        for name, tokens in stretches:
            known, had = self._tree.get((place, name), (len(self._tree) + 1, 0))
            if along:
                shared += min(had, tokens)
                along = had >= tokens
            self._tree[place, name] = known, max(had, tokens)
            place = known
        return shared


def _drawn(workload: Workload, seen: _Seen, limit: int) -> Iterator[WalkedRequest]:
    source = Drawn(workload, workload.seed)
    index = -1
    while True:
        index += 1
        history_tokens = 0
        for turn in range(source.turns(index)):
            draft = source.draft(index, turn)
            wanted = history_tokens + sum(piece.tokens for piece in draft.pieces)
            if turn and wanted >= limit:
                # The history no longer fits: the conversation is over.
                break
            request = _cut(wanted, draft.output_tokens, limit)
            prompt = request.prompt_tokens
            # The last generated token has no KV entry: the model has not processed it.
            shared = history_tokens - 1 if turn else seen.shared(_groups(draft.pieces, prompt))
            yield request._replace(cached_tokens=seen.cached(shared, prompt), turn=turn)
            history_tokens = wanted + request.output_tokens


def _steps(whole: TraceRecord, seen: _Seen, limit: int) -> Iterator[WalkedRequest]:
    """The steps of a job, some of which begin with the prompt and answer of an earlier one."""
    whole_tokens: list[int] = []
    for turn, each in enumerate(whole.steps):
        before = 0 if each.continues is None else whole_tokens[each.continues]
        request = _cut(before + each.record.prompt_tokens, each.record.output_tokens, limit)
        # The last generated token has no KV entry: the model has not processed it.
        cached = seen.cached(max(0, before - 1), request.prompt_tokens)
        yield request._replace(cached_tokens=cached, turn=turn)
        whole_tokens.append(request.prompt_tokens + request.output_tokens)


def _cut(prompt_tokens: int, output_tokens: int, limit: int) -> WalkedRequest:
    prompt = min(prompt_tokens, limit - 1)
    output = min(output_tokens, limit - prompt)
    return WalkedRequest(prompt, output, None, (prompt, output) != (prompt_tokens, output_tokens))


def _groups(pieces: Iterable[Piece], left: int) -> Iterator[tuple[Hashable, int]]:
    for piece in pieces:
        if piece.stream == Stream.GROUP:
            yield piece.number, min(piece.tokens, left)


def _stretches(record: TraceRecord, left: int, block_size: int) -> Iterator[tuple[Hashable, int]]:
    if record.prefix:
        yield record.prefix, min(record.prefix_tokens, left)
    elif record.token_ids:
        # Less than a block is never cached.
        for start in range(0, left - block_size + 1, block_size):
            yield record.token_ids[start : start + block_size], block_size
    for block in record.blocks[: -(-left // record.block_tokens)]:
        yield block, min(left, record.block_tokens)
        left -= record.block_tokens
