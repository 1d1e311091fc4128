"""Reads a request file ahead and renders its prompts, on a thread that the engine never waits for.

    engine thread ── take() ◀── ready ◀── renderer thread: read · render
                     answered() ──▶ answers ──▶ render the next turn ──▶ turns

Only as much is read ahead as `_AHEAD` says, so a file may have any length.
"""

from __future__ import annotations

import hashlib
import heapq
import logging
import math
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from tputtui.errors import UsageError
from tputtui.load.requests.ask import ANYTHING, Ask, BadLineError, Message, Takes
from tputtui.load.requests.counts import RequestCounts
from tputtui.load.requests.file import RequestFile
from tputtui.load.requests.reading import Reader, opened
from tputtui.load.requests.rendered import Rendered, RenderedPrompt, Serving, Talk
from tputtui.load.requests.rendering import ChatTokenizer, tokenizer_for
from tputtui.load.requests.unrendered import UnrenderedPrompt
from tputtui.load.trace_lines import TraceClock

__all__ = ["Renderer"]

logger = logging.getLogger(__name__)

_AHEAD = 512
_AHEAD_TOKENS = 2_000_000
_COMPLETION_TOKENS = 16
"""How many tokens OpenAI's completions generate where the request does not say."""


class _Answer(NamedTuple):
    """The answer to a turn, and the turns that it makes due: (when, which)."""

    talk: Talk
    turn: int
    ids: tuple[int, ...]
    ready: tuple[tuple[float, int], ...]


