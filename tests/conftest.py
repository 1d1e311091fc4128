"""How the tests are spread over processes (`make test`; a plain `pytest` uses one)."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tputtui import redact

_PATIENCE_S = 120.0


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
    config.light = sum(not _heavy(item) for item in items)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """The first test that boots an engine waits for the last one, elsewhere, that does not."""
    if not hasattr(item.config, "workerinput"):
        return (yield)
    over = Path(tempfile.gettempdir()) / f"tputtui-{item.config.workerinput['testrunuid']}"
    if _heavy(item):
        end_s = time.monotonic() + (_PATIENCE_S if item.config.light else 0.0)
        while time.monotonic() < end_s and _size(over) < item.config.light:
            time.sleep(0.1)
        item.config.light = 0
        over.unlink(missing_ok=True)
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
