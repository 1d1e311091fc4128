"""vLLM's own engine core, scheduler and KV cache on simulated devices. Engine thread.

Only the forward pass is replaced: the cost model decides when a step's result is ready. Queueing,
batching, preemption, prefix caching and every limit are vLLM's.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tputtui.engine import models
from tputtui.engine.config_file import expanded
from tputtui.engine.protocol import EngineFacts, Report
from tputtui.engine.resolved import CAPTURE_SIZES, GRAPH_MODE
from tputtui.engine.vllm.args import given
from tputtui.engine.vllm.clock import OtherClock
from tputtui.engine.vllm.defaults import derive_as_on, restore
from tputtui.engine.vllm.executor import executor_class
from tputtui.engine.vllm.inproc import VllmEngine
from tputtui.engine.vllm.model import check_supported, check_text_only, kv_cache_specs, sizes_of
from tputtui.engine.vllm.work import work_of
from tputtui.errors import EngineError, UsageError
from tputtui.load.request import RequestSpec
from tputtui.profile import EngineSpec, EngineValue
from tputtui.profile.spelling import flag_of
from tputtui.simulate.clock import Pacer, VirtualTime
from tputtui.simulate.cost import Cost
from tputtui.simulate.memory import kv_bytes_available
from tputtui.simulate.simulation import Simulation
from tputtui.simulate.sizes import Sizes
from tputtui.simulate.work import Work

__all__ = ["SimulatedEngine", "check_possible"]

_CANNOT = {
    "speculative_config": "speculative decoding",
    "spec_method": "speculative decoding",
    "spec_model": "speculative decoding",
    "spec_tokens": "speculative decoding",
    "enable_lora": "LoRA",
    "kv_transfer_config": "KV transfer between engines",
    "ec_transfer_config": "transfer of encoder outputs between engines",
    "kv_offloading_size": "KV offloading",
    "offload_backend": "offloading weights",
    "offload_group_size": "offloading weights",
    "enable_dbo": "dual batch overlap",
    "cpu_offload_gb": "offloading weights",
    "prefill_context_parallel_size": "context parallelism",
    "decode_context_parallel_size": "context parallelism",
}
"""Arguments whose effect on the cost of a step no cost model here includes."""
_NO_DEVICE = ("attention_backend", "compilation_config.mode", GRAPH_MODE, CAPTURE_SIZES)


class SimulatedEngine(VllmEngine):
    """An engine whose device is simulated.

    pacer: real time, or virtual time, which is then also the clock of vLLM and of the host.
    """

    def __init__(self, simulation: Simulation, pacer: Pacer) -> None:
        self._virtual = isinstance(pacer, VirtualTime)
        if self._virtual:
            super().__init__(clock=pacer, wall=pacer)
        else:
            super().__init__(clock=pacer)
        self._simulation, self._pacer = simulation, pacer
        self._other_clock = OtherClock(pacer)
        self._devices = _Devices(simulation, pacer)
        self._overlapped = True

    def submit(self, request: RequestSpec) -> None:
        """Queue one request; in virtual time this advances the clock by its real duration."""
        if self._virtual:
            self._pacer.wait_until(self._pacer() + self._devices.cost.submit_s())
        super().submit(request)

    def shutdown(self) -> None:
        """Free the engine and restore vLLM's clock."""
        super().shutdown()
        self._other_clock.take_off()

    # -- a boot ----------------------------------------------------------------------------

    def _resolved(self, spec: EngineSpec) -> EngineSpec:
        check_possible(spec.args)
        under: dict[str, EngineValue] = {
            # The simulation uses neither weights nor a tokenizer.
            "load_format": "dummy",
            "skip_tokenizer_init": True,
            **self._simulation.defaults,
        }
        return super()._resolved(EngineSpec(spec.model, {**under, **spec.args}))

    def _parsed(self, spec: EngineSpec, arguments: Any) -> None:
        super()._parsed(spec, arguments)
        asked = models.resolve(spec).args
        for name in self._simulation.defaults:
            if name not in asked:
                # What the device's vLLM would take: nobody asked for it.
                self._asked.pop(name, None)
        args = given(arguments)
        check_possible(args)
        # Only arguments of a person are checked: a shape has arguments of its own.
        typed = expanded(spec.args)
        self._simulation.check(spec.model, {name: args[name] for name in args if name in typed})
        if self._simulation.device is not None:
            derive_as_on(self._simulation.device, arguments)

    def _build(self, spec: EngineSpec, resolved: EngineSpec, report: Report) -> Any:
        self._executor_class = executor_class(self._devices)
        self._overlapped = bool(resolved.args.get("async_scheduling", self._simulation.overlapped))
        try:
            config = super()._build(spec, resolved, report)
        except UsageError:
            check_text_only(resolved.model)
            raise
        if self._virtual:
            # Not earlier: only now are all modules of vLLM's engine imported.
            self._other_clock.put_on()
        return config

    def _configured(self, config: Any, arguments: Any) -> None:
        check_supported(config.model_config)
        restore(config, arguments)
        stages = config.parallel_config.pipeline_parallel_size
        # vLLM's platform for CPUs has switched this off.
        config.scheduler_config.async_scheduling = self._overlapped and stages == 1
        self._devices.adopt(sizes_of(config))

    def _got(self, config: Any) -> dict[str, str]:
        # Kernels and graphs are those of vLLM's platform here, not of the simulated device.
        return {name: text for name, text in super()._got(config).items() if name not in _NO_DEVICE}

    def _facts(self, spec: EngineSpec, config: Any, version: str) -> EngineFacts:
        facts = super()._facts(spec, config, version)
        self._simulation.check_configuration(facts.config_sha256)
        count = config.parallel_config.world_size
        title = f"simulated {self._simulation.title}"
        return replace(
            facts,
            device=f"{count} × {title}" if count > 1 else title,
            simulated=self._simulation.badge(version),
        )

    def _scheduled(self, output: Any) -> None:
        work = work_of(output)
        self._devices.due = work
        if self._virtual:
            self._pacer.wait_until(self._pacer() + self._devices.cost.host_s(work))


