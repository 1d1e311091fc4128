"""Speculative decoding as a limit: how many tokens vLLM drafts for a sequence. Engine thread only.

vLLM's scheduler reads a table of draft tokens by size of batch at every step, if it was booted with
a schedule (`num_speculative_tokens_per_batch_size`). A boot here brings one that has every number
of draft tokens up to the configured one, so that CUDA graphs are captured for each of them; what
is in force is written into the scheduler's table.
"""

from __future__ import annotations

from typing import Any

from tputtui.engine.schedule import SCHEDULE, constant, ladder

__all__ = ["Drafting", "add_schedule", "add_schedule_to_serve"]

_VARYING = frozenset({"ngram", "eagle", "eagle3", "mtp", "draft_model", "dflash", "dspark"})
"""Methods whose drafting takes any number up to the configured one, in both of vLLM's model
runners (0.32). The first runner asserts the configured number for ngram_gpu, medusa, suffix and
extract_hidden_states, and tells a custom class none."""

NOT_CONFIGURED = "the engine was booted without --speculative-config"
_PARALLEL = "with data parallelism vLLM drafts a constant number, for its engines to keep step"
_OLDER = "this vLLM drafts a constant number"
_NO_SCHEDULE = f"it was started without {SCHEDULE} in --speculative-config"


def add_schedule(arguments: Any, config: Any) -> bool:
    """Give vLLM's EngineArgs a schedule if speculation could be turned by one; whether it did.

    config: what the arguments have become. A schedule of a person's own stays.
    """
    speculative = config.speculative_config
    if speculative is None or _why_constant(config) or not hasattr(speculative, SCHEDULE):
        return False
    if getattr(speculative, SCHEDULE):
        return False
    batch = int(config.scheduler_config.max_num_seqs)
    given = dict(arguments.speculative_config)
    # vLLM has put its own objects into it while it made the configuration.
    for name in ("target_model_config", "target_parallel_config"):
        given.pop(name, None)
    given[SCHEDULE] = ladder(int(speculative.num_speculative_tokens), batch)
    arguments.speculative_config = given
    # They stand in it by now, and vLLM refuses to be told twice.
    for name in ("spec_method", "spec_model", "spec_tokens"):
        if hasattr(arguments, name):
            setattr(arguments, name, None)
    return True


def add_schedule_to_serve(arguments: Any) -> None:
    """The same for the arguments of `vllm serve` as its parser has made them.

    Only where they name a method that takes any number, and how many tokens it drafts. Without
    `max_num_seqs` the schedule has the configured number alone: the others then run without full
    CUDA graphs.
    """
    from vllm.config.speculative import SpeculativeConfig

    given, batch = arguments.speculative_config or {}, arguments.max_num_seqs
    most = given.get("num_speculative_tokens")
    if given.get("method") not in _VARYING or not isinstance(most, int) or SCHEDULE in given:
        return
    if (arguments.data_parallel_size or 1) > 1:
        return
    if SCHEDULE in SpeculativeConfig.__dataclass_fields__:
        schedule = ladder(most, batch) if batch else constant(most)
        arguments.speculative_config = {**given, SCHEDULE: schedule}


class Drafting:
    """The limit of draft tokens of one booted scheduler.

    booted: the most that it drafted right after its boot, which is also the ceiling; 0 without
    speculation. fixed: why it cannot be changed; empty where it can.
    """

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler
        config = scheduler.vllm_config
        speculative = config.speculative_config
        self._table: list[int] | None = getattr(scheduler, "dynamic_sd_lookup", None)
        if speculative is None:
            self.booted, self.fixed = 0, NOT_CONFIGURED
            return
        most = int(speculative.num_speculative_tokens)
        self.fixed = _why_constant(config)
        if not self.fixed and self._table is None:
            has_schedules = hasattr(scheduler, "dynamic_sd_lookup")
            self.fixed = _NO_SCHEDULE if has_schedules else _OLDER
        if self._table is not None:
            ours = ladder(most, len(self._table) - 1)
            if self._table[1:] == [n for low, high, n in ours for _ in range(low, high + 1)]:
                # There for the sake of its numbers: a person has asked for the highest.
                self._table = [most] * len(self._table)
        self.booted = most if self._table is None else max(self._table[1:])
        if not self.fixed:
            self.apply(self.booted)

    def apply(self, most: int) -> None:
        """Let the next step draft at most so many tokens for a sequence."""
        if not self.fixed and self._table is not None:
            self._scheduler.dynamic_sd_lookup = [min(n, most) for n in self._table]


def _why_constant(config: Any) -> str:
    """Why vLLM always drafts the configured number; empty where it need not."""
    method = config.speculative_config.method
    if config.parallel_config.data_parallel_size > 1:
        return _PARALLEL
    if method not in _VARYING:
        return f"vLLM drafts a constant number with the method {method}"
    return ""
