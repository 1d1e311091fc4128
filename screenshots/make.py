"""Draws the pictures of the README from real runs of the demo.

    make screenshots
    python screenshots/make.py frontier-120x40        one of them
    python screenshots/make.py gpu-120x40             on a GPU that holds 8 billion parameters

Boots the real engine once for each picture (one to four minutes each) and writes SVG; PNG too
where Chromium is installed. Nothing is drawn by hand: what is on the picture is what was measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent
PICTURES = ("demo-120x40", "demo-200x50", "load-120x40", "frontier-120x40", "tuner-120x40",
            "replay-120x40", "attach-120x40", "simulate-120x40")  # fmt: skip
SERVE_S, TURNED_S, WATCHED_S = 40.0, 30.0, 100.0


async def turned(pilot) -> None:
    """Lower max_num_seqs twice and raise it."""
    await asyncio.sleep(SERVE_S)
    for key, wait_s in (("left_square_bracket", 15.0), ("left_square_bracket", 15.0),
                        ("right_square_bracket", TURNED_S)):  # fmt: skip
        await pilot.press(key)
        await asyncio.sleep(wait_s)


async def edited(pilot) -> None:
    """Open the load editor and put a day, prefixes and conversations in."""
    await asyncio.sleep(10.0)
    await pilot.press("l")
    for name, text in (
        ("arrivals", "0s=2, 40s=12, 80s=4/s every 120s"),
        ("prefix", "share=0.8 tokens=128 groups=16 zipf=1"),
        ("sessions", "turns=1-6 think=5s"),
    ):
        pilot.app.screen.query_one(f"#{name}").value = text
    await asyncio.sleep(2.0)


async def swept(pilot) -> None:
    """Sweep the load to its end on the frontier screen."""
    await asyncio.sleep(5.0)
    await pilot.press("f", "w")
    for _ in range(900):
        await asyncio.sleep(1.0)
        if pilot.app.session.advance().sweep.level is None:
            break
    # The screen looks four times a second.
    await asyncio.sleep(1.0)


async def tuned(pilot) -> None:
    """Let the tuner search and confirm, with a goal that the demo's own limits miss."""
    from tputtui.experiments.tuner.plan import Plan
    from tputtui.goals import parse_goals

    await asyncio.sleep(5.0)
    few = "max_num_seqs=32,64,128, max_num_batched_tokens=128,512,2048"
    pilot.app._plan = Plan(vary=few, budget_s=240.0)
    pilot.app.session.set_goals(parse_goals("ttft_p90=2.5s,tpot_p90=25ms"))
    await pilot.press("t", "enter")
    for _ in range(900):
        await asyncio.sleep(1.0)
        if pilot.app.session.advance().tuner.over:
            break
    await asyncio.sleep(1.0)


DONE = {"demo": turned, "load": edited, "frontier": swept, "tuner": tuned, "replay": turned,
        "simulate": turned, "gpu": turned}  # fmt: skip


async def picture(name: str, columns: int, rows: int, state: pathlib.Path) -> str:
    """Serve the demo, do what the picture `name` shows, and take the screen as SVG."""
    if name == "attach":
        return await attached(columns, rows)
    from tputtui import profile
    from tputtui.engine.protocol import State
    from tputtui.engine.vllm.inproc import VllmEngine
    from tputtui.hardware import HardwareSampler
    from tputtui.session.session import Session
    from tputtui.ui.app import TputApp

    log = state / "run.jsonl.zst" if name == "replay" else None
    if name == "simulate":
        session = simulated()
    else:
        served = filling() if name == "gpu" else profile.load(profile.shipped()["demo"])
        session = Session(VllmEngine, served, hardware=HardwareSampler(), log_path=log)
    app = TputApp(session, start=session.start, save_dir=state)
    async with app.run_test(size=(columns, rows)) as pilot:
        while session.host.status.state is not State.RUNNING:
            if session.host.status.failure:
                raise SystemExit(str(session.host.status.failure))
            await asyncio.sleep(0.2)
        await DONE[name](pilot)
        svg = app.export_screenshot(title="tputtui")
    session.close(20.0)
    return svg if log is None else await replayed(log, columns, rows)


def filling():
    """A model and a load that fill an H100."""
    from tputtui.load.lengths import LogNormal
    from tputtui.load.workload import ClosedLoop, Workload
    from tputtui.profile import EngineSpec, Profile

    spec = EngineSpec("shape:llama-3.1-8b", {"max_model_len": 8192})
    load = Workload(ClosedLoop(192), LogNormal(500, 0.6, 16, 4000), LogNormal(200, 0.5, 16, 1000))
    return Profile(spec, load, {"max_num_seqs": 128})


