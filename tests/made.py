"""Trials made by hand, and a session that shows them: no engine, no time."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np

from tests.rig import Rig
from tputtui import profile
from tputtui.errors import BootNeeded, UsageError
from tputtui.frame import Frame, Tried
from tputtui.knobs import Knobs
from tputtui.load.workload import ClosedLoop, Workload
from tputtui.measure.samples import Mark
from tputtui.measure.series import METRICS, Batched, Series
from tputtui.measure.verdict import Difference, Verdict, differences
from tputtui.measure.window import Phase
from tputtui.profile import EngineSpec
from tputtui.simulate.calibration import Calibration, Residual
from tputtui.simulate.fitted import Coefficient, Fitted

BOOTED = Knobs(256, 2048, 2048, num_gpu_blocks=4097, enable_prefix_caching=1)
ENGINE = EngineSpec("shape:demo", {"max_num_seqs": 256})
OTHER_ENGINE = EngineSpec("shape:demo", {"max_num_seqs": 512, "enforce_eager": True})


def series_of(
    tokens: int,
    ttft_s: float,
    tpot_s: float,
    *,
    length_s: float = 60.0,
    seed: int = 0,
    noise: float = 0.02,
    goodput: float | None = None,
) -> Series:
    """A window's series around the given values, of turnovers two seconds long."""
    random = np.random.default_rng(seed)
    count, n = max(1, int(length_s / 2)), max(1, int(length_s)) * 15

    def rate(value: float) -> Batched:
        seconds = value * (1 + noise * random.standard_normal(max(1, int(length_s))))
        mean = float(seconds.mean())
        batches = seconds[: 2 * count].reshape(count, -1).mean(axis=1)
        return Batched(mean, batches / mean - 1, floor=0.5 / length_s, n=n)

    values = {"tokens_per_s": rate(tokens)}
    if goodput is not None:
        values["goodput_per_s"] = rate(goodput)
    for name, value in (("ttft", ttft_s), ("tpot", tpot_s)):
        for suffix, share in (("p50", 0.5), ("p90", 0.9)):
            at = value * (0.7 + 0.6 * share**2)
            logs = math.log(at) + 0.05 * random.standard_normal(count)
            values[f"{name}_{suffix}"] = Batched(at, logs, n=n)
    return Series(length_s, n, values)


def trial_of(
    number: int,
    turned: str,
    knobs: Knobs,
    load: Workload,
    *,
    t_s: float,
    found: Series | None = None,
    other: Tried | None = None,
    **more: Any,
) -> Tried:
    """A row, compared with `other` where both were measured."""
    told: tuple[Difference, ...] = ()
    if found is not None and other is not None and other.series is not None:
        told = differences(other.series, found)
        more["against"] = other.number
    phase = Phase.STEADY if found else Phase.SETTLING
    fields: dict[str, Any] = {"engine": ENGINE, "booted": BOOTED, "phase": phase} | more
    return Tried(number, t_s, turned, knobs, load, **fields, series=found, differences=told)


def six_trials(goals: bool = False) -> tuple[Tried, ...]:
    """A run: twice turned down, an engine booted, the guard at work, and one that settles."""
    load = profile.load(profile.shipped()["demo"]).load

    def goodput(value: float) -> float | None:
        return value if goals else None

    k64 = BOOTED.with_value("max_num_seqs", 64)
    k32 = BOOTED.with_value("max_num_seqs", 32)
    less = msgspec.structs.replace(load, arrivals=ClosedLoop(120))
    one = trial_of(
        1,
        "start",
        k64,
        load,
        t_s=2.0,
        found=series_of(2316, 0.45, 0.0174, seed=1, goodput=goodput(11.2)),
    )
    two = trial_of(
        2,
        "max_num_seqs 64 → 32",
        k32,
        load,
        t_s=84.0,
        other=one,
        found=series_of(1720, 1.61, 0.0131, seed=2, goodput=goodput(7.4)),
    )
    three = trial_of(
        3,
        "max_num_seqs 32 → 64, max_num_batched_tokens 2048 → 1024",
        k64.with_value("max_num_batched_tokens", 1024),
        load,
        t_s=171.0,
        other=two,
        found=series_of(2330, 0.52, 0.0166, seed=3, goodput=goodput(11.5)),
    )
    four = trial_of(
        4,
        "another engine, max_num_seqs 64 → 512",
        Knobs(512, 8192, 32768, num_gpu_blocks=4097, enable_prefix_caching=1),
        load,
        t_s=290.0,
        other=three,
        engine=OTHER_ENGINE,
        booted=replace(BOOTED, max_num_seqs=512),
        found=series_of(2890, 0.40, 0.0262, seed=4, goodput=goodput(3.1)),
        note="undone by the guard: TTFT p99 ≤ 2s is met by 61 % of 214 requests",
    )
    five = trial_of(
        5,
        "load 96 in flight → 120 in flight",
        k64,
        less,
        t_s=380.0,
        other=four,
        phase=Phase.DRIFTING,
        found=series_of(2301, 0.61, 0.0176, length_s=24, seed=5, goodput=goodput(10.9)),
    )
    six = trial_of(6, "long_prefill_token_threshold 0 → 512, enable_prefix_caching on → off",
                   replace(k64, long_prefill_token_threshold=512, enable_prefix_caching=0), less,
                   t_s=431.0)  # fmt: skip
    return (one, two, three, four, five, six)


