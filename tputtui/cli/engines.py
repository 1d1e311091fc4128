"""What hosts a run: a vLLM in this process, a simulated one, or a server that runs elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from tputtui.cli.settings import Value
    from tputtui.engine.protocol import Engine
    from tputtui.hardware import HardwareSampler
    from tputtui.predict.foresight import Foresight
    from tputtui.profile import EngineSpec, EngineValue

__all__ = ["Hosting", "foresight", "hosting"]


class Hosting(NamedTuple):
    """The parts that a session is made of.

    make_engine: makes an engine that is not booted, as `Host` calls it. make_host: makes the host
    that runs its loop.
    clock: seconds of the time that the run goes by. hardware: samples this machine; None for a
    simulation, whose hardware is not here.
    """

    make_engine: Callable[..., Engine]
    make_host: Any
    clock: Callable[[], float]
    hardware: HardwareSampler | None


def foresight(*, virtual: bool = False) -> Foresight:
    """Predicts in a process of its own, by steps kept on disk as well; in virtual time at once."""
    from tputtui.predict.foresight import Foresight, Inline
    from tputtui.predict.kept_steps import StepFiles
    from tputtui.predict.process import OtherProcess
    from tputtui.process.state import state_dir

    if virtual:
        return Foresight(Inline)
    return Foresight(OtherProcess, StepFiles(state_dir() / "steps"))


def hosting(
    spec: EngineSpec,
    settings: Mapping[str, Value],
    serve: Mapping[str, EngineValue] | None = None,
    *,
    virtual: bool = False,
) -> Hosting:
    """The parts that host `spec`. Raises UsageError for settings that exclude each other.

    serve: flags of vLLM's HTTP server, for a server of our own.
    virtual: run in virtual time, which only a simulation has.
    """
    from tputtui.engine.host import Host
    from tputtui.engine.isolated.host import IsolatedHost
    from tputtui.engine.target import control_token_of, is_server, target_of
    from tputtui.errors import UsageError
    from tputtui.hardware import HardwareSampler

    make_host = IsolatedHost if settings["isolate"].on else Host
    if simulated := settings["simulate"].text:
        if settings["served"].on:
            raise UsageError("A server is not simulated.", "Leave --served or --simulate out.")
        return _simulated(spec, simulated, make_host, virtual=virtual)
    if virtual:
        raise UsageError("--virtual is for simulations.", "Add --simulate h100, say.")
    if is_server(spec.model):
        if settings["served"].on:
            raise UsageError(f"{spec.model} is a server already.", "Leave --served out.")
        from tputtui.engine.served.engine import ServedEngine
        from tputtui.engine.served.live import LiveEngine

        served = partial(
            LiveEngine if spec.args.get("live") else ServedEngine,
            *target_of(spec),
            control_token_of(spec),
            keep=bool(spec.args.get("keep")),
        )
        # A server is a process of its own anyway.
        return Hosting(served, Host, time.monotonic, HardwareSampler())
    if settings["served"].on:
        from tputtui.engine.served.spawned import SpawnedEngine

        if settings["isolate"].on:
            raise UsageError("A server is a process of its own.", "Leave --isolate out.")
        return Hosting(partial(SpawnedEngine, serve), Host, time.monotonic, HardwareSampler())
    in_process = partial(_in_process, serve)
    return Hosting(in_process, make_host, time.monotonic, HardwareSampler())


def _in_process(serve: Mapping[str, EngineValue] | None, *, served: bool = False) -> Engine:
    """An engine of our own; vLLM's server where that is ordered, to see what it adds."""
    if served:
        from tputtui.engine.served.spawned import SpawnedEngine

        return SpawnedEngine(serve)
    from tputtui.engine.vllm.inproc import VllmEngine

    return VllmEngine()


def _simulated(spec: EngineSpec, text: str, make_host: Any, *, virtual: bool) -> Hosting:
    from tputtui.engine.isolated.host import IsolatedHost
    from tputtui.engine.target import is_server
    from tputtui.engine.virtual import VirtualHost
    from tputtui.engine.vllm.simulated import SimulatedEngine
    from tputtui.errors import UsageError
    from tputtui.simulate.clock import RealTime, VirtualTime
    from tputtui.simulate.simulation import simulation_of

    if is_server(spec.model):
        raise UsageError("A server is not simulated.", "Leave --simulate out.")
    if virtual and make_host is IsolatedHost:
        raise UsageError("--virtual runs in this process.", "Leave --isolate out.")
    simulation = simulation_of(text)
    simulation.check(spec.model, spec.args)
    if virtual:
        now = VirtualTime()
        return Hosting(partial(SimulatedEngine, simulation, now), VirtualHost, now, None)
    engine = partial(SimulatedEngine, simulation, RealTime())
    return Hosting(engine, make_host, time.monotonic, None)
