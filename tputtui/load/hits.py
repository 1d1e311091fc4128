"""What the prefix cache would spare: the requests of a load, walked one after another. Pure.

Reads a trace, if the load has one, as the walk goes on.
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

__all__ = ["Asked", "beginning", "hit_frac", "opened", "predicted_hits", "replay", "walk"]

_NO_LIMIT = 1 << 62
_MAX_IDS = 400_000
"""Token ids of a trace that are looked at: more would be felt while typing."""


class Asked(NamedTuple):
    """One request of a walk, as it is sent.

    cached_tokens: of its prompt, found in the cache; None where a trace does not say what its
    prompt holds. clamped: cut to fit `max_model_len`. turn: of its conversation, from 0.
    """

    prompt_tokens: int
    output_tokens: int
    cached_tokens: int | None
    clamped: bool
    turn: int = 0


def predicted_hits(workload: Workload, block_size: int, requests: int = 2000) -> float:
    """Cached ÷ prompt tokens over the first `requests`; NaN for a trace of unknown content.

    As vLLM caches: whole blocks of `block_size` tokens, never a prompt's last token. Assumed:
    nothing is evicted; requests come one after another, so that one sees all of the one before;
    the cache is empty at first; `max_model_len` cuts nothing. A group's prefix is found once one
    request had it; a later turn finds all of the turn before but its last token. Of a Mooncake
    trace the ids of its blocks say what is shared, of our own its prefixes and token ids.
    So a busy engine, or one with little KV cache, finds less.
    Raises UsageError when the trace cannot be read.
    """
    if workload.trace is None:
        return hit_frac(walk(workload, block_size, requests))
    trace = opened(workload.trace)
    return hit_frac(replay(beginning(trace, requests), block_size)) if trace else math.nan


def hit_frac(asked: Iterable[Asked]) -> float:
    """Cached ÷ prompt tokens; NaN when no request is of known content."""
    prompt = cached = 0
    known = False
    for request in asked:
        prompt += request.prompt_tokens
        cached += request.cached_tokens or 0
        known = known or request.cached_tokens is not None
    return cached / prompt if known else math.nan


def walk(
    workload: Workload, block_size: int, requests: int, max_model_len: int | None = None
) -> Iterator[Asked]:
    """The first `requests` of a load without a trace, cut as the generator cuts them.

    A conversation is walked to its end before the next begins.
    """
    return islice(_drawn(workload, _Seen(block_size), max_model_len or _NO_LIMIT), requests)


def replay(
    records: Iterable[TraceRecord], block_size: int, max_model_len: int | None = None
) -> Iterator[Asked]:
    """The requests of a trace, cut as the generator cuts them."""
    seen = _Seen(block_size)
    for record in records:
        request = _cut(record.prompt_tokens, record.output_tokens, max_model_len or _NO_LIMIT)
        if not (record.blocks or record.token_ids or record.prefix):
            yield request
            continue
        prompt = request.prompt_tokens
        shared = seen.shared(_stretches(record, prompt, block_size))
        yield request._replace(cached_tokens=seen.cached(shared, prompt))


def beginning(trace: Trace, requests: int) -> Iterator[TraceRecord]:
    """Its first `requests` records, or fewer where they are long lists of token ids."""
    ids = 0
    for record in islice(trace, requests):
        yield record
        ids += len(record.token_ids)
        if ids > _MAX_IDS:
            return


def opened(file: TraceFile) -> Trace | None:
    """The trace; None for ShareGPT, whose lengths only a tokenizer can tell.

    Loading one may take seconds, or the network: not a thing to do while someone types.
    Raises UsageError when the file is no trace.
    """
    path = Path(file.path).expanduser()
    return None if format_of(path) == "sharegpt" else Trace(path)


class _Seen:
    """Beginnings of prompts that a request had already: a tree of named stretches of tokens."""

    def __init__(self, block_size: int) -> None:
        self._block_size = block_size
        # (where one is in the tree, name of what follows) → (the next place, tokens of it)
        self._tree: dict[tuple[int, Hashable], tuple[int, int]] = {}

    def cached(self, shared_tokens: int, prompt_tokens: int) -> int:
        """What is found of a prompt that shares its first tokens with one before."""
        size = self._block_size
        return min(shared_tokens, prompt_tokens - 1) // size * size

    def shared(self, stretches: Iterable[tuple[Hashable, int]]) -> int:
        """How many tokens of a prompt that begins so were had before; from now on all were."""
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


def _drawn(workload: Workload, seen: _Seen, limit: int) -> Iterator[Asked]:
    source = Drawn(workload, workload.seed)
    index = -1
    while True:
        index += 1
        said = 0
        for turn in range(source.turns(index)):
            draft = source.draft(index, turn)
            wanted = said + sum(piece.tokens for piece in draft.pieces)
            if turn and wanted >= limit:
                # What was said no longer fits: the conversation is over.
                break
            request = _cut(wanted, draft.output_tokens, limit)
            prompt = request.prompt_tokens
            # The last token that was generated has not been through the model.
            shared = said - 1 if turn else seen.shared(_groups(draft.pieces, prompt))
            yield request._replace(cached_tokens=seen.cached(shared, prompt), turn=turn)
            said = wanted + request.output_tokens


def _cut(prompt_tokens: int, output_tokens: int, limit: int) -> Asked:
    prompt = min(prompt_tokens, limit - 1)
    output = min(output_tokens, limit - prompt)
    return Asked(prompt, output, None, (prompt, output) != (prompt_tokens, output_tokens))


def _groups(pieces: Iterable[Piece], left: int) -> Iterator[tuple[Hashable, int]]:
    for piece in pieces:
        if piece.stream == Stream.GROUP:
            yield piece.number, min(piece.tokens, left)


def _stretches(record: TraceRecord, left: int, block_size: int) -> Iterator[tuple[Hashable, int]]:
    if record.prefix:
        yield record.prefix, min(record.prefix_tokens, left)
    elif record.token_ids:
        # What is less than a block is never found.
        for start in range(0, left - block_size + 1, block_size):
            yield record.token_ids[start : start + block_size], block_size
    for block in record.blocks[: -(-left // record.block_tokens)]:
        yield block, min(left, record.block_tokens)
        left -= record.block_tokens
