"""Draws the pictures of the README from a real run: the demo, with limits turned on the way.

    make screenshots

Boots the real engine once for each size (about a minute each) and writes SVG; PNG too where
Chromium is installed. Nothing is drawn by hand: what is on the picture is what was measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).parent
SIZES = ((120, 40), (200, 50))
SERVE_S, TURNED_S = 40.0, 30.0


async def picture(columns: int, rows: int, state: pathlib.Path) -> str:
    """Serve the demo, lower max_num_seqs twice, raise it, and take the screen as SVG."""
    from tputtui import profile
    from tputtui.engine.protocol import State
    from tputtui.engine.vllm_inproc import VllmEngine
    from tputtui.hardware import HardwareSampler
    from tputtui.session import Session
    from tputtui.ui.app import TputApp

    demo = profile.load(profile.shipped()["demo"])
    session = Session(VllmEngine, demo, hardware=HardwareSampler())
    app = TputApp(session, start=session.start, save_dir=state)
    async with app.run_test(size=(columns, rows)) as pilot:
        while session.host.status.state is not State.RUNNING:
            if session.host.status.failure:
                raise SystemExit(str(session.host.status.failure))
            await asyncio.sleep(0.2)
        await asyncio.sleep(SERVE_S)
        for key, wait_s in (("left_square_bracket", 15.0), ("left_square_bracket", 15.0),
                            ("right_square_bracket", TURNED_S)):  # fmt: skip
            await pilot.press(key)
            await asyncio.sleep(wait_s)
        svg = app.export_screenshot(title="tputtui")
    session.close(20.0)
    return svg


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
    if sys.argv[1:]:
        columns, rows = (int(part) for part in sys.argv[1].split("x"))
        with tempfile.TemporaryDirectory() as folder:
            svg = asyncio.run(picture(columns, rows, pathlib.Path(folder)))
        # Names no host: the picture's fonts are those of whoever looks.
        svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)
        path = HERE / f"demo-{columns}x{rows}.svg"
        path.write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n")
        with contextlib.suppress(subprocess.CalledProcessError):
            to_png(path)
        print(path.name)
        return
    for columns, rows in SIZES:
        # One process a picture: one engine at a time.
        subprocess.run([sys.executable, __file__, f"{columns}x{rows}"], check=True)


if __name__ == "__main__":
    main()
