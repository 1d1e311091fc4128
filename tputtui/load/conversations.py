"""Conversations of several turns, jobs of several steps: their text so far, and what is due next.

Pure; times are passed in.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tputtui.load.jobs import Job, Jobs, Left
from tputtui.load.prompts import Piece, Stream
from tputtui.load.source import RequestDraft, StepDraft

__all__ = ["Conversation", "Conversations", "JobStep", "Run"]


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


@dataclass(slots=True)
class Run:
    """A job of a trace under way. index: by which its steps are drawn.

    history: prompt and answer of each step that has answered, for those that go on from it.
    """

    index: int
    job: Job
    steps: tuple[StepDraft, ...]
    history: dict[int, tuple[Piece, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, index: int, steps: tuple[StepDraft, ...]) -> Run:
        """A job that has not begun."""
        return cls(index, Job([each.step for each in steps], timed=True), steps)


class JobStep(NamedTuple):
    """A step of a job, by its place."""

    run: Run
    place: int

    @property
    def draft(self) -> RequestDraft:
        """The request, whose prompt may begin with that of an earlier step and its answer."""
        each = self.run.steps[self.place]
        if each.continues is None:
            return each.draft
        history = self.run.history[each.continues]
        return each.draft._replace(pieces=(*history, *each.draft.pieces))


class Conversations:
    """Conversations and jobs that wait for an answer, for a person who thinks, or for a tool."""

    def __init__(self) -> None:
        self._answering: dict[int, Conversation] = {}
        self._due: list[tuple[float, int, int, Conversation | JobStep]] = []
        self._talks = 0
        """Conversations among these."""
        self._jobs = Jobs()
        self._steps: dict[int, tuple[JobStep, tuple[Piece, ...]]] = {}
        self._count = 0

    @property
    def thinking(self) -> int:
        """Conversations between two turns, and what jobs take beside their requests in flight."""
        return self._talks + self._jobs.thinking

    @property
    def jobs(self) -> int:
        """Jobs that are not over."""
        return self._jobs.under_way

    def ask(self, number: int, conversation: Conversation, prompt: tuple[Piece, ...]) -> None:
        """Note that request `number` carries the conversation's present turn."""
        if conversation.turn + 1 < conversation.turns:
            conversation.history = prompt
            self._answering[number] = conversation

    def sent(self, number: int, step: JobStep, prompt: tuple[Piece, ...], due_s: float) -> bool:
        """Note that request `number` carries a step; whether it is the first of its job."""
        self._steps[number] = step, prompt
        return self._jobs.sent(number, step.run.job, step.place, due_s)

    def answered(self, number: int, output_tokens: int, ids: Sequence[int]) -> Conversation | None:
        """Add the answer of request `number`; return its conversation, None if it does not go on.

        ids: the answer; if empty, `output_tokens` random tokens replace it.
        """
        conversation = self._answering.pop(number, None)
        if conversation is None:
            return None
        reply = _reply(output_tokens, ids, conversation.index, conversation.turn)
        conversation.history = (*conversation.history, reply)
        conversation.turn += 1
        return conversation

    def step_answered(
        self, number: int, end_s: float, output_tokens: int, ids: Sequence[int]
    ) -> Left | None:
        """The same for a step of a job, whose next steps become due. None where it has no job."""
        if (left := self._jobs.answered(number, end_s)) is None:
            return None
        step, prompt = self._steps.pop(number)
        reply = _reply(output_tokens, ids, step.run.index, step.place)
        step.run.history[step.place] = (*prompt, reply)
        for due_s, place in left.ready:
            self.think(JobStep(step.run, place), due_s)
        return left

    def broken(self, number: int, end_s: float) -> Left | None:
        """End the conversation, or job, of request `number`, which got no answer."""
        self._answering.pop(number, None)
        if (left := self._jobs.lost(number, end_s)) is None:
            return None
        gone = self._steps.pop(number)[0].run
        self._due = [
            entry for entry in self._due
            if not (isinstance(entry[-1], JobStep) and entry[-1].run is gone)
        ]  # fmt: skip
        heapq.heapify(self._due)
        return left

    def think(self, what: Conversation | JobStep, until_s: float) -> None:
        """Make the next turn, or a step, due at `until_s`."""
        self._count += 1
        self._talks += isinstance(what, Conversation)
        index = what.index if isinstance(what, Conversation) else what.run.index
        heapq.heappush(self._due, (until_s, index, self._count, what))

    def next_due_s(self) -> float:
        """When the next turn or step is due; infinity without one."""
        return self._due[0][0] if self._due else float("inf")

    def pop(self, now_s: float) -> list[tuple[float, Conversation | JobStep]]:
        """Take the turns and steps due by `now_s`, oldest first."""
        due = []
        while self._due and self._due[0][0] <= now_s:
            at_s, *_, what = heapq.heappop(self._due)
            self._talks -= isinstance(what, Conversation)
            due.append((at_s, what))
        return due

    def leave(self, count: int) -> None:
        """Drop the `count` conversations whose next turn is the latest; jobs go on to their end."""
        if count > 0:
            talks = sorted(entry for entry in self._due if isinstance(entry[-1], Conversation))
            gone = {entry[2] for entry in talks[-count:]}
            self._due = [entry for entry in self._due if entry[2] not in gone]
            self._talks -= len(gone)
            heapq.heapify(self._due)

    def shift(self, seconds: float) -> None:
        """Move all due times `seconds` later (the load was held meanwhile)."""
        self._due = [(at_s + seconds, index, n, what) for at_s, index, n, what in self._due]


def _reply(output_tokens: int, ids: Sequence[int], index: int, turn: int) -> Piece:
    if ids:
        return Piece(len(ids), ids=tuple(ids))
    return Piece(output_tokens, Stream.REPLY, index, turn)
