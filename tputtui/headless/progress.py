"""Says on stderr how far a headless run is: a live line on a terminal, a few lines elsewhere."""

from __future__ import annotations

from typing import Any, TextIO

from tputtui.experiments.measuring import Measuring, Stage
from tputtui.frame import Frame
from tputtui.text.format import compact, seconds

__all__ = ["Progress"]

_EVERY_S = 10.0


class Progress:
    """Shows on `file` how far a headless run is; a context manager. quiet: shows nothing."""

    def __init__(self, file: TextIO, *, quiet: bool = False) -> None:
        self._file = file
        self._quiet = quiet
        self._shown_stage: object = None
        self._shown_s = -_EVERY_S
        self._live: Any = None
        if not quiet and file.isatty():
            # Imported only here: rich takes a tenth of a second to import.
            from rich.console import Console
            from rich.live import Live

            console = Console(file=file)
            # The cursor stays visible: a process that is killed could not show it again.
            console.show_cursor = lambda show=True: False  # type: ignore[method-assign]
            self._live = Live(console=console, transient=True, refresh_per_second=4)

    def __enter__(self) -> Progress:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, measuring: Measuring, frame: Frame) -> None:
        """Show how far the measurement is."""
        stage = (measuring.stage, frame.status.stage)
        repeat = measuring.stage is Stage.MEASURING
        self.tell(self._line(measuring, frame), stage, frame.elapsed_s, repeat=repeat)

    def tell(self, line: str, stage: object, now_s: float, *, repeat: bool = False) -> None:
        """Show `line` as the present state.

        Where there is no terminal, print it only when `stage` differs from the last one, and with
        `repeat` every ten seconds.
        """
        if self._quiet:
            return
        if self._live is not None:
            from rich.text import Text

            self._live.update(Text(line, no_wrap=True, overflow="ellipsis"))
            return
        if stage != self._shown_stage or (repeat and now_s - self._shown_s >= _EVERY_S):
            self._shown_stage, self._shown_s = stage, now_s
            self.keep(f"tputtui: {line}")

    def keep(self, line: str) -> None:
        """Print a line that stays."""
        if self._quiet:
            return
        if self._live is not None:
            from rich.text import Text

            self._live.console.print(Text(line), soft_wrap=True)
            return
        self._file.write(f"{line}\n")
        self._file.flush()

    def _line(self, measuring: Measuring, frame: Frame) -> str:
        stage, now = measuring.stage, frame.now
        if stage is Stage.BOOTING:
            return f"{frame.status.stage or 'starting'} · {frame.elapsed_s:.0f} s"
        serving = (
            f"{compact(now.generated_per_s, 0)} tok/s · {frame.accounting.running} running, "
            f"{frame.accounting.waiting} waiting · TTFT p50 {seconds(frame.latencies.ttft.p50, 0)}"
        )
        if stage is Stage.MEASURING:
            return (
                f"measuring {measuring.measured_s:.0f} of {measuring.duration_s:.0f} s · {serving}"
            )
        if stage is Stage.SETTLING and frame.window.turnover:
            return f"{frame.window.phase.value} · {frame.window.turnover} · {serving}"
        return f"{stage.value} · {serving}"
