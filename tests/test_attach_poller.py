"""Scraping over real sockets: servers that die, hang, lie, restart, and serve 10 MB."""

from __future__ import annotations

import asyncio
import json
import math
import shutil
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests import PATIENCE_S
from tests.served import FakeServer, Servers, exposition
from tputtui.attach.access import Access, access_of
from tputtui.attach.address import Address
from tputtui.attach.fleet import Fleet, Looked
from tputtui.attach.poller import Poller
from tputtui.attach.track import Standing
from tputtui.cli import main

_PERIOD_S = 0.2
OTHERS = b"".join(b'go_thing{number="%d"} 1\n' % i for i in range(400_000))


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tputtui.attach.poller._DEADLINE_S", 0.5)


def watch(
    addresses: Sequence[Address],
    until: Callable[[Looked], object],
    access: Access | None = None,
    most_s: float = PATIENCE_S,
) -> Looked:
    """Look at a fleet until `until` holds of what is seen."""
    poller = Poller(addresses, access or Access(), _PERIOD_S)
    fleet = Fleet(addresses, poller, _PERIOD_S)
    poller.start()
    try:
        end_s = time.monotonic() + most_s
        while not until(looked := fleet.look()):
            assert time.monotonic() < end_s, [(s.standing, s.why) for s in looked.servers]
            time.sleep(0.02)
        return looked
    finally:
        assert poller.stop(PATIENCE_S)


def _misbehaved() -> dict[str, FakeServer]:
    turns = iter(range(10**6))
    return {
        "live": FakeServer(),
        "fast": FakeServer(per_s=50_000),
        "two engines": FakeServer(metrics=lambda own: exposition(own.generated, engines=2)),
        "anonymous": FakeServer(metrics=lambda own: exposition(own.generated, started=None)),
        "dies": FakeServer(),
        "hangs": FakeServer(hang=True),
        "drips": FakeServer(drip=True),
        "restarts": FakeServer(),
        "10 MB": FakeServer(metrics=lambda own: OTHERS + exposition(own.generated)),
        "endless": FakeServer(metrics=lambda own: OTHERS * 4),
        "lies": FakeServer(metrics=lambda own: exposition(own.generated, kv=40.0)),
        "a page": FakeServer(metrics=lambda own: b"<html>log in</html>"),
        "wants a token": FakeServer(token="t"),
        "elsewhere": FakeServer(status=307, headers={"Location": "http://other/metrics"}),
        "broken": FakeServer(status=500),
        "two at one": FakeServer(
            metrics=lambda own: exposition(own.generated, started=1000.0 + 500 * (next(turns) % 2))
        ),
    }  # fmt: skip


STANDING = {
    "live": "live", "fast": "live", "two engines": "live", "anonymous": "live",
    "dies": "stale", "hangs": "down", "drips": "down", "restarts": "live", "10 MB": "live",
    "endless": "down", "lies": "live", "a page": "down", "wants a token": "down",
    "elsewhere": "down", "broken": "down", "two at one": "mixed",
}  # fmt: skip


def test_sixteen_servers_each_as_it_is() -> None:
    servers = _misbehaved()
    names = list(servers)
    with Servers(*servers.values()) as serving:
        addresses = [
            Address(name, each.url) for name, each in zip(names, serving.addresses, strict=True)
        ]
        done = {"killed": False}

        def until(looked: Looked) -> object:
            found = dict(zip(names, looked.servers, strict=True))
            seen = (found["dies"], found["restarts"])
            if not done["killed"] and all(each.now.generated_per_s > 0 for each in seen):
                done["killed"] = True
                serving.kill(names.index("dies"))
                servers["restarts"].restart()
            return (
                found["dies"].standing is Standing.STALE
                and found["restarts"].restarts
                and found["restarts"].now.generated_per_s > 0
                and found["two at one"].standing is Standing.MIXED
                and all(found[name].why for name in ("hangs", "drips", "endless"))
                and not math.isnan(found["10 MB"].now.generated_per_s)
                # A machine that is busy answers late at times: all of them as they are, at once.
                and {name: each.standing.value for name, each in found.items()} == STANDING
                and "tells what cannot be" in found["lies"].why
            )

        looked = watch(addresses, until)
    found = dict(zip(names, looked.servers, strict=True))
    # The clocks of two threads on a busy machine, but the right rate.
    assert found["fast"].window.generated_per_s == pytest.approx(50_000, rel=0.25)
    assert found["two engines"].window.generated_per_s == pytest.approx(2_000, rel=0.25)
    assert 0 <= found["restarts"].now.generated_per_s < 2_000
    assert math.isnan(found["lies"].now.kv_frac)
    why = {name: server.why for name, server in found.items()}
    assert "no answer within" in why["hangs"]
    assert "no answer within" in why["drips"]
    assert "web page" in why["a page"]
    assert "token" in why["wants a token"]
    assert "http://other" in why["elsewhere"]
    assert "500" in why["broken"]
    # It is asked again, and is never left alone for good.
    assert servers["broken"].scraped >= 2