def simulated():
    """A session of that on a machine that has no GPU."""
    from tputtui.engine.vllm.simulated import SimulatedEngine
    from tputtui.session.session import Session
    from tputtui.simulate.clock import RealTime
    from tputtui.simulate.simulation import simulation_of

    h100 = functools.partial(SimulatedEngine, simulation_of("h100"), RealTime())
    return Session(h100, filling())


async def replayed(log: pathlib.Path, columns: int, rows: int) -> str:
    """Open the run that was recorded, a few seconds after its second turn."""
    from tputtui.record.reading import read_log
    from tputtui.record.replay import Replay
    from tputtui.ui.replay_app import ReplayApp

    replay = Replay(read_log(log), time.monotonic)
    replay.playing = False
    marks = [mark for mark in replay.marks if mark.kind == "knob"]
    replay.seek(marks[1].t_s - replay.recording.origin_s + 8.0)
    app = ReplayApp(replay)
    async with app.run_test(size=(columns, rows)):
        await asyncio.sleep(1.0)
        return app.export_screenshot(title="tputtui replay")


async def attached(columns: int, rows: int) -> str:
    """Watch a vLLM server of the demo's shape, which this process puts the demo's load on."""

    import msgspec

    from tputtui import profile
    from tputtui.attach.access import Access
    from tputtui.attach.address import parse_addresses
    from tputtui.attach.fleet import Fleet
    from tputtui.attach.poller import Poller
    from tputtui.engine.served.engine import ServedEngine
    from tputtui.profile import EngineSpec
    from tputtui.session.session import Session
    from tputtui.ui.attach_app import AttachApp

    demo = profile.load(profile.shipped()["demo"])
    with served(demo.engine) as url:
        addresses = parse_addresses([url])
        driven = msgspec.structs.replace(demo, engine=EngineSpec(f"server:{url}"), knobs={})
        session = Session(functools.partial(ServedEngine, addresses[0], Access()), driven)
        poller = Poller(addresses, Access(), 1.0)
        session.start()
        poller.start()
        app = AttachApp(Fleet(addresses, poller, 1.0), 1)
        async with app.run_test(size=(columns, rows)):
            await asyncio.sleep(WATCHED_S)
            svg = app.export_screenshot(title="tputtui attach")
        poller.stop()
        session.close(20.0)
    return svg


@contextlib.contextmanager
def served(engine):
    """vLLM's server on `engine`; its address, once it is up."""
    import socket
    import urllib.request

    from tputtui.engine.flags import to_argv
    from tputtui.engine.models import resolve

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    spec = resolve(engine)
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", spec.model,
               "--host", "127.0.0.1", "--port", str(port), *to_argv(spec.args)]  # fmt: skip
    quiet = subprocess.DEVNULL
    server = subprocess.Popen(command, stdout=quiet, stderr=quiet)
    try:
        while server.poll() is None:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def to_png(svg: pathlib.Path) -> None:
    """The same picture as PNG, where there is a browser to draw it."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        print("no chromium: PNG left as it was")
        return
    width, height = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg.read_text()).groups()
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
             "--no-first-run", "--disable-background-networking", "--disable-component-update",
             "--disable-sync", f"--user-data-dir={folder}",
             f"--window-size={round(float(width))},{round(float(height))}",
             f"--screenshot={svg.with_suffix('.png')}", svg.resolve().as_uri()],
            check=True, capture_output=True,
        )  # fmt: skip


def main() -> None:
    if not sys.argv[1:]:
        for wanted in PICTURES:
            # One process a picture: one engine at a time.
            subprocess.run([sys.executable, __file__, wanted], check=True)
        return
    for wanted in sys.argv[1:]:
        name, _, size = wanted.partition("-")
        columns, rows = (int(part) for part in size.split("x"))
        with tempfile.TemporaryDirectory() as folder:
            svg = asyncio.run(picture(name, columns, rows, pathlib.Path(folder)))
        # Names no host: the picture's fonts are those of whoever looks.
        svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)
        path = HERE / f"{wanted}.svg"
        path.write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n")
        with contextlib.suppress(subprocess.CalledProcessError):
            to_png(path)
        print(path.name)


if __name__ == "__main__":
    main()