class Renderer:
    """Rendered requests of `file`, in order; `ready` and `turns` are taken by another thread.

    tokenizer: the model's, where the file names no other. vocab_size: ids below it may be sent.
    by_server: the server makes the prompts, so nothing is rendered here. takes: what the engine can
    be asked for.
    failure: why the file cannot be read or rendered any further, else None.
    Raises UsageError if the file cannot be opened.
    """

    def __init__(
        self,
        file: RequestFile,
        tokenizer: str,
        vocab_size: int,
        *,
        by_server: bool = False,
        takes: Takes = ANYTHING,
    ) -> None:
        self.file = file
        self.ready: deque[Rendered] = deque()
        self.failure: UsageError | None = None
        self.read_all = False
        self.news = threading.Event()
        """Set whenever something has become ready, or the file has ended."""
        self._name = file.tokenizer or tokenizer
        self._vocab_size = vocab_size
        self._by_server, self._takes = by_server, takes
        self._reader = Reader(file)
        self._tokenizer: ChatTokenizer | None = None
        self._sampling = file.sampling.given() if file.sampling else {}
        self._answers: deque[_Answer] = deque()
        self._turns: list[tuple[float, int, Rendered]] = []
        self._turn_number = 0
        self._lock = threading.Lock()
        self._work = threading.Event()
        self._closed = False
        self._lines = self._skipped = 0
        self._first_bad, self._sha256 = "", ""
        self._formats: Counter[str] = Counter()
        self._undone: Counter[str] = Counter()
        self._rendered = self._prompt_tokens = self._longest = self._with_tools = 0
        self._render_s = 0.0
        self._unanswered = 0
        self._counts = RequestCounts()
        for run, name in ((self._run, "renderer"), (self._hash, "request-hash")):
            threading.Thread(target=run, name=name, daemon=True).start()

    # -- the engine thread -----------------------------------------------------------------

    def take(self) -> Rendered:
        """Take the next request; there must be one."""
        taken = self.ready.popleft()
        self._work.set()
        return taken

    def answer(
        self, talk: Talk, turn: int, ids: Sequence[int], ready: tuple[tuple[float, int], ...]
    ) -> None:
        """Take the answer `ids` to a turn; render those that it makes due: (when, which)."""
        with self._lock:
            self._unanswered += 1
        self._answers.append(_Answer(talk, turn, tuple(ids), ready))
        self._work.set()

    def drop(self, talk: Talk) -> int:
        """Drop the rendered turns of a job that is broken; return how many."""
        with self._lock:
            kept = [entry for entry in self._turns if entry[2].talk is not talk]
            dropped = len(self._turns) - len(kept)
            self._turns = kept
            heapq.heapify(kept)
        return dropped

    def next_turn_s(self) -> float:
        """When the next rendered turn is due; infinity without one."""
        with self._lock:
            return self._turns[0][0] if self._turns else math.inf

    def pop_turns(self, now_s: float) -> list[tuple[float, Rendered]]:
        """Take the rendered turns due by `now_s`, oldest first."""
        due = []
        with self._lock:
            while self._turns and self._turns[0][0] <= now_s:
                due_s, _, rendered = heapq.heappop(self._turns)
                due.append((due_s, rendered))
        return due

    def put_back(self, due_s: float, rendered: Rendered) -> None:
        """Return a turn that was popped and not sent."""
        with self._lock:
            self._turn_number += 1
            heapq.heappush(self._turns, (due_s, self._turn_number, rendered))

    def shift(self, seconds: float) -> None:
        """Move the due times of all turns `seconds` later."""
        with self._lock:
            self._turns = [(due_s + seconds, n, turn) for due_s, n, turn in self._turns]

    def counts(self) -> RequestCounts:
        """What became of the lines so far."""
        counts = self._counts
        return counts if counts.sha256 == self._sha256 else replace(counts, sha256=self._sha256)

    @property
    def answers(self) -> int:
        """Answers whose next turn is not rendered yet."""
        return self._unanswered

    def close(self) -> None:
        """End the threads, which may take as long as one line does."""
        self._closed = True
        self._work.set()

    # -- the renderer's thread -------------------------------------------------------------

    def _run(self) -> None:
        try:
            if not self._by_server:
                self._tokenizer = tokenizer_for(self._name, self.file.chat_template)
            self._read_on()
        except UsageError as error:
            self.failure = error
        except Exception as error:
            logger.exception("real requests cannot be rendered any further")
            self.failure = UsageError(
                f"{self.file.path} cannot be rendered any further ({type(error).__name__}).",
                "The log has the traceback, without what it says of a prompt.",
            )
        finally:
            self._count()
            self.read_all = True
            self.news.set()
        try:
            while not self._closed and (self._by_server or self._tokenizer is not None):
                self._wait()
        finally:
            self._reader.close()

    def _read_on(self) -> None:
        began_s = last_s = 0.0
        while True:
            clock, taken = TraceClock(), 0
            for number, ask in self._reader:
                if not math.isnan(ask.at_s):
                    last_s = began_s + clock.at_s(ask.at_s)
                while not self._closed and self._full:
                    self._wait()
                self._render_answers()
                if self._closed:
                    return
                try:
                    rendered = self._first(ask, last_s)
                except BadLineError as error:
                    self._reader.skip(number, error)
                    continue
                taken += 1
                self._count()
                self.ready.append(rendered)
                self.news.set()
            if not self.file.repeat or not taken:
                return
            # The next round starts one mean gap after the last request.
            began_s = last_s + (last_s - began_s) / max(1, taken - 1)
            self._next_round()

    def _next_round(self) -> None:
        old, new = self._reader, Reader(self.file)
        old.close()
        self._first_bad = self._first_bad or old.first_bad
        self._lines += old.lines
        self._skipped += old.skipped
        self._formats += old.formats
        self._reader = new

    def _count(self) -> None:
        """Let the engine thread see the counts, as one value."""
        reader = self._reader
        self._counts = RequestCounts(
            lines=self._lines + reader.lines,
            skipped=self._skipped + reader.skipped,
            first_bad=self._first_bad or reader.first_bad,
            rendered=self._rendered,
            render_s=self._render_s,
            prompt_tokens=self._prompt_tokens,
            longest=self._longest,
            with_tools=self._with_tools,
            ignores_tools=self._tokenizer is not None and self._tokenizer.ignores_tools,
            formats=tuple(sorted((self._formats + reader.formats).items())),
            undone=tuple(sorted(self._undone.items())),
            by_server=self._by_server,
            sha256=self._sha256,
        )

    @property
    def _full(self) -> bool:
        ready = self.ready
        return len(ready) >= _AHEAD or (
            len(ready) > 1 and len(ready) * self._longest > _AHEAD_TOKENS
        )

    def _wait(self) -> None:
        """Wait for room or an answer; render the turns that answers make possible."""
        self._work.wait()
        self._work.clear()
        self._render_answers()

    def _render_answers(self) -> None:
        while self._answers and not self._closed:
            talk, turn, ids, ready = self._answers.popleft()
            talk.answers[turn] = self._text(talk, turn, ids)
            made = [(due_s, self._turn(talk, place)) for due_s, place in ready]
            with self._lock:
                for due_s, rendered in made:
                    self._turn_number += 1
                    # Where its job broke meanwhile it is taken at once, to be dropped.
                    due_s = -math.inf if talk.job.broken else due_s
                    heapq.heappush(self._turns, (due_s, self._turn_number, rendered))
                self._unanswered -= 1
            self._count()
            self.news.set()

    def _first(self, ask: Ask, at_s: float) -> Rendered:
        """The first request of a line, with those that a job begins with beside it."""
        ask = self._within_vocabulary(ask)
        self._undone.update(ask.missing(self._takes, by_server=self._by_server))
        talk = Talk.of(ask)
        (_, place), *others = talk.job.roots()
        first = self._made(talk, place, at_s)
        abreast = tuple((wait_s, self._made(talk, other, 0.0)) for wait_s, other in others)
        return replace(first, abreast=abreast) if abreast else first

    def _within_vocabulary(self, ask: Ask) -> Ask:
        """Without a bias on tokens that the model does not have: it was recorded for another."""
        sampling = ask.sampling or {}
        bias = sampling.get("logit_bias", {})
        if self._by_server or all(0 <= token < self._vocab_size for token in bias):
            return ask
        return replace(ask, sampling={k: v for k, v in sampling.items() if k != "logit_bias"})

    def _text(self, talk: Talk, turn: int, ids: Sequence[int]) -> str:
        """The text of an answer. Where a server gives none, the recorded one stands in."""
        text = ""
        if turn in talk.parts:
            text = "".join(talk.parts[turn])
        elif ids and self._tokenizer is not None:
            text = self._tokenizer.decoded(ids)
        return text or talk.ask.turns[turn].answer

    def _turn(self, talk: Talk, place: int) -> Rendered:
        """A later turn. One that cannot be rendered has no tokens, which fits nowhere."""
        try:
            return self._made(talk, place, 0.0)
        except (BadLineError, UsageError):
            return replace(_BROKEN, talk=talk, turn=place)

    def _made(self, talk: Talk, place: int, at_s: float) -> Rendered:
        began_s = time.perf_counter()
        ask, said = talk.ask, talk.say(place)
        most, natural = self._length(ask, place)
        prompt: RenderedPrompt | UnrenderedPrompt
        if self._by_server:
            prompt = _unrendered(ask, said, open_ended=most is None, keep=len(ask.turns) > 1)
            if prompt.answer is not None:
                talk.parts[place] = prompt.answer
        else:
            prompt = RenderedPrompt(self._ids(ask, said))
        self._render_s += time.perf_counter() - began_s
        self._rendered += 1
        self._prompt_tokens += prompt.length
        self._longest = max(self._longest, prompt.length)
        self._with_tools += bool(ask.tools)
        serving = Serving(
            {**(ask.sampling or {}), **self._sampling},
            natural=natural,
            detokenize=self.file.detokenize,
        )
        several = talk if ask.job or len(ask.turns) > 1 else None
        n = ask.n if self._takes.several else 1
        made = Rendered(prompt, most, serving, at_s, several, place, n=n)
        if not self._takes.forms or (self._by_server and ask.asks):
            return made
        return replace(made, form=ask.form, logprobs=ask.logprobs)

    def _ids(self, ask: Ask, said: Sequence[Message]) -> list[int]:
        """The token ids of a prompt. Raises BadLineError."""
        assert self._tokenizer is not None
        if isinstance(ask.prompt, tuple):
            ids = list(ask.prompt)
        elif ask.prompt is not None:
            ids = self._tokenizer.text(ask.prompt)
        else:
            ids = self._tokenizer.chat(said, ask.tools, ask.template)
        if not ids:
            raise BadLineError("an empty prompt")
        if min(ids) < 0 or max(ids) >= self._vocab_size:
            raise BadLineError("has tokens that are not in the model's vocabulary")
        return ids

    def _length(self, ask: Ask, place: int) -> tuple[int | None, bool]:
        """How many tokens to generate at most, None for no limit; whether it ends by itself."""
        turn = ask.turns[place]
        most = turn.max_tokens
        if self.file.force_lengths:
            forced = turn.output_tokens
            if forced is None and turn.answer and self._tokenizer is not None:
                forced = max(1, self._tokenizer.length(turn.answer))
            if forced or most:
                return forced or most, False
            self._undone["a forced length"] += 1
        elif most is None and ask.prompt is not None:
            most = _COMPLETION_TOKENS
        return most, True

    # -- the hash's thread -----------------------------------------------------------------

    def _hash(self) -> None:
        made = hashlib.sha256()
        try:
            with opened(self._reader.path) as file:
                while not self._closed and (block := file.read(1 << 20)):
                    made.update(block)
        except (OSError, UsageError):
            return
        if not self._closed:
            self._sha256 = made.hexdigest()


def _unrendered(
    ask: Ask, said: Sequence[Message], *, open_ended: bool, keep: bool
) -> UnrenderedPrompt:
    """The prompt for a server that makes its tokens. Raises BadLineError."""
    if isinstance(ask.prompt, tuple) and min(ask.prompt) < 0:
        raise BadLineError("has tokens that are not in the model's vocabulary")
    return UnrenderedPrompt(
        said if ask.prompt is None else (),
        ask.prompt or "",
        ask.tools,
        ask.template,
        ask.asks,
        open_ended=open_ended,
        keep=keep,
    )


_BROKEN = Rendered(RenderedPrompt([]), 0, Serving({}, natural=True, detokenize=False))
"""Stands for a turn that could not be rendered: its conversation, or job, is over."""