def difference_of(
    key: str,
    old: float,
    new: float,
    low: float,
    high: float,
    judgement: str,
    needs_s: float = math.nan,
) -> Difference:
    """One row as it is told."""
    metric = next(metric for metric in METRICS if metric.key == key)
    change = new / old - 1 if old else math.nan
    return Difference(metric, old, new, change, low, high, Verdict(judgement), needs_s)


EVERY_JUDGEMENT = (
    difference_of("tokens_per_s", 2316.0, 2541.0, 0.081, 0.113, "better"),
    difference_of("ttft_p50", 0.3021, 0.4413, 0.31, 0.58, "worse"),
    difference_of("ttft_p90", 0.9631, 1.0323, -0.04, 0.19, "cannot tell yet", 33.0),
    difference_of("tpot_p50", 0.0174, 0.01746, -0.011, 0.018, "the same"),
    difference_of("tpot_p90", 0.0221, 0.0229, -0.02, 0.091, "cannot tell yet", math.inf),
)


def frame_of(trials: Iterable[Tried], *, marks: Iterable[Mark] = (), **more: Any) -> Frame:
    """A real frame of an engine that serves, with `trials` in it."""
    demo = profile.load(profile.shipped()["demo"])
    rig = Rig(demo.load, demo.knobs)
    rig.boot()
    rig.run(8.0)
    frame = rig.session.advance()
    return replace(
        frame, t_s=440.0, elapsed_s=440.0, trials=tuple(trials), marks=tuple(marks), **more
    )


MARKS = (
    Mark(2.0, "engine", "booted shape:demo in 1.0 s"),
    Mark(84.0, "knob", "max_num_seqs 64 → 32"),
    Mark(171.0, "guard", "guard (TTFT p99 ≤ 2s is met by 61 % of 214): max_num_seqs 32 → 64"),
    Mark(300.0, "leg", "A, pair 1"),
    Mark(380.0, "load", "load 96 in flight → 120 in flight"),
)


class Stub:
    """A session that shows one frame, and keeps what it was asked for."""

    boot_cost = "The load pauses for about 9 s, as long as the last boot took."

    def __init__(self, frame: Frame) -> None:
        self.shown = frame
        self.asked: list[tuple[object, ...]] = []
        self.steer = self.engine = self

    @property
    def latest(self) -> Frame:
        return self.advance()

    def advance(self) -> Frame:
        return self.shown

    def jump(self, number: int, *, boot: bool = False) -> str:
        trial = next(trial for trial in self.shown.trials if trial.number == number)
        if trial.engine != self.shown.trials[-1].engine and not boot:
            raise BootNeeded(f"Row {number} ran on another engine.", self.boot_cost)
        self.asked.append(("jump", number, boot))
        return f"max_num_seqs back to that of row {number}"

    def pin(self, number: int) -> None:
        self.asked.append(("pin", number))
        self.shown = replace(self.shown, baseline=number)

    def undo(self) -> None:
        raise UsageError("Nothing to undo.", "Limits and load stand as they were started.")

    def redo(self) -> str:
        self.asked.append(("redo",))
        return "max_num_seqs 64 → 32"


def calibration(**changes: dict[str, float]) -> Calibration:
    """One of the demo on a CPU, with costs about as a laptop has them."""
    known = {
        "fixed": 4e-3, "prefilling": 5e-4, "mixed": 1e-3, "decode": 2e-5, "decode_context": 3e-8,
        "prefill": 2e-4, "prefill_pair": 2e-9, "host_fixed": 6e-4, "host_sequence": 1.1e-5,
        "host_prefill": 5e-5, "host_prefill_token": 2e-7, "submit": 2e-4,
    }  # fmt: skip
    costs = {name: Coefficient(value, 0.1 * value) for name, value in known.items()}
    token = [Coefficient(each) for each in (1e-4, 8e-5, 4e-5, 3e-5, 2.5e-5)]
    made = Calibration(
        tputtui_calibration=1,
        model="shape:demo",
        config_sha256="af5fd903b935c4c53f402b5480fdfbb54005be46e4632fad8dbc3b06860a2612",
        device="cpu",
        vllm="0.32.0",
        date="2026-11-26T00:00:00+00:00",
        error_frac=0.04,
        overlapped=False,
        engine={
            "max_num_seqs": 256,
            "max_num_batched_tokens": 2048,
            "max_model_len": 2048,
            "block_size": 32,
            "kv_cache_memory_bytes": 64 * 2**20,
            "dtype": "float32",
        },
        booted={},
        fitted=Fitted(token_knots=[8, 32, 128, 512], token=token, spread=[0.9, 1.0, 1.1], **costs),
        residuals=[Residual("1 decode", 100, 2.0, -0.02)],
    )
    return msgspec.structs.replace(made, **changes)
