"""How the tests are spread over processes (`make test`; a plain `pytest` uses one)."""

from __future__ import annotations

import pytest

from tputtui import redact


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests of a file stay together; those that boot an engine are one process's, and come last.

    An engine's threads spin at barriers: beside other work a step takes several times as long.
    """
    if not hasattr(config, "workerinput"):
        return

    def heavy(item: pytest.Item) -> bool:
        return any(item.get_closest_marker(name) for name in ("engine", "pty"))

    items.sort(key=heavy)
    for item in items:
        item.add_marker(pytest.mark.xdist_group("heavy" if heavy(item) else str(item.path)))


@pytest.fixture(autouse=True)
def _nothing_concealed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token of one test is not cut out of what another one reads."""
    monkeypatch.setattr(redact, "_CONCEALED", set())
