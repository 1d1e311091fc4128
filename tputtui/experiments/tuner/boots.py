"""The engines that the tuner may boot, the one that promises most first. Pure.

Before a boot is paid for, its arguments tell what of it differs: ceilings, the size and number of
KV blocks. Its settings are then forecast with the step costs of the engine that runs. An argument
that changes what a step costs (dtype, quantization, graphs, asynchronous scheduling) tells nothing
beforehand; such an engine is booted after those that promise more than the running one, and before
those that promise less.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from tputtui.engine.protocol import EngineFacts
from tputtui.errors import TputError
from tputtui.experiments.setting import Setting
from tputtui.experiments.tuner.plan import Plan
from tputtui.experiments.tuner.rounds import Round
from tputtui.experiments.tuner.space import Point
from tputtui.knobs import Knobs
from tputtui.predict.forecast import Forecast, Wanted
from tputtui.profile import EngineSpec, EngineValue

__all__ = ["BootQuestion", "Boots", "differing_args", "facts_of"]

_LIMITS = (
    "max_num_seqs",
    "max_num_batched_tokens",
    "max_model_len",
    "long_prefill_token_threshold",
    "enable_prefix_caching",
)
"""Arguments that are limits of the same name."""
_BYTES = {"float32": 4, "float": 4, "bfloat16": 2, "float16": 2, "half": 2}
_SAME = 0.02
"""A gain below this fraction is none: predictions are no better."""

_Key = tuple[bool, float]
"""What an engine promises: whether a setting meets the goals, and the most that one gives; where
none does, the smallest miss, negated."""


class BootQuestion(NamedTuple):
    """What is to be forecast: a point at a level on an engine that is not booted."""

    engine: int
    point: Point
    level: int


class Boots:
    """The engines of `engines` that were not booted yet; the first one runs, as `facts` tell.

    left: their numbers, in the order in which they were given.
    """

    def __init__(
        self,
        plan: Plan,
        engines: Sequence[EngineSpec],
        present: Setting,
        facts: EngineFacts,
    ) -> None:
        self.left = list(range(1, len(engines)))
        self._rounds: dict[int, Round] = {}
        self._block_sizes: dict[int, int] = {}
        self._promised: dict[int, _Key] = {}
        self._running: _Key | None = None
        for number in self.left:
            told = facts_of(engines[number], engines[0], facts)
            if told is None:
                continue
            try:
                made = Round.on(plan, number, present, facts.booted, told, math.inf)
            except TputError:
                continue
            self._rounds[number] = made
            self._block_sizes[number] = told.slot_tokens

    def wanted(self, level: int, seed: int) -> list[tuple[BootQuestion, Wanted]]:
        """What to forecast to know what is left: every setting of each, at a level of the load."""
        asked = []
        for number in self.left:
            if (made := self._rounds.get(number)) is None:
                continue
            at = min(level, len(made.space.levels) - 1)
            for point in made.space:
                wanted = Wanted(made.knobs(point), made.load(at, seed))
                size = self._block_sizes[number]
                asked.append((BootQuestion(number, point, at), wanted._replace(block_size=size)))
        return asked

    def take(self, forecasts: Mapping[BootQuestion, Forecast], running: Sequence[Forecast]) -> None:
        """Take newer forecasts in place of those before. running: of the first engine's settings;
        none where predictions have failed."""
        by_engine: dict[int, list[Forecast]] = {}
        for question, forecast in forecasts.items():
            by_engine.setdefault(question.engine, []).append(forecast)
        self._promised |= {number: promise(each) for number, each in by_engine.items()}
        self._running = promise(running) if running else None

    def next(self) -> int:
        """Take out the engine to boot next; one must be left."""
        running = self._running
        number = self.left[0]
        if running is not None:
            number = min(self.left, key=lambda each: self._rank(each, running))
        self.left.remove(number)
        return number

    def _rank(self, number: int, running: _Key) -> tuple[int, bool, float]:
        """A sort key; the engine that promises most has the smallest one."""
        mine = self._promised.get(number)
        if mine is None or (mine[0] == running[0] and abs(mine[1] - running[1]) <= _near(running)):
            return 1, False, 0.0
        return 0 if mine > running else 2, not mine[0], -mine[1]


def promise(forecasts: Sequence[Forecast]) -> _Key:
    """What the settings of an engine promise."""
    met = [forecast.value for forecast in forecasts if forecast.miss <= 0]
    return (True, max(met)) if met else (False, -min(forecast.miss for forecast in forecasts))


def facts_of(spec: EngineSpec, first: EngineSpec, facts: EngineFacts) -> EngineFacts | None:
    """The facts of an engine that is not booted, by those of the first one.

    None where an argument in which it differs does not tell what a step costs on it, or how large
    its KV cache is.
    """
    told: EngineFacts | None = facts
    for name in {**first.args, **spec.args}:
        before, value = first.args.get(name), spec.args.get(name)
        if value != before and told is not None:
            told = _with(told, name, before, value)
    return told


def differing_args(spec: EngineSpec, first: EngineSpec) -> str:
    """The arguments of an engine that differ from those of the first one."""
    return " ".join(f"{k}={v}" for k, v in spec.args.items() if first.args.get(k) != v)


# -- inside ------------------------------------------------------------------------------------


def _near(running: _Key) -> float:
    """How close another promise has to be to be the same."""
    return _SAME * abs(running[1]) if running[0] else _SAME


def _with(
    facts: EngineFacts, name: str, before: EngineValue, value: EngineValue
) -> EngineFacts | None:
    """The facts with another value of an engine argument; None where that cannot be told."""
    blocks = facts.booted.num_gpu_blocks
    if name == "kv_cache_dtype":
        return _with_blocks(facts, blocks * _kv_bytes(facts, before) / _kv_bytes(facts, value))
    if isinstance(value, bool) and name == "enable_prefix_caching":
        return _booted(facts, facts.booted.with_value(name, int(value)))
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        return None
    if name in _LIMITS:
        return _booted(facts, facts.booted.with_value(name, value))
    if name == "block_size":
        same = _with_blocks(facts, blocks * facts.block_size / value)
        return same and replace(same, block_size=value)
    if name == "num_gpu_blocks_override":
        return _with_blocks(facts, value)
    if name == "kv_cache_memory_bytes" and facts.kv_block_bytes:
        return _with_blocks(facts, value / facts.kv_block_bytes)
    return None


def _kv_bytes(facts: EngineFacts, dtype: EngineValue) -> float:
    """Bytes of a value in the KV cache; NaN where that is not known."""
    name = facts.dtype if dtype in (None, "auto") else str(dtype)
    return 1.0 if name.startswith("fp8") else float(_BYTES.get(name, math.nan))


def _with_blocks(facts: EngineFacts, blocks: float) -> EngineFacts | None:
    if not (math.isfinite(blocks) and blocks >= 2 and facts.booted.num_gpu_blocks):
        return None
    return _booted(facts, facts.booted.with_value("num_gpu_blocks", int(blocks)))


def _booted(facts: EngineFacts, booted: Knobs) -> EngineFacts:
    """The facts with other limits as booted; ceilings are at least what was booted."""
    ceilings = Knobs(
        **{
            name: value if value != facts.booted.get(name) else facts.ceilings.get(name)
            for name, value in booted.as_dict().items()
        }
    )
    return replace(facts, booted=booted, ceilings=ceilings)
