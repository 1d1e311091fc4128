"""Draws what each request carries beside its prompt and length. Pure, seeded."""

from __future__ import annotations

import json
import math
from functools import lru_cache
from pathlib import Path
from statistics import NormalDist
from typing import NamedTuple, TypeVar

from tputtui.errors import UsageError
from tputtui.load.extras import Structured
from tputtui.load.prompts import Stream, Uniforms
from tputtui.load.workload import TrafficClass, Workload

__all__ = ["PLAIN", "Carried", "Carrier", "Form", "Label", "check_schema"]

T = TypeVar("T")
_NORMAL = NormalDist()
_SMALLEST = 1e-12


class Form(NamedTuple):
    """What an answer must look like. schema: a JSON schema as text. regex: an expression."""

    schema: str = ""
    regex: str = ""


class Label(NamedTuple):
    """Which requests a request is counted with.

    traffic: the name of its class of traffic; empty without classes. adapter: its LoRA adapter;
    empty for the base model.
    """

    traffic: str = ""
    adapter: str = ""


class Carried(NamedTuple):
    """What one request carries."""

    label: Label = Label()
    cancel_s: float = math.inf
    """How long after it was due the client gives up, in s."""
    priority: int | None = None
    """A lower number is served earlier; None where the load gives none."""
    form: Form | None = None
    """What the answer must look like; None for anything."""
    n: int = 1
    """How many answers are asked for."""
    logprobs: int | None = None
    """Log-probabilities of so many tokens at each position; None for none."""


PLAIN = Carried()
"""A request that carries nothing else."""


class Carrier:
    """Draws what requests carry: request `index` of a seed always carries the same."""

    def __init__(self, seed: int) -> None:
        self._uniforms = Uniforms(seed, Stream.CARRIED)

    def carried(self, load: Workload, index: int, turn: int = 0) -> Carried:
        """What request `index` carries in `turn`. Raises UsageError for a schema that is gone.

        A conversation keeps its class, its adapter and its priority.
        """
        if not load.carries:
            return PLAIN
        own = self._uniforms.row(index, turn)
        whole = self._uniforms.row(index) if turn else own
        kind = self.kind(load, index)
        cancel, answers = load.cancel, load.answers
        cancel_s = math.inf
        if cancel is not None and own[0] < cancel.share:
            normal = _NORMAL.inv_cdf(min(max(own[1], _SMALLEST), 1 - _SMALLEST))
            cancel_s = cancel.time_s(normal)
        form = None
        if load.structured is not None and own[2] < load.structured.share:
            form = form_of(load.structured)
        adapter = _picked(load.lora, whole[4], "") if load.lora else ""
        priority = _picked(load.priority, whole[3], 0) if load.priority else None
        traffic = ""
        if kind is not None:
            traffic, adapter = kind.name, kind.adapter or adapter
            priority = priority if kind.priority is None else kind.priority
        return Carried(
            label=Label(traffic, adapter),
            cancel_s=cancel_s,
            priority=priority,
            form=form,
            n=answers.n if answers else 1,
            logprobs=answers.logprobs if answers else None,
        )

    def kind(self, load: Workload, index: int) -> TrafficClass | None:
        """The class of request `index`, or of conversation `index`; None without classes."""
        if not load.classes:
            return None
        left = self._uniforms.row(index)[5] * math.fsum(each.share or 0 for each in load.classes)
        for each in load.classes:
            left -= each.share or 0
            if left < 0:
                return each
        return max(load.classes, key=lambda each: each.share or 0)


def form_of(structured: Structured) -> Form:
    """What the answers must look like. Raises UsageError where the schema cannot be read."""
    if structured.regex:
        return Form(regex=structured.regex)
    return Form(schema=_schema(structured.schema))


def check_schema(load: Workload) -> None:
    """Check that the schema of the load can be read, if it has one. Raises UsageError."""
    if load.structured is not None and load.structured.schema:
        _schema.cache_clear()
        form_of(load.structured)


@lru_cache(maxsize=16)
def _schema(path: str) -> str:
    """The JSON schema in a file, in one line."""
    hint = "--structured 'share=0.3 schema=FILE' takes a file with one JSON schema."
    try:
        read = json.loads(Path(path).expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}.", hint) from None
    except ValueError:
        raise UsageError(f"{path} is no JSON.", hint) from None
    if not isinstance(read, dict):
        raise UsageError(f"{path} is no JSON schema: that is an object.", hint)
    return json.dumps(read, separators=(",", ":"))


def _picked(mix: tuple[tuple[T, float], ...], u: float, rest: T) -> T:
    """The value that `u` in [0, 1) falls on; `rest` past all shares."""
    for value, share in mix:
        u -= share
        if u < 0:
            return value
    return rest