def test_it_ends_where_a_time_limit_takes_the_end_for_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, ends = threading.Event(), []

    async def get(*_: object) -> None:
        asked.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            ends.append(1)
            if len(ends) == 1:
                # As aiohttp does, when its limit is reached in the moment of the cancellation.
                raise TimeoutError from None
            raise

    monkeypatch.setattr(Poller, "_get", get)
    poller = Poller([Address("a", "http://127.0.0.1:1")], Access(), 0.01)
    poller.start()
    assert asked.wait(PATIENCE_S)
    assert poller.stop(PATIENCE_S)
    assert len(ends) == 2


def test_an_answer_without_end_is_not_read_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tputtui.attach.poller._MOST_BYTES", 2 << 20)
    with Servers(FakeServer(metrics=lambda own: OTHERS)) as servers:
        looked = watch(servers.addresses, lambda looked: looked.servers[0].why)
    assert "more than 2 MiB" in looked.servers[0].why


def test_token_and_headers_reach_the_server_and_a_redirect_gets_nothing(tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("s3cret-token")
    other = FakeServer()
    fake = FakeServer(token="s3cret-token", routes={
        "/version": b'{"version": "0.33.0"}',
        "/v1/models": b'{"data": [{"id": "q", "max_model_len": 8192}]}',
    })  # fmt: skip
    access = access_of(["X-Tenant: a"], token_file=str(secret), environ={})
    with Servers(fake, other) as servers:
        sends = FakeServer(status=302, headers={"Location": f"{servers.addresses[1].url}/metrics"})
        with Servers(sends) as more:
            addresses = [servers.addresses[0], more.addresses[0]]
            addresses[1] = Address("sends", addresses[1].url)
            looked = watch(
                addresses,
                lambda looked: looked.servers[0].about.version and looked.servers[1].why,
                access,
            )
    assert looked.servers[0].model == "q"
    assert looked.servers[0].about.limits == {"max_model_len": 8192}
    assert fake.seen[0]["X-Tenant"] == "a"
    assert other.scraped == 0


def test_a_unix_socket_is_scraped(tmp_path: Path) -> None:
    with Servers(FakeServer(), socket=str(tmp_path / "s")) as servers:
        looked = watch(
            servers.addresses, lambda looked: looked.servers[0].standing is Standing.LIVE
        )
    assert looked.servers[0].reading.model == "m"


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that nobody knows, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes a certificate, is not installed")
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "2", "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, key


def test_a_server_has_to_show_who_it_is(certificate: tuple[Path, Path]) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*certificate)
    with Servers(FakeServer(), tls=tls) as servers:
        (address,) = servers.addresses
        assert address.private
        looked = watch(servers.addresses, lambda looked: looked.servers[0].why)
        assert "certificate is not trusted: --ca" in looked.servers[0].why
        watch(
            servers.addresses,
            lambda looked: looked.servers[0].standing is Standing.LIVE,
            access_of(ca=str(certificate[0]), environ={}),
        )
        plain = Address("plain", address.url.replace("https", "http"))
        assert watch((plain,), lambda looked: looked.servers[0].why)


def test_nothing_of_an_engine_is_imported() -> None:
    with Servers(FakeServer()) as servers:
        script = (
            "import sys; from tputtui.cli import main\n"
            f"words = [{servers.addresses[0].url!r}, '--for', '1s', '--every', '0.3s']\n"
            "code = main(['attach', *words])\n"
            "bad = {'torch', 'vllm', 'textual', 'transformers'} & set(sys.modules)\n"
            "sys.exit(f'{bad} {code}' if bad or code else 0)"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert " live " in done.stdout


def test_figures_without_a_screen(capsys: pytest.CaptureFixture[str]) -> None:
    with Servers(FakeServer(), FakeServer(status=503)) as servers:
        urls = [f"a={servers.addresses[0].url}", f"b={servers.addresses[1].url}"]
        code = main(["attach", *urls, "--every", "0.25s", "--for", "1.5s", "--format", "json"])
    told = json.loads(capsys.readouterr().out)
    assert code == 1
    good, bad = told["servers"]
    assert good["state"] == "live"
    assert good["figures"]["generated_per_s"] == pytest.approx(1000, rel=0.3)
    assert (bad["state"], bad["figures"]["generated_per_s"]) == ("down", None)
    assert "503" in bad["why"]


@pytest.mark.parametrize(
    "words",
    [[], ["h:1", "h:1"], ["h:1", "--every", "0"], ["h:1", "--for", "1s", "--every", "1s"],
     ["h:1", "--token-file", "/nowhere"], ["h:1", "--every", "soon"]],
)  # fmt: skip
def test_what_cannot_be_watched_is_refused(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code: object
    try:
        code = main(["attach", *words])
    except SystemExit as left:
        code = left.code
    assert code == 2
    assert capsys.readouterr().err
