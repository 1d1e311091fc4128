"""How the tests are spread over processes (`make test`; a plain `pytest` uses one)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tputtui import redact

_PATIENCE_S = 120.0
_LIGHT = pytest.StashKey[int]()
"""How many tests boot no engine, in all processes; 0 once they have been waited for."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests of a file stay together; those that boot an engine are one process's, and come last.

    An engine's threads spin at barriers: beside other work a step takes several times as long.
    """
    if not hasattr(config, "workerinput"):
        return
    items.sort(key=_heavy)
    for item in items:
        item.add_marker(pytest.mark.xdist_group("heavy" if _heavy(item) else str(item.path)))
    config.stash[_LIGHT] = sum(not _heavy(item) for item in items)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """The first test that boots an engine waits for the last one, elsewhere, that does not."""
    if not hasattr(item.config, "workerinput"):
        return (yield)
    # In the folder that all processes of a run share; a byte for each that is over.
    over = item.config._tmp_path_factory.getbasetemp().parent / "light-tests"
    if _heavy(item):
        end_s = time.monotonic() + _PATIENCE_S
        while _size(over) < item.config.stash[_LIGHT] and time.monotonic() < end_s:
            time.sleep(0.1)
        item.config.stash[_LIGHT] = 0
        return (yield)
    try:
        return (yield)
    finally:
        with over.open("a") as file:
            file.write(".")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _heavy(item: pytest.Item) -> bool:
    return any(item.get_closest_marker(name) for name in ("engine", "pty"))


@pytest.fixture(autouse=True)
def _nothing_concealed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token of one test is not cut out of what another one reads."""
    monkeypatch.setattr(redact, "_CONCEALED", set())
