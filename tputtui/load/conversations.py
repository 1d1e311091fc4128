"""Conversations that go on: who is thinking, and what has been said. Pure; times are passed in."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from tputtui.load.prompts import Piece, Stream

__all__ = ["Conversation", "Conversations"]


@dataclass(slots=True)
class Conversation:
    """One person's: `said` is all that the next prompt begins with."""

    index: int
    turns: int
    turn: int = 0
    said: tuple[Piece, ...] = ()


class Conversations:
    """Those with a request in the engine, and those whose next turn is being thought about."""

    def __init__(self) -> None:
        self._answering: dict[int, Conversation] = {}
        self._thinking: list[tuple[float, int, Conversation]] = []

    @property
    def thinking(self) -> int:
        """Conversations between two turns."""
        return len(self._thinking)

    def ask(self, number: int, conversation: Conversation, prompt: tuple[Piece, ...]) -> None:
        """Request `number` carries the conversation's present turn."""
        if conversation.turn + 1 < conversation.turns:
            conversation.said = prompt
            self._answering[number] = conversation

    def answered(self, number: int, output_tokens: int, ids: Sequence[int]) -> Conversation | None:
        """The conversation that goes on now that request `number` has its whole answer.

        ids: the answer; where the engine does not tell, as many tokens stand in for it.
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
        conversation.said = (*conversation.said, reply)
        conversation.turn += 1
        return conversation

    def broken(self, number: int) -> None:
        """Request `number` did not get its answer: the person leaves."""
        self._answering.pop(number, None)

    def think(self, conversation: Conversation, until_s: float) -> None:
        """The next turn is due at `until_s`."""
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
        """Let the `count` whose next turn is furthest off go."""
        if count > 0:
            kept = sorted(self._thinking)[: max(0, len(self._thinking) - count)]
            heapq.heapify(kept)
            self._thinking = kept

    def shift(self, seconds: float) -> None:
        """Leave out that much time (the load was held)."""
        self._thinking = [(at_s + seconds, i, c) for at_s, i, c in self._thinking]
