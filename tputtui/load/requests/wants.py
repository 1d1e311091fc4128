"""What a recorded request wants of its answer, as what any request can carry. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tputtui.load.carrier import Form
from tputtui.load.requests.ask import BadLineError, whole

__all__ = ["answers_of", "form_of", "logprobs_of"]

_MOST_ANSWERS = 128
_OBJECT = '{"type":"object"}'


def form_of(body: Mapping[str, Any]) -> Form | None:
    """What `response_format` says the answer must look like; None for text, or another kind."""
    asked = body.get("response_format")
    if not isinstance(asked, dict):
        return None
    if asked.get("type") == "json_object":
        return Form(schema=_OBJECT)
    given = asked.get("json_schema")
    schema = given.get("schema") if isinstance(given, dict) else None
    if asked.get("type") != "json_schema" or not isinstance(schema, dict):
        return None
    return Form(schema=json.dumps(schema, separators=(",", ":")))


def answers_of(body: Mapping[str, Any]) -> int:
    """How many answers are asked for. Raises BadLineError."""
    n = whole(body, ("n",)) or 1
    if n > _MOST_ANSWERS:
        raise BadLineError(f"n: expected at most {_MOST_ANSWERS}")
    return n


def logprobs_of(body: Mapping[str, Any]) -> int | None:
    """Log-probabilities of how many tokens: a chat says whether, and how many beside."""
    value = body.get("logprobs")
    if value is True:
        value = body.get("top_logprobs") or 0
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        return None
    return value
