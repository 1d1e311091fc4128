"""Learns from every engine that runs, and answers what settings would give. Front end's thread."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple, Protocol

from tputtui.goals import Goal
from tputtui.measure.recorder import Recorder
from tputtui.predict.book import StepBook
from tputtui.predict.forecast import Forecast, Query, Wanted, answered
from tputtui.predict.kept_steps import KeptSteps, StepFiles
from tputtui.predict.scheduler import Machine

__all__ = ["Answer", "Computer", "Foresight", "Inline", "Running"]


class Running(NamedTuple):
    """The engine that runs. spec: its way of running, for which its step costs hold.

    name: of its file of steps; empty: its steps are not kept on disk. state_tokens: see `Machine`.
    """

    spec: Hashable
    block_size: int
    overlapped: bool
    vocab_size: int
    tokenizer: str = ""
    name: str = ""
    state_tokens: int = 0


class Answer(NamedTuple):
    """Forecasts, by what was asked for; none where too few steps are known."""

    asked: tuple[Hashable, ...]
    forecasts: tuple[Forecast, ...] | None


class Computer(Protocol):
    """Computes the answer to one query at a time."""

    def begin(self, query: Query) -> None:
        """Begin with a query; only while not busy."""

    def answer(self) -> tuple[Forecast, ...] | None:
        """The answer, once it is there; None also where too few steps are known."""

    @property
    def busy(self) -> bool:
        """Whether the answer to the last query has not come yet."""

    def close(self) -> None:
        """End."""


class Inline:
    """Answers at once, on the caller's thread."""

    busy = False

    def __init__(self) -> None:
        self._answer: tuple[Forecast, ...] | None = None

    def begin(self, query: Query) -> None:
        """Answer the query."""
        self._answer = answered(query)

    def answer(self) -> tuple[Forecast, ...] | None:
        """The answer."""
        return self._answer

    def close(self) -> None:
        """Do nothing."""


class Foresight:
    """Step costs of each engine so far, and forecasts by them.

    make: makes the computer, when the first question is asked. files: where the steps of engines
    are kept between runs; None: nowhere.
    """

    def __init__(
        self, make: Callable[[], Computer] = Inline, files: StepFiles | None = None
    ) -> None:
        self._make = make
        self._files = files
        self._computer: Computer | None = None
        self._books: dict[Hashable, StepBook] = {}
        self._running: Running | None = None
        self._up = False
        self._asked: tuple[Hashable, ...] | None = None

    def follow(self, recorder: Recorder, running: Running | None) -> None:
        """Take in the steps since the last call; `running` runs, None: none that can be learnt."""
        self._up = running is not None
        if running is None:
            return
        book = self._books.get(running.spec)
        if book is None:
            book = self._books[running.spec] = self._begun(running)
        if self._running is not None and self._running.spec != running.spec:
            self._keep()
            book.skip(recorder)
        self._running = running
        book.follow(recorder)

    def ask(
        self,
        wanted: Sequence[tuple[Hashable, Wanted]],
        goals: Sequence[Goal],
        *,
        must_keep_up: bool = False,
    ) -> bool:
        """Ask for forecasts on the engine that runs, by name; False while the last are computed."""
        running = self._running
        if running is None or not self._up or self.busy:
            return False
        book = self._books[running.spec]
        machine = Machine(
            running.block_size,
            running.overlapped,
            book.hit_frac,
            running.vocab_size,
            running.tokenizer,
            running.state_tokens,
        )
        if self._computer is None:
            self._computer = self._make()
        self._asked = tuple(name for name, _ in wanted)
        settings = tuple(each for _, each in wanted)
        self._computer.begin(
            Query(book.kept, book.newest, machine, tuple(goals), settings, must_keep_up)
        )
        return True

    @property
    def busy(self) -> bool:
        """Whether a question is not answered yet."""
        return self._computer is not None and self._computer.busy

    def answer(self) -> Answer | None:
        """The answer to the last question, once; None before it is there."""
        if self._asked is None or self._computer is None or self.busy:
            return None
        asked, self._asked = self._asked, None
        return Answer(asked, self._computer.answer())

    def close(self) -> None:
        """Keep the steps of the engine that ran, and end the computer."""
        self._keep()
        if self._computer is not None:
            self._computer.close()
            self._computer = None

    # -- inside ----------------------------------------------------------------------------

    def _begun(self, running: Running) -> StepBook:
        """A book of an engine, with what is kept of its earlier runs."""
        kept = self._files.read(running.name) if self._files and running.name else None
        if kept is None:
            return StepBook(overlapped=running.overlapped)
        return StepBook(overlapped=running.overlapped, kept=kept.kept, newest=kept.newest)

    def _keep(self) -> None:
        running = self._running
        if self._files is None or running is None or not running.name:
            return
        book = self._books[running.spec]
        if book.grown:
            self._files.write(running.name, KeptSteps(book.kept, book.newest))
