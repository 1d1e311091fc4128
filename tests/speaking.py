"""A deterministic engine that answers questions; with a quantized KV cache it answers otherwise."""

from __future__ import annotations

from typing import Any

from tests.rig import Rig
from tputtui.engine.fake import FakeEngine
from tputtui.engine.protocol import Ended, EngineFacts, Report
from tputtui.load.request import FIRST_QUESTION
from tputtui.load.workload import Workload
from tputtui.profile import EngineSpec
from tputtui.quality.answers import Question
from tputtui.quality.prompts import PromptSet

__all__ = ["Speaking", "speaking_rig", "thirty"]


class Speaking(FakeEngine):
    """Each answer follows from its prompt; with `kv_cache_dtype: fp8` two of three differ."""

    _damaged = False

    def boot(self, spec: EngineSpec, report: Report) -> EngineFacts:
        self._damaged = spec.args.get("kv_cache_dtype") == "fp8"
        return super().boot(spec, report)

    def _leave(self, request: Any, end_s: float) -> Ended:
        ended = super()._leave(request, end_s)
        if request.spec.number < FIRST_QUESTION:
            return ended
        seed = sum(request.spec.ids())
        tokens = [(seed + place) % 97 for place in range(ended.output_tokens)]
        if self._damaged and seed % 3 and len(tokens) > 1:
            tokens[1] = 98
        known = [{token: -0.1, 98: -3.0, 99: -4.0} for token in tokens]
        return ended._replace(token_ids=tokens, logprobs=known)


def thirty() -> PromptSet:
    """Thirty prompts, and one that fits into no engine."""
    each = tuple(Question((5 + i, 6, 7), 8) for i in range(30))
    return PromptSet("file", "ab" * 32, (*each, Question((5,) * 10**5, 8)), 0, private=False)


def speaking_rig(load: Workload) -> Rig:
    """A session on such an engine, up and under its load."""
    rig = Rig(load, kind=Speaking)
    rig.boot()
    rig.run(5.0)
    return rig
