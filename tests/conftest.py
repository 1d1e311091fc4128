"""How the tests are spread over processes (`make test`; a plain `pytest` uses one)."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests import settled
from tests.realserver import TEMPLATE, write_tokenizer
from tputtui import redact
from tputtui.engine.vllm.args import BRIEFLY
from tputtui.process import privacy

# Servers that tests start wait as the engines of tputtui do: beside other tests.
for _name, _value in BRIEFLY.items():
    os.environ.setdefault(_name, _value)

# numpy's threads spin while they wait for each other: beside other tests that takes most of what a
# regression takes. Read when numpy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# A shell that has started the tests in the background ignores these, and so would each program
# that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)

settled.install()

# How long an example takes is the machine's affair.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

_COLLECTED_EVERY_S = 20.0
"""Seconds of processor time: what tests leave in that time is some hundred megabytes at most."""
_COLLECT_AT_S = pytest.StashKey[float]()

_LONG_FIRST = (
    "tests/faults/test_boot.py",
    "tests/engine/test_simulated.py",
    "tests/test_terminal.py",
    "tests/engine/test_scheduler.py",
    "tests/engine/test_limits.py",
    "tests/engine/test_reboot.py",
    "tests/faults/test_terminals.py",
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests of a file stay together; what boots an engine comes last, what takes long of it first.

    An engine keeps memory, and holds back the collection of garbage, in the process it was in.
    """
    if not hasattr(config, "workerinput"):
        return
    order = {name: place for place, name in enumerate(_LONG_FIRST)}
    items.sort(key=lambda item: (_heavy(item), order.get(item.location[0], len(order))))
    for item in items:
        part = "heavy" if _heavy(item) else "light"
        item.add_marker(pytest.mark.xdist_group(f"{part} {item.path}"))


def pytest_collection_finish() -> None:
    """Let tests collect no old garbage: a fifth of the processor time went into that.

    What is loaded by now stays. `pytest_runtest_teardown` collects now and then instead.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(5_000, 10, 1_000_000)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    used_s = time.process_time()
    if used_s >= item.config.stash.setdefault(_COLLECT_AT_S, 0.0):
        gc.collect()
        item.config.stash[_COLLECT_AT_S] = used_s + _COLLECTED_EVERY_S


def _heavy(item: pytest.Item) -> bool:
    return any(item.get_closest_marker(name) for name in ("engine", "pty"))


@pytest.fixture(autouse=True)
def _nothing_concealed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token of one test is not cut out of what another one reads."""
    monkeypatch.setattr(redact, "_CONCEALED", set())


@pytest.fixture(autouse=True)
def _nothing_private(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real prompts of one test do not withhold the messages of another one."""
    monkeypatch.setattr(privacy._State, "private", False)
    for owner in (sys, threading):
        monkeypatch.setattr(owner, "excepthook", owner.excepthook)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)


@pytest.fixture(autouse=True)
def _logs_where_they_went() -> Iterator[None]:
    """What one test's run sends to its own log file is not withheld from another one."""
    loggers = [logging.getLogger(), logging.getLogger("vllm")]
    before = [(each.level, each.propagate, set(each.handlers)) for each in loggers]
    yield
    for each, (level, propagate, handlers) in zip(loggers, before, strict=True):
        each.setLevel(level)
        each.propagate = propagate
        for handler in set(each.handlers) - handlers:
            each.removeHandler(handler)
            handler.close()


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a tokenizer of bytes and a chat template."""
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder, TEMPLATE)
    return str(folder)
