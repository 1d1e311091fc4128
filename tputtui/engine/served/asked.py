"""What a server is asked for beside prompt and length, as fields of the request. Pure."""

from __future__ import annotations

import json
from typing import Any

from tputtui.load.carrier import PLAIN, Carried

__all__ = ["asked"]


def asked(carried: Carried, *, chat: bool = False) -> dict[str, Any]:
    """Fields of `/v1/completions`, or of a chat; the adapter is the model's name, and not here.

    A schema is `response_format` of OpenAI's API, a regular expression `structured_outputs` of
    vLLM's. A server that knows none of it refuses the request, or ignores the field.
    """
    if carried is PLAIN:
        return {}
    fields: dict[str, Any] = {}
    if carried.priority is not None:
        fields["priority"] = carried.priority
    if carried.logprobs is not None:
        if chat:
            fields |= {"logprobs": True, "top_logprobs": carried.logprobs}
        else:
            fields["logprobs"] = carried.logprobs
    if carried.form is not None:
        fields["ignore_eos"] = False
        if carried.form.regex:
            fields["structured_outputs"] = {"regex": carried.form.regex}
        else:
            schema = {"name": "answer", "schema": json.loads(carried.form.schema)}
            fields["response_format"] = {"type": "json_schema", "json_schema": schema}
    return fields
