"""Prompts as recipes: their token ids are computed from a seed only when they are read. Pure.

Token ids come from a counter-based generator (Philox, Salmon et al. 2011, "Parallel random
numbers: as easy as 1, 2, 3") keyed by the seed, with the counter set by their purpose. So every
piece of a prompt can be made at any time, in any process, with the same result.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Piece", "Prompt", "Stream", "TokenSource", "Uniforms"]

Ids = NDArray[np.int64]

FIRST_TOKEN = 4
"""Token ids below this are special in most vocabularies (padding, begin, end, unknown)."""


class Stream(IntEnum):
    """The purposes of random numbers; each has a counter range of its own."""

    OWN = 0
    GROUP = 1
    BLOCK = 2
    NAMED = 3
    REPLY = 4
    LENGTHS = 5
    ARRIVALS = 6
    CARRIED = 7


_SHARED = frozenset({Stream.GROUP, Stream.BLOCK, Stream.NAMED})
_KEPT_TOKENS = 1 << 20
"""How many tokens of shared pieces are cached (8 MiB)."""
_SHIFT = np.uint64(32)


class Piece(NamedTuple):
    """A part of a prompt: `tokens` tokens of a stream at `number` and `turn`, or just `ids`."""

    tokens: int
    stream: int = Stream.OWN
    number: int = 0
    turn: int = 0
    ids: tuple[int, ...] = ()


class TokenSource:
    """Makes the tokens of pieces. One per generator; not thread-safe."""

    def __init__(self, seed: int, vocab_size: int) -> None:
        self._span = np.uint64(vocab_size - FIRST_TOKEN)
        self._shared: dict[Piece, Ids] = {}
        self._kept_tokens = 0
        self._key = np.array([seed, 0], dtype=np.uint64)
        self._bits = np.random.Philox(key=self._key)
        self._counter = np.zeros(4, dtype=np.uint64)
        self._state = self._bits.state | {
            "state": {"counter": self._counter, "key": self._key},
            "buffer": np.zeros(4, dtype=np.uint64),
            "buffer_pos": 4,
            "has_uint32": 0,
            "uinteger": 0,
        }

    def ids(self, piece: Piece) -> Ids:
        """The token ids of `piece`, shape (tokens,); a longer piece begins with a shorter one."""
        if piece.ids:
            return np.array(piece.ids[: piece.tokens], dtype=np.int64)
        if piece.stream not in _SHARED:
            return self._draw(piece)
        kept = self._shared.get(piece)
        if kept is None:
            kept = self._shared[piece] = self._draw(piece)
            self._kept_tokens += piece.tokens
            while self._kept_tokens > _KEPT_TOKENS:
                oldest = next(iter(self._shared))
                self._kept_tokens -= len(self._shared.pop(oldest))
        return kept

    def _draw(self, piece: Piece) -> Ids:
        # Setting the counter is several times cheaper than making a generator.
        self._counter[:] = (0, piece.turn, piece.stream, piece.number)
        self._bits.state = self._state
        drawn = self._bits.random_raw((piece.tokens + 1) // 2).view(np.uint32)[: piece.tokens]
        # Scaled to the vocabulary by multiplication; with 32 bits the bias is one in millions.
        scaled = np.multiply(drawn, self._span, dtype=np.uint64)
        scaled >>= _SHIFT
        ids = scaled.view(np.int64)
        ids += FIRST_TOKEN
        return ids


class Prompt:
    """A prompt of `length` tokens made of `pieces`, whose end may be cut off."""

    __slots__ = ("_source", "length", "pieces")

    def __init__(self, source: TokenSource, pieces: tuple[Piece, ...], length: int) -> None:
        self._source = source
        self.pieces = pieces
        self.length = length

    def token_ids(self) -> Ids:
        """The token ids, shape (length,); each call makes them anew."""
        left, parts = self.length, []
        for piece in self.pieces:
            if left <= 0:
                break
            parts.append(self._source.ids(piece._replace(tokens=min(piece.tokens, left))))
            left -= piece.tokens
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def cut(self, length: int) -> Prompt:
        """Its first `length` tokens."""
        return Prompt(self._source, self.pieces, length)

    def ids(self) -> list[int]:
        """The same token ids as a list."""
        ids: list[int] = self.token_ids().tolist()
        return ids


class Uniforms:
    """Six uniform numbers in [0, 1) for each `index` and `turn`, always the same ones.

    stream: what they are for. Made for 256 requests at a time; the newest blocks are cached.
    """

    COUNT = 6
    _BLOCK = 256
    _KEPT = 128

    def __init__(self, seed: int, stream: Stream = Stream.LENGTHS) -> None:
        self._seed = seed
        self._stream = stream
        self._blocks: dict[tuple[int, int], list[list[float]]] = {}

    def row(self, index: int, turn: int = 0) -> list[float]:
        """The numbers, shape (6,)."""
        place = index // self._BLOCK, turn
        block = self._blocks.get(place)
        if block is None:
            bits = np.random.Philox(key=self._seed, counter=[0, turn, self._stream, place[0]])
            block = np.random.Generator(bits).random((self._BLOCK, self.COUNT)).tolist()
            self._blocks[place] = block
            if len(self._blocks) > self._KEPT:
                del self._blocks[next(iter(self._blocks))]
        return block[index % self._BLOCK]
