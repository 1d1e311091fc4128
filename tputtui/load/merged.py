"""Several generators as one: the load's own, and one for each class with arrivals of its own.

Pure, seeded, without a clock, as each of them is. Their due requests come in the order of their due
times, under numbers of their own; an end is told to the generator that sent the request.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from collections.abc import Generator as Iterating
from contextlib import suppress
from typing import NamedTuple

from tputtui.errors import UsageError
from tputtui.load.carrier import check_schema
from tputtui.load.generator import Generator
from tputtui.load.members import OWN, members_of, sending
from tputtui.load.prompts import Prompt
from tputtui.load.request import REFUSED_WAIT_S, RequestSpec
from tputtui.load.requests.counts import RequestCounts, together
from tputtui.load.timing import Wanted
from tputtui.load.workload import Workload

__all__ = ["LoadGenerator", "MakeGenerator", "MergedGenerator", "changed", "generator_of"]

MakeGenerator = Callable[[Workload], Generator]


class _Head(NamedTuple):
    """The next request of a generator, which is made and not sent. Sorts by when it is due."""

    due_s: float
    order: int
    name: str
    spec: RequestSpec


class _Member:
    """The generator of one part of the load, and how many of its requests are under way."""

    def __init__(self, generator: Generator, order: int) -> None:
        self.generator = generator
        self.order = order
        self.made = 0
        """Requests made that have not ended."""
        self.ahead: RequestSpec | None = None
        """The request that is made and not sent yet."""
        self.refused: deque[float] = deque()
        """Until when the client of each refused request waits, ascending."""
        self.over = False
        """Whether its file was seen to have ended."""

    @property
    def exhausted(self) -> bool:
        """Whether its file has ended, and its last request is sent."""
        return self.generator.exhausted and self.ahead is None

    @property
    def taken(self) -> int:
        """Places of a closed loop that no new request can have."""
        return self.made + len(self.refused)


class MergedGenerator:
    """As a `Generator`, for a load with classes that have arrivals of their own.

    make: makes the generator of one part of the load. own: one that runs already, with its
    requests in flight; it becomes that of the load's own arrivals.
    A class whose file has ended sends nothing more, and the rest of the load goes on; one whose
    file cannot be read ends the load.
    """

    def __init__(
        self, workload: Workload, make: MakeGenerator, own: Generator | None = None
    ) -> None:
        self.workload = workload
        self._make = make
        self._members: dict[str, _Member] = {}
        self._begin(own)
        self._number = own.number if own is not None else 0

    def _begin(self, own: Generator | None = None) -> None:
        loads = members_of(self.workload)
        self._number = 0
        self._sent: dict[int, tuple[_Member, int]] = {}
        """The generator and its own number of each request under way."""
        for place, (name, load) in enumerate(loads.items()):
            made = own if name == OWN and own is not None else self._make(load)
            self._members[name] = _Member(made, place)
        self._take(self.workload, loads)

    def _take(self, workload: Workload, loads: dict[str, Workload]) -> None:
        self.workload = workload
        self._active = tuple(loads)
        """The parts of the present load."""
        self._serving = {name: self._members[name] for name in sending(workload)}
        """Those of them whose arrivals somebody takes."""

    def restart(self) -> None:
        """Go back to request 0, held."""
        self.close()
        self._members.clear()
        self._begin()

    def close(self) -> None:
        """End what reads real requests ahead."""
        for member in self._members.values():
            member.generator.close()

    @property
    def held(self) -> bool:
        """Whether arrivals are paused."""
        return self._members[OWN].generator.held

    @property
    def exhausted(self) -> bool:
        """Whether all files have ended, where every part has one, or one cannot be read."""
        mine = self._serving.values()
        broken = any(each.exhausted and each.generator.failure is not None for each in mine)
        return broken or all(each.exhausted for each in mine)

    def newly_over(self) -> list[str]:
        """The parts whose file has ended since the last call, in words, while others go on."""
        if self.held or self.exhausted:
            return []
        over = [name for name, each in self._serving.items() if each.exhausted and not each.over]
        for name in over:
            self._members[name].over = True
        return [f"class {name}" if name else "the load" for name in over]

    @property
    def failure(self) -> UsageError | None:
        """Why one of the files cannot be read any further; None if all can."""
        every = (each.generator.failure for each in self._serving.values())
        return next((failure for failure in every if failure is not None), None)

    @property
    def counts(self) -> RequestCounts | None:
        """What became of the lines of all files of real requests; None without one."""
        return together(
            counts for each in self._members.values() if (counts := each.generator.counts)
        )

    def resume(self, now_s: float) -> None:
        """Let requests arrive from now on. The time spent held causes no backlog."""
        for name in self._active:
            self._members[name].generator.resume(now_s)

    def hold(self, now_s: float) -> None:
        """Let no more requests arrive; requests due before are still returned."""
        for member in self._members.values():
            member.generator.hold(now_s)

    def change(self, workload: Workload, now_s: float) -> None:
        """Go on with another load from `now_s`, as `Generator.change` does.

        A class that has left sends what was due before; one that is new begins now.
        """
        loads, held = members_of(workload), self.held
        check_schema(workload)
        new: dict[str, Generator] = {}
        before: list[tuple[Generator, Workload]] = []
        try:
            for name, load in loads.items():
                if name not in self._members:
                    new[name] = self._make(load)
                    if (failure := new[name].failure) is not None:
                        raise failure
            for name in [name for name in loads if name in self._members]:
                generator = self._members[name].generator
                old = generator.workload
                generator.change(loads[name], now_s)
                before.append((generator, old))
        except UsageError:
            for generator in new.values():
                generator.close()
            for generator, old in before:
                with suppress(UsageError):
                    generator.change(old, now_s)
            raise
        for name, generator in new.items():
            self._members[name] = _Member(generator, len(self._members))
        for name, member in self._members.items():
            member.over = member.over and member.exhausted
            if name not in loads:
                member.generator.hold(now_s)
            elif not held and member.generator.held:
                member.generator.resume(now_s)
        self._take(workload, loads)

    def ended(self, number: int, end_s: float, output_tokens: int, ids: Sequence[int]) -> float:
        """Note that a request has its whole answer, as `Generator.ended` does."""
        generator, own_number = self._left(number)
        return generator.ended(own_number, end_s, output_tokens, ids)

    def lost(self, number: int, end_s: float) -> float:
        """Note that a request ended without an answer, as `Generator.lost` does."""
        generator, own_number = self._left(number)
        return generator.lost(own_number, end_s)

    def wanted(self, now_s: float) -> Wanted:
        """The load wanted at `now_s`: the sum of all levels, constant since all of them are."""
        every = [each.generator.wanted(now_s) for each in self._serving.values()]
        return Wanted(
            sum(each.level for each in every),
            max(each.since_s for each in every),
            max(each.period_s for each in every),
        )

    def next_due_s(self, in_flight: int) -> float:
        """When the next request is due, given how many are in flight; infinity without one."""
        due_s = [
            member.generator.next_due_s(taken) if member.ahead is None else member.ahead.due_s
            for member, taken in self._taken(in_flight)
        ]
        return min(due_s)

    def due(self, now_s: float, in_flight: int, max_model_len: int) -> list[RequestSpec]:
        """Every request due by `now_s`, oldest first, clamped to `max_model_len` tokens in all."""
        return list(self.arriving(now_s, in_flight, max_model_len))

    def arriving(
        self, now_s: float, in_flight: int, max_model_len: int
    ) -> Iterating[RequestSpec, None, None]:
        """The same requests one at a time, oldest first; the caller may close it early."""
        for member in self._members.values():
            while member.refused and member.refused[0] <= now_s:
                member.refused.popleft()
        heads: list[_Head] = []
        coming = {
            name: member.generator.arriving(now_s, taken, max_model_len)
            for name, (member, taken) in zip(self._members, self._taken(in_flight), strict=True)
        }
        try:
            for name in self._members:
                self._look(name, coming[name], heads, max_model_len)
            while heads:
                head = heapq.heappop(heads)
                member = self._members[head.name]
                number, self._number = self._number, self._number + 1
                self._sent[number] = member, head.spec.number
                member.ahead = None
                try:
                    yield head.spec._replace(number=number)
                finally:
                    if number not in self._sent:
                        # Lost while it was being sent: refused, and its client waits a while.
                        member.refused.append(now_s + REFUSED_WAIT_S)
                self._look(head.name, coming[head.name], heads, max_model_len)
        finally:
            for each in coming.values():
                each.close()

    # -- inside ----------------------------------------------------------------------------

    def _taken(self, in_flight: int) -> list[tuple[_Member, int]]:
        """Each member, and the places of it that are taken, of `in_flight` in all."""
        left = in_flight
        for name, each in self._members.items():
            # One that is made and not sent has a place, and is not in flight.
            left += (each.ahead is not None) - (0 if name == OWN else each.taken)
        return [
            (each, max(0, left) if name == OWN else each.taken)
            for name, each in self._members.items()
        ]

    def _look(
        self,
        name: str,
        coming: Iterating[RequestSpec, None, None],
        heads: list[_Head],
        max_model_len: int,
    ) -> None:
        """Add the next request of a generator to `heads`, if one is due."""
        member = self._members[name]
        if member.ahead is None:
            if (spec := next(coming, None)) is None:
                return
            member.made += 1
            member.ahead = spec
        spec = member.ahead = _fitted(member.ahead, max_model_len)
        heapq.heappush(heads, _Head(spec.due_s, member.order, name, spec))

    def _left(self, number: int) -> tuple[Generator, int]:
        """The generator of a request that is over, and its number there."""
        # A request from before the load had such classes has the number that it had.
        member, own_number = self._sent.pop(number, (self._members[OWN], number))
        member.made -= 1
        return member.generator, own_number


LoadGenerator = Generator | MergedGenerator


def generator_of(workload: Workload, make: MakeGenerator) -> LoadGenerator:
    """The generator of any load: a plain one where no class has arrivals of its own."""
    return MergedGenerator(workload, make) if workload.apart else make(workload)


def changed(
    generator: LoadGenerator, workload: Workload, make: MakeGenerator, now_s: float
) -> LoadGenerator:
    """The generator that goes on with another load from `now_s`: this one, or one around it.

    Raises UsageError, and changes nothing, if a file or a schema cannot be opened.
    """
    if workload.apart and isinstance(generator, Generator):
        generator = MergedGenerator(generator.workload, make, generator)
    generator.change(workload, now_s)
    return generator


def _fitted(spec: RequestSpec, max_model_len: int) -> RequestSpec:
    """The request, cut where the limit was lowered after it had been made."""
    prompt = spec.prompt
    if not isinstance(prompt, Prompt) or prompt.length + spec.output_tokens <= max_model_len:
        return spec
    length = min(prompt.length, max_model_len - 1)
    output = min(spec.output_tokens, max_model_len - length)
    return spec._replace(prompt=prompt.cut(length), output_tokens=output, clamped=True)
