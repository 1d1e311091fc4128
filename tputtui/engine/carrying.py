"""Whether an engine can serve what a load's requests carry. Pure.

What can be told before a boot is told there: a request that the engine refuses counts as rejected.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from tputtui.engine.target import is_server
from tputtui.errors import UsageError, nearest
from tputtui.load.workload import Workload
from tputtui.profile import EngineSpec, EngineValue
from tputtui.profile.spec import class_goals

__all__ = ["MODULES", "adapters_of", "check_carried"]

MODULES = "lora_modules"
"""The argument that names adapters: of vLLM's HTTP server, and read by us for an engine here."""
_HINT = "Write --enable-lora --lora-modules a=FOLDER b=FOLDER, as for `vllm serve`."


class _Module(msgspec.Struct):
    name: str
    path: str


def adapters_of(args: Mapping[str, EngineValue]) -> dict[str, str]:
    """Name to folder of each adapter in `--lora-modules`, in order. Raises UsageError."""
    given = args.get(MODULES)
    if given is None:
        return {}
    adapters: dict[str, str] = {}
    for each in given if isinstance(given, list) else [given]:
        name, path = _module(each)
        if name in adapters:
            raise UsageError(f"--lora-modules: {name} is there twice.", _HINT)
        adapters[name] = path
    return adapters


def check_carried(load: Workload, spec: EngineSpec, *, simulated: bool = False) -> None:
    """Check that an engine of `spec` can serve what the requests carry. Raises UsageError."""
    class_goals(load)
    server = is_server(spec.model)
    names = [name for name, _ in load.lora or ()]
    names += [each.adapter for each in load.classes or () if each.adapter]
    if names and not server:
        known = adapters_of(spec.args)
        for name in names:
            if name not in known:
                raise UsageError(
                    f"The load names the adapter {name!r}, and --lora-modules does not.",
                    nearest(name, known) or _HINT,
                )
        if not spec.args.get("enable_lora"):
            raise UsageError("A LoRA mix needs an engine booted with --enable-lora.", _HINT)
    if load.structured and not server:
        shape = spec.model.startswith("shape:") or bool(spec.args.get("skip_tokenizer_init"))
        if shape or simulated:
            what = "a simulated engine" if simulated else spec.model
            raise UsageError(
                f"Structured output needs a tokenizer, and {what} has none.",
                "Give a model with one: a folder, or a hub id.",
            )
    if load.answers and load.answers.n > 1 and server:
        raise UsageError(
            "Several answers to a prompt are not told apart in a server's stream: "
            "their latencies would be wrong.",
            "Leave n out, or boot the engine here.",
        )


def _module(given: object) -> tuple[str, str]:
    """vLLM's two forms: name=path, and a JSON object."""
    if isinstance(given, str) and not given.lstrip().startswith("{"):
        name, equals, path = given.partition("=")
        if equals and name and path:
            return name, path
    else:
        try:
            module = (
                msgspec.json.decode(given, type=_Module)
                if isinstance(given, str)
                else msgspec.convert(given, _Module)
            )
        except msgspec.MsgspecError:
            pass
        else:
            return module.name, module.path
    raise UsageError(f"--lora-modules: {given!r} is no adapter.", _HINT)
