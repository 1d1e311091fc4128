"""What a line of a request file asks for, whatever format it has. Pure values.

A message with `ANSWER_OF` stands for the real answer of another turn of its job.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from tputtui.load.carrier import Form
from tputtui.load.jobs import Step, chain

__all__ = ["ANSWER_OF", "ANYTHING", "Ask", "BadLineError", "Takes", "Turn", "chat_asks",
           "recorded_sampling", "whole"]  # fmt: skip

Message = dict[str, Any]
ANSWER_OF = "answer_of"

_SAMPLING = {
    "temperature": float, "top_p": float, "top_k": int, "min_p": float, "seed": int,
    "presence_penalty": float, "frequency_penalty": float, "repetition_penalty": float,
    "min_tokens": int, "ignore_eos": bool,
}  # fmt: skip
"""Names of sampling parameters that OpenAI's API and vLLM share, and what they are."""
_UNDONE = ("response_format", "logit_bias", "logprobs", "top_logprobs", "n", "best_of")
"""What not every engine can be asked for: without that it is served without, and counted. vLLM has
no `best_of` any more."""
_CHAT = ("response_format", "logit_bias", "logprobs", "top_logprobs", "tool_choice",
         "parallel_tool_calls", "reasoning_effort")  # fmt: skip
"""What a server's own chat route is asked for as it was recorded."""


class Takes(NamedTuple):
    """What an engine can be asked for beside plain text.

    forms: answers of a form, and log-probabilities. several: several answers to a prompt.
    """

    forms: bool = True
    several: bool = True


ANYTHING = Takes()


class BadLineError(ValueError):
    """A line that cannot be used. Its text names keys and kinds, never a value of the line."""


class Turn(NamedTuple):
    """One prompt of a conversation, or step of a job, and what is known of its answer."""

    messages: tuple[Message, ...]
    """What this turn adds to what it goes on from."""
    answer: str = ""
    """The recorded answer; only its length in tokens is used."""
    output_tokens: int | None = None
    """The recorded length of the answer."""
    max_tokens: int | None = None
    wait_s: float = 0.0
    """From the answers it waits for to this turn, in s."""
    after: tuple[int, ...] | None = None
    """Places of the turns of a job whose answers it waits for; None for the one before it."""
    continues: int | None = None
    """The turn of a job whose prompt and answer it begins with; None for none of them."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request, the turns of one conversation, or the steps of one job."""

    turns: tuple[Turn, ...]
    prompt: str | tuple[int, ...] | None = None
    """Text or token ids to send as they are; None where the turns' messages are the prompt."""
    tools: tuple[Message, ...] = ()
    template: Mapping[str, Any] | None = None
    """Further values for the chat template (`chat_template_kwargs`)."""
    sampling: Mapping[str, Any] | None = None
    at_s: float = math.nan
    """When it was sent, in s since any moment; NaN where that is not recorded."""
    undone: tuple[str, ...] = ()
    """What it asks for that not every engine does."""
    asks: Mapping[str, Any] | None = None
    """What it asks for as it was recorded, for a server that makes the prompt itself."""

    form: Form | None = None
    """What its answer must look like, for an engine that takes token ids."""
    logprobs: int | None = None
    """Log-probabilities of so many tokens at each position, for the same; None for none."""
    n: int = 1
    """How many answers it asks for, for the same."""
    job: bool = False
    """Whether its turns are the steps of a job, whose latency is measured."""

    @property
    def steps(self) -> tuple[Step, ...]:
        """When each turn is due."""
        if self.job:
            return tuple(Step(turn.after or (), turn.wait_s) for turn in self.turns)
        return chain([turn.wait_s for turn in self.turns])

    def before(self, place: int) -> int | None:
        """The turn whose prompt and answer a turn begins with; None for none."""
        if self.job:
            return self.turns[place].continues
        return place - 1 if place else None

    def missing(self, takes: Takes, *, by_server: bool) -> tuple[str, ...]:
        """What it is served without. by_server: a server makes the prompt."""
        done = set(self.asks or ()) if by_server else set()
        done |= {"n"} if takes.several else set()
        done |= {"logit_bias"} if "logit_bias" in (self.sampling or ()) else set()
        if takes.forms and not (by_server and self.asks):
            done |= {"response_format"} if self.form else set()
            done |= {"logprobs", "top_logprobs"} if self.logprobs is not None else set()
        return tuple(name for name in self.undone if name not in done)


def recorded_sampling(body: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The sampling that a request records, under vLLM's names, and what is not carried."""
    found: dict[str, Any] = {}
    for name, kind in _SAMPLING.items():
        value = body.get(name)
        if value is None:
            continue
        if not isinstance(value, bool if kind is bool else int | float):
            raise BadLineError(
                f"{name}: expected {'true or false' if kind is bool else 'a number'}"
            )
        found[name] = kind(value)
    if (stop := body.get("stop")) is not None:
        texts = [stop] if isinstance(stop, str) else stop
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise BadLineError("stop: expected text, or a list of texts")
        if texts := [text for text in texts if text]:
            found["stop"] = texts
    if (ids := body.get("stop_token_ids")) is not None:
        if not isinstance(ids, list) or not all(_is_whole(number) for number in ids):
            raise BadLineError("stop_token_ids: expected a list of whole numbers")
        found["stop_token_ids"] = ids
    if bias := body.get("logit_bias"):
        found["logit_bias"] = _bias(bias)
    undone = tuple(name for name in _UNDONE if _asks(name, body.get(name)))
    return found, undone


def _bias(given: object) -> dict[int, float]:
    """Token ids, which JSON has as text, with what is added to their logits, -100 to 100."""
    if isinstance(given, dict):
        with contextlib.suppress(TypeError, ValueError):
            return {int(token): max(-100.0, min(100.0, float(add))) for token, add in given.items()}
    raise BadLineError("logit_bias: expected token ids, each with a number")


def chat_asks(body: Mapping[str, Any]) -> dict[str, Any]:
    """What a chat asks for beside its messages, as it was recorded."""
    return {name: value for name in _CHAT if (value := body.get(name)) is not None}


def whole(body: Mapping[str, Any], names: Iterable[str], least: int = 1) -> int | None:
    """The first of `names` that is given, a whole number; None where none is."""
    for name in names:
        value = body.get(name)
        if value is None:
            continue
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not _is_whole(value) or value < 0:
            raise BadLineError(f"{name}: expected a whole number")
        return max(least, value)
    return None


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _asks(name: str, value: object) -> bool:
    if name == "response_format":
        return isinstance(value, dict) and value.get("type") not in (None, "text")
    if name in ("n", "best_of"):
        return value not in (None, 1)
    return value not in (None, False, 0, {}, [])
