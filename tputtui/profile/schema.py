"""The JSON Schema of a profile, for editors: completion, help, mistakes while typing. Pure.

Made from the types that read profiles, so the two always agree; the docstrings of these types are
the descriptions. vLLM's own arguments may be any, since they depend on the installed vLLM.
"""

from __future__ import annotations

import inspect
import json
from typing import Any

import msgspec

from tputtui.goals import METRICS
from tputtui.knobs import KNOBS
from tputtui.profile.document import Document
from tputtui.profile.migrate import VERSION

__all__ = ["schema_text"]

_GOAL = rf"^({'|'.join(METRICS)})_p[0-9.]+$"
_LIMIT = r"^[0-9.eE+-]+\s*(µs|us|ms|s|min)$"


def schema_text() -> str:
    """The schema as JSON, for a file."""
    schema = _without_null(msgspec.json.schema(Document))
    document = schema["$defs"]["Document"]
    document["title"] = "tputtui profile"
    properties = document["properties"]
    properties["tputtui"] = {"const": VERSION, "description": "The version of this format."}
    properties["goal"] = {
        "description": "What requests should be served within, such as `ttft_p99: 500ms`.",
        "type": "object",
        "patternProperties": {_GOAL: {"type": "string", "pattern": _LIMIT}},
        "additionalProperties": False,
    }
    engine = properties["engine"]
    engine["description"] = "The model, and any vLLM engine argument by its long name."
    engine["properties"] = {
        "model": {"type": "string", "description": "A folder, a hub id, or shape:NAME."}
    } | {
        knob.argument: {"description": f"Ceiling, {knob.flag}. {knob.trade}"}
        for knob in KNOBS
        if knob.boots
    }
    properties["knobs"] = {
        **properties["limits"],
        "description": "As `limits` were called once; still read.",
        "deprecated": True,
    }
    limits = schema["$defs"]["LimitValues"]["properties"]
    for knob in KNOBS:
        limits[knob.name]["description"] = f"{knob.trade} ({knob.flag}, {knob.reach})"
    return (
        json.dumps(
            {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema},
            indent=2,
            ensure_ascii=False,
        )
        + "\n"
    )


def _without_null(part: Any) -> Any:
    """Simplify the schema for editors: keys are optional instead of null, texts are unindented."""
    if isinstance(part, list):
        return [_without_null(each) for each in part]
    if not isinstance(part, dict):
        return part
    kept = {key: _without_null(value) for key, value in part.items() if value is not None}
    if isinstance(kept.get("description"), str):
        kept["description"] = inspect.cleandoc(kept["description"])
    options = [option for option in kept.get("anyOf", ()) if option != {"type": "null"}]
    if len(options) == 1 and len(options) < len(kept["anyOf"]):
        del kept["anyOf"]
        return options[0] | kept
    return kept
