"""Conversations of several turns: their text so far, and who thinks. Pure; times are passed in."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from tputtui.load.prompts import Piece, Stream

__all__ = ["Conversation", "Conversations"]


@dataclass(slots=True)
class Conversation:
    """The conversation of one person.

    turn: the present one, from 0. turns: how many there will be. history: all prompts and answers
    so far, with which the next prompt begins.
    """

    index: int
    turns: int
    turn: int = 0
    history: tuple[Piece, ...] = ()


class Conversations:
    """Conversations that wait for an answer, and those whose person thinks about the next turn."""

    def __init__(self) -> None:
        self._answering: dict[int, Conversation] = {}
        self._thinking: list[tuple[float, int, Conversation]] = []

    @property
    def thinking(self) -> int:
        """Conversations between two turns."""
        return len(self._thinking)

    def ask(self, number: int, conversation: Conversation, prompt: tuple[Piece, ...]) -> None:
        """Note that request `number` carries the conversation's present turn."""
        if conversation.turn + 1 < conversation.turns:
            conversation.history = prompt
            self._answering[number] = conversation

    def answered(self, number: int, output_tokens: int, ids: Sequence[int]) -> Conversation | None:
        """Add the answer of request `number`; return its conversation, None if it does not go on.

        ids: the answer; if empty, `output_tokens` random tokens replace it.
        """
        conversation = self._answering.pop(number, None)
        if conversation is None:
            return None
        turn = conversation.turn
        reply = (
            Piece(len(ids), ids=tuple(ids))
            if ids
            else Piece(output_tokens, Stream.REPLY, conversation.index, turn)
        )
        conversation.history = (*conversation.history, reply)
        conversation.turn += 1
        return conversation

    def broken(self, number: int) -> None:
        """End the conversation of request `number`, which got no answer."""
        self._answering.pop(number, None)

    def think(self, conversation: Conversation, until_s: float) -> None:
        """Make the next turn due at `until_s`."""
        heapq.heappush(self._thinking, (until_s, conversation.index, conversation))

    def next_due_s(self) -> float:
        """When the next turn is due; infinity without one."""
        return self._thinking[0][0] if self._thinking else float("inf")

    def pop(self, now_s: float) -> list[tuple[float, Conversation]]:
        """Take the turns due by `now_s`, oldest first."""
        due = []
        while self._thinking and self._thinking[0][0] <= now_s:
            at_s, _, conversation = heapq.heappop(self._thinking)
            due.append((at_s, conversation))
        return due

    def leave(self, count: int) -> None:
        """Drop the `count` conversations whose next turn is the latest."""
        if count > 0:
            kept = sorted(self._thinking)[: max(0, len(self._thinking) - count)]
            heapq.heapify(kept)
            self._thinking = kept

    def shift(self, seconds: float) -> None:
        """Move all due times `seconds` later (the load was held meanwhile)."""
        self._thinking = [(at_s + seconds, i, c) for at_s, i, c in self._thinking]
