"""What vLLM's scheduler puts into a step, from its `SchedulerOutput`. Imports no vLLM."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, NamedTuple

from tputtui.measure.samples import CHECKED, POSITIONS

__all__ = [
    "NONE_CHECKED",
    "Classifier",
    "Composition",
    "Scheduled",
    "checked",
    "composition",
    "prompts_of",
    "waiting_for_an_adapter",
]

_LOOKED_AT = 256
"""So many waiting requests are looked at; a queue can hold a hundred thousand."""


class Composition(NamedTuple):
    """Prefill and decode in one step.

    prefills, decodes: requests of which the step computes prompt, or next tokens.
    prefill_tokens, decode_tokens: tokens scheduled for them.
    prefill_pairs: pairs of a prefilled token with one it attends to.
    prefill_context, decode_context: tokens that those requests had computed before.
    drafted: draft tokens that the step checks, which are in none of the other numbers.
    """

    prefills: int
    prefill_tokens: int
    prefill_pairs: float
    prefill_context: int
    decodes: int
    decode_tokens: int
    decode_context: int
    drafted: int = 0


def composition(output: Any, prompt_of: Callable[[str], int] | None = None) -> Composition:
    """What a step of `output` consists of.

    prompt_of: how many tokens the prompt of a request has, by its id. Without it a request of which
    one token is scheduled counts as a decode, be it the last of its prompt.
    """
    tokens, cached = output.num_scheduled_tokens, output.scheduled_cached_reqs
    drafts = getattr(output, "scheduled_spec_decode_tokens", None) or {}
    drafted = sum(map(len, drafts.values()))
    prefills = prefill = prefill_context = 0
    pairs = 0.0
    for new in output.scheduled_new_reqs:
        count, computed = tokens[new.req_id], new.num_computed_tokens
        if drafts:
            count -= len(drafts.get(new.req_id, ()))
        prefills += 1
        prefill += count
        prefill_context += computed
        pairs += count * (computed + count / 2)
    total, decodes = output.total_num_scheduled_tokens - drafted, len(cached.req_ids)
    decode_context = sum(cached.num_computed_tokens)
    # Nearly always the others decode one token each, and there is nothing to look into.
    unlike = prompt_of is not None and 0 in cached.num_output_tokens
    if unlike or total - prefill > decodes:
        for name, had, computed in zip(
            cached.req_ids, cached.num_output_tokens, cached.num_computed_tokens, strict=True
        ):
            count = tokens[name] - len(drafts.get(name, ()))
            if prompt_of is not None:
                count = _of_prompt(prompt_of(name), count, had, computed)
            elif count == 1:
                continue
            if count:
                decodes -= 1
                decode_context -= computed
                prefills += 1
                prefill += count
                prefill_context += computed
                pairs += count * (computed + count / 2)
    return Composition(
        prefills, prefill, pairs, prefill_context, decodes, total - prefill, decode_context,
        drafted,
    )  # fmt: skip


def prompts_of(requests: Mapping[str, Any]) -> Callable[[str], int]:
    """How long the prompts of a scheduler's `requests` are, as `composition` asks for it."""
    return lambda name: int(requests[name].num_prompt_tokens)


def _of_prompt(prompt: int, count: int, had: int, computed: int) -> int:
    """How many of the `count` tokens scheduled are prefill.

    prompt: the length of the request's prompt. had: its tokens of output, one that is still to come
    among them. computed: its tokens computed before.
    A preempted request computes all it has again, in chunks. With async scheduling the first decode
    can be scheduled before the first token is known: then only what is left of the prompt is
    prefill.
    """
    left = prompt + had - computed
    return max(0, min(count, left)) if not had or left > 1 else 0


class Scheduled(NamedTuple):
    """What the scheduler put into a step: sequences, and tokens.

    context: tokens that those sequences had computed before. adapter_waiting: waiting requests that
    `max_loras` holds back. drafted: draft tokens, which are not among those of decode.
    """

    running: int = 0
    waiting: int = 0
    prefill: int = 0
    decode: int = 0
    context: int = 0
    adapter_waiting: int = 0
    drafted: int = 0


NONE_CHECKED: Mapping[str, int] = dict.fromkeys(CHECKED, 0)


def checked(stats: Any) -> Mapping[str, int]:
    """What vLLM's `SchedulerStats` of a step (or None) say of its draft tokens, by `CHECKED`."""
    told = getattr(stats, "spec_decoding_stats", None)
    if told is None:
        return NONE_CHECKED
    counts = (told.num_drafts, told.num_draft_tokens, told.num_accepted_tokens)
    by_position = told.num_accepted_tokens_per_pos[: len(POSITIONS)]
    return {**NONE_CHECKED, **dict(zip(CHECKED, (*counts, *by_position), strict=False))}


class Classifier:
    """Tells for each `SchedulerOutput` of one scheduler what it has put into the step."""

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler
        self._prompt_of = prompts_of(scheduler.requests)
        self._counts = scheduler.get_request_counts

    def __call__(self, output: Any) -> Scheduled:
        step = composition(output, self._prompt_of)
        running, waiting = self._counts()
        context = step.prefill_context + step.decode_context
        return Scheduled(
            running,
            waiting,
            step.prefill_tokens,
            step.decode_tokens,
            context,
            waiting_for_an_adapter(self._scheduler),
            step.drafted,
        )


def waiting_for_an_adapter(scheduler: Any) -> int:
    """How many waiting requests the limit `max_loras` holds back, just after a step is scheduled.

    Those whose adapter is not in the batch, while that has as many adapters as it may have.
    """
    if scheduler.lora_config is None:
        return 0
    batch = {
        each.lora_request.lora_int_id for each in scheduler.running if each.lora_request is not None
    }
    if len(batch) < scheduler.lora_config.max_loras:
        return 0
    return sum(
        each.lora_request is not None and each.lora_request.lora_int_id not in batch
        for each in islice(scheduler.waiting, _LOOKED_AT)
    )
