"""Jobs of agents: steps that wait for one another and for their tools. Our own format. Pure.

{"steps": [{"id": "plan", "messages": […], "max_tokens": 200},
           {"id": "a", "after": ["plan"], "wait_s": 1.5, "continues": "plan", "messages": […]},
           {"id": "b", "after": ["plan"], "wait_s": 4.0, "messages": […]},
           {"id": "sum", "after": ["a", "b"],
            "messages": [{"role": "user", "answer_of": "a"}, {"role": "user", "answer_of": "b"}]}]}

A step without `after` begins with the job; one with `continues` alone comes after that step. What
else a step can say (`output_tokens`, an assistant's last message) is as in a body of its own, but
for sampling, tools and forms: these stand beside `steps`, and hold for all of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tputtui.load.requests.ask import ANSWER_OF, Ask, BadLineError, Turn, whole
from tputtui.load.requests.bodies import body, messages_of

__all__ = ["steps"]

_MOST_STEPS = 100_000
_STEP = ("id", "after", "wait_s", "continues", "messages", "max_tokens", "max_completion_tokens",
         "output_tokens")  # fmt: skip


def steps(line: Mapping[str, Any]) -> Ask:
    """A job by its steps. Raises BadLineError."""
    given = line.get("steps")
    if not isinstance(given, list) or not given or not all(isinstance(s, dict) for s in given):
        raise BadLineError("steps: expected a list of objects")
    if len(given) > _MOST_STEPS:
        raise BadLineError(f"steps: more than {_MOST_STEPS:,}")
    places: dict[str, int] = {}
    turns: list[Turn] = []
    for place, step in enumerate(given):
        turns.append(_turn(step, place, places))
        name = step.get("id", str(place))
        if not isinstance(name, str) or name in places:
            raise BadLineError(f"steps[{place}].id: expected a name of its own")
        places[name] = place
    # What holds for all steps is read as in the body of a request, whose messages are not used.
    common = body({**line, "messages": "-"})
    most = common.turns[0].max_tokens
    turns = [turn if turn.max_tokens else turn._replace(max_tokens=most) for turn in turns]
    return replace(common, turns=tuple(turns), job=True, at_s=_seconds(line, "at_s", math.nan))


def _turn(step: Mapping[str, Any], place: int, places: Mapping[str, int]) -> Turn:
    where = f"steps[{place}]"
    if step.keys() - set(_STEP):
        raise BadLineError(f"{where}: has keys that no step has; known are {', '.join(_STEP)}")
    continues = step.get("continues")
    before = None if continues is None else _place(continues, places, f"{where}.continues")
    after = step.get("after", [])
    if not isinstance(after, list):
        raise BadLineError(f"{where}.after: expected a list of steps")
    waits = {_place(name, places, f"{where}.after") for name in after}
    messages = step.get("messages")
    if not isinstance(messages, list):
        raise BadLineError(f"{where}.messages: expected a list of messages")
    made = []
    for number, message in enumerate(messages):
        at = f"{where}.messages[{number}]"
        if isinstance(message, dict) and ANSWER_OF in message:
            of = _place(message[ANSWER_OF], places, f"{at}.{ANSWER_OF}")
            (plain,) = messages_of([{**message, ANSWER_OF: None, "content": ""}], at)
            made.append({**plain, ANSWER_OF: of})
            waits.add(of)
        else:
            made += messages_of([message], at)
    waits |= set() if before is None else {before}
    answer = ""
    if len(made) > 1 and made[-1]["role"] == "assistant":
        answer = str(made.pop().get("content") or "")
    if not made and before is None:
        raise BadLineError(f"{where}.messages: empty")
    return Turn(
        tuple(made),
        answer,
        whole(step, ("output_tokens",)),
        whole(step, ("max_completion_tokens", "max_tokens")),
        _seconds(step, "wait_s", 0.0, f"{where}."),
        tuple(sorted(waits)),
        before,
    )


def _place(name: object, places: Mapping[str, int], where: str) -> int:
    """The place of an earlier step."""
    place = places.get(name) if isinstance(name, str) else None
    if place is None:
        raise BadLineError(f"{where}: no step before it has that id")
    return place


def _seconds(line: Mapping[str, Any], key: str, missing: float, where: str = "") -> float:
    """A time in s; `missing` where it is not given."""
    value = line.get(key)
    if value is None:
        return missing
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise BadLineError(f"{where}{key}: expected seconds, 0 or more")
    return float(value)