def check_possible(args: Mapping[str, Any]) -> None:
    """Raise UsageError for an argument whose effect on the cost of a step is unknown."""
    for name, what in _CANNOT.items():
        value = args.get(name)
        # A parallel size of 1 changes nothing.
        if value and value != "auto" and not (name.endswith("_parallel_size") and value == 1):
            raise UsageError(
                f"{flag_of(name)}: {what} cannot be simulated.",
                "Leave it out, or run without --simulate.",
            )


class _Devices:
    """The simulated devices; a `Stand` for the executor.

    due: the work of the step scheduled last.
    """

    def __init__(self, simulation: Simulation, pacer: Pacer) -> None:
        self.due = Work()
        self._simulation, self._pacer = simulation, pacer
        self._sizes: Sizes | None = None
        self._cost: Cost | None = None
        self._free_s: list[float] = [0.0]
        self._chance = random.Random(0)

    @property
    def cost(self) -> Cost:
        assert self._cost is not None
        return self._cost

    def adopt(self, sizes: Sizes) -> None:
        """Take the sizes of the model that is to run, and start with idle devices."""
        self._sizes = sizes
        self._cost = self._simulation.cost(sizes)
        self._free_s = [0.0] * sizes.stages
        self._chance = random.Random(0)

    def kv_cache_specs(self, config: Any) -> dict[str, Any]:
        return kv_cache_specs(config)

    def kv_cache_bytes(self, config: Any) -> int:
        cache, scheduler = config.cache_config, config.scheduler_config
        given, device = int(cache.kv_cache_memory_bytes or 0), self._simulation.device
        if device is None or self._sizes is None:
            if given:
                return given
            raise UsageError("How large the KV cache was is not in the calibration.")
        # A given size may exceed the usable share of the memory, but must fit into the memory.
        left = kv_bytes_available(
            device,
            self._sizes,
            1.0 if given else cache.gpu_memory_utilization,
            scheduler.max_num_seqs,
            scheduler.max_num_batched_tokens,
        )
        if given > left:
            raise EngineError(
                f"A KV cache of {given / 2**30:.1f} GiB does not fit: weights and a step leave "
                f"{left / 2**30:.1f} GiB of {device.title}.",
                "Give --kv-cache-memory-bytes less, or leave it out.",
            )
        return given or left

    def begin(self, scheduled: Any) -> float:
        at_s = self._pacer()
        if not scheduled.total_num_scheduled_tokens:
            return at_s
        took_s = self.cost.device_s(self.due) * self._chance.choice(self.cost.spread)
        took_s /= len(self._free_s)
        # The step passes the pipeline stages in order; each stage computes one batch at a time.
        for stage, free_s in enumerate(self._free_s):
            at_s = max(at_s, free_s) + took_s
            self._free_s[stage] = at_s
        return at_s

    def there(self, at_s: float) -> bool:
        return self._pacer() >= at_s

    def wait(self, at_s: float) -> None:
        self._pacer.wait_until(at_s)
