"""Our plugin at the engine's own socket: for a vLLM without endpoint plugins (before 0.26)."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.real.test_plugin_server import Driven, asked, served
from tests.realserver import Server
from tputtui.attach.here import serving_here, socket_behind
from tputtui.engine.orders import RunLoad
from tputtui.engine.served.live import LiveEngine
from tputtui.measure.samples import STEP

pytestmark = [pytest.mark.engine, pytest.mark.long, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with served(tmp_path_factory.mktemp("socket"), 1, TPUTTUI_SOCKET="1") as server:
        yield server


def port_of(server: Server) -> int:
    return int(server.url.rpartition(":")[2])


def test_nothing_is_reached_over_the_network(server: Server) -> None:
    assert asked(server, "GET")[0] == 404


def test_it_is_for_its_own_people_alone(server: Server) -> None:
    path = Path(socket_behind(port_of(server)))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    if os.getuid():
        return
    connect = (
        "import os, socket, sys; os.setuid(65534);"
        "socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    )
    tried = subprocess.run([sys.executable, "-c", connect, path], capture_output=True, text=True)
    assert "PermissionError" in tried.stderr


def test_limits_are_changed_under_load_between_two_steps(server: Server) -> None:
    driven = Driven(server)
    steer, recorder = driven.session.steer, driven.session.recorder
    try:
        fixed = driven.facts.fixed
        assert fixed.keys() - {"prefill_schedule_interval", "num_speculative_tokens"} == {
            "max_model_len",
            "max_num_queued_reqs",
            "max_num_queued_tokens",
        }
        assert "API server refuses requests" in fixed["max_num_queued_reqs"]
        driven.host.order(RunLoad())
        driven.turn_until(lambda: recorder.accounting.finished >= 24)
        steer.limits.set("max_num_seqs", 2)
        driven.turn_until(lambda: driven.session.advance().window.settled)
        since = recorder.steps.count
        driven.turn_until(lambda: recorder.steps.count > since + 20)
        rows = recorder.steps.since(since, recorder.steps.count)
        assert max(rows[:, STEP["running"]]) <= 2
        assert set(rows[:, STEP["max_num_seqs"]]) == {2}
        assert len(recorder.engines) == 1
        driven.drain()
        assert recorder.accounting.balanced
        assert recorder.accounting.finished == recorder.accounting.issued
        assert recorder.generated_tokens == 20 * recorder.accounting.finished
    finally:
        driven.close()
    again = Driven(server, token="")
    try:
        assert again.session.host.status.knobs.max_num_seqs == 32
    finally:
        again.close()


def test_it_is_listed_and_live_traffic_is_refused_with_the_reason(server: Server) -> None:
    (found,) = (each for each in serving_here() if each.port == port_of(server))
    assert found.limits == "can be changed"
    with pytest.raises(AssertionError, match="not the times of requests"):
        Driven(server, kind=LiveEngine)


def test_whoever_is_not_of_this_user_is_hung_up_on() -> None:
    from tputtui.plugin.local import _own_people

    class Transport:
        aborted = False

        def __init__(self, uid: int) -> None:
            self.uid = uid

        def get_extra_info(self, name: str) -> Transport:
            return self

        def getsockopt(self, *about: int) -> bytes:
            assert about == (socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            return b"".join(n.to_bytes(4, "little") for n in (1, self.uid, 1))

        def abort(self) -> None:
            self.aborted = True

    stranger = Transport(os.getuid() + 4711)
    kind: Any = _own_people()
    kind.connection_made(object.__new__(kind), stranger)
    assert stranger.aborted
