"""First on PYTHONPATH of a program under test: what FAULT names goes wrong there, for real.

step:N           the scheduler raises in its Nth call
allocation:N     the Nth call of the scheduler asks for a petabyte
boot-waits       the boot waits for ever inside torch, for a rank that never comes
no-vllm          vLLM is not installed
old-vllm, broken-vllm, dying-vllm    what stands in its place
nvml-fails, nvml-hangs               what stands in pynvml's place
screen-hangs     the loop of the screen sleeps for ever once help is asked for

PACED=1 besides: the deterministic engine in real time in vLLM's place, for what is not about vLLM
(a boot of vLLM takes ten seconds). No stage of its boot, and no step, takes more than
PACED_LONGEST_S (0.1).
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import os
import sys
import time
import types
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from typing import Any

FAULT, _, COUNT = os.environ.get("FAULT", "").partition(":")
SCHEDULER = "vllm.v1.core.sched.scheduler"
HELP = "tputtui.ui.screens.help"


def at_call(
    function: Callable[..., Any], number: int, act: Callable[[], None]
) -> Callable[..., Any]:
    calls = [0]

    def wrapper(*args: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] == number:
            act()
        return function(*args, **options)

    return wrapper


def raise_error() -> None:
    raise RuntimeError("told to fail by a test")


def ask_for_a_petabyte() -> None:
    import torch

    torch.empty(1 << 50, dtype=torch.uint8)


def wait_for_a_rank(*_: object, **__: object) -> None:
    import datetime

    from torch.distributed import TCPStore

    TCPStore("127.0.0.1", 0, 2, is_master=True, timeout=datetime.timedelta(days=1))


class Finder:
    """Asked before every other finder."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> Any:
        if name == SCHEDULER and FAULT in ("step", "allocation", "boot-waits"):
            spec = importlib.machinery.PathFinder.find_spec(name, path)
            run = spec.loader.exec_module

            def exec_module(module: types.ModuleType) -> None:
                run(module)
                if FAULT == "boot-waits":
                    module.Scheduler.__init__ = wait_for_a_rank
                    return
                act = raise_error if FAULT == "step" else ask_for_a_petabyte
                module.Scheduler.schedule = at_call(module.Scheduler.schedule, int(COUNT), act)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
            return spec
        if name == HELP and FAULT == "screen-hangs":
            spec = importlib.machinery.PathFinder.find_spec(name, path)
            load = spec.loader.exec_module

            def hang(module: Any) -> None:
                load(module)
                module.HelpScreen.__init__ = lambda *_: time.sleep(10**6)

            spec.loader.exec_module = hang  # type: ignore[method-assign]
            return spec
        if name in BODIES.get(FAULT, {}):
            return importlib.machinery.ModuleSpec(name, Loader())
        return None


class Loader(importlib.abc.Loader):
    """Makes the module that stands in another's place."""

    def create_module(self, spec: ModuleSpec) -> types.ModuleType:
        return types.ModuleType(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        BODIES[FAULT][module.__name__](module)


def old(module: Any) -> None:
    module.__version__ = "0.9.2"


def broken(module: Any) -> None:
    raise ImportError("libcudart.so.99: cannot open shared object file: No such file or directory")


def dying(module: Any) -> None:
    sys.exit("this build of vLLM does not run here")


def nvml_that(act: Callable[[type[Exception]], Callable[..., None]]) -> Callable[[Any], None]:
    def build(module: Any) -> None:
        class NVMLError(Exception):
            pass

        module.NVMLError = NVMLError
        module.nvmlInit = act(NVMLError)
        module.nvmlInitWithFlags = act(NVMLError)

    return build


def failing(error: type[Exception]) -> Callable[..., None]:
    def init(*_: object) -> None:
        raise error("Unknown Error")

    return init


def hanging(error: type[Exception]) -> Callable[..., None]:
    return lambda *_: time.sleep(10**6)


BODIES: dict[str, dict[str, Callable[[Any], None]]] = {
    "old-vllm": {"vllm": old},
    "broken-vllm": {"vllm": broken},
    "dying-vllm": {"vllm": dying},
    "nvml-fails": {"pynvml": nvml_that(failing)},
    "nvml-hangs": {"pynvml": nvml_that(hanging)},
}


def paced(module: Any) -> None:
    from tputtui.engine.fake import FakeEngine
    from tputtui.simulate.clock import VirtualTime

    longest_s = float(os.environ.get("PACED_LONGEST_S", "0.1"))

    class Paced(VirtualTime):
        def __call__(self) -> float:
            return time.monotonic()

        def advance(self, seconds: float) -> None:
            time.sleep(min(seconds, longest_s))

    module.VllmEngine = lambda: FakeEngine(Paced())


class PacedFinder:
    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> Any:
        if name != "tputtui.engine.vllm.inproc":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        run = spec.loader.exec_module

        def exec_module(module: types.ModuleType) -> None:
            run(module)
            paced(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


if os.environ.get("PACED"):
    sys.meta_path.insert(0, PacedFinder)
if FAULT == "no-vllm":
    find = importlib.machinery.PathFinder.find_spec
    importlib.machinery.PathFinder.find_spec = lambda name, path=None, target=None: (  # type: ignore[assignment, method-assign]
        None if name == "vllm" else find(name, path, target)
    )
elif FAULT:
    sys.meta_path.insert(0, Finder)
