"""The steps of an engine on disk, and what the next boot of the same engine makes of them."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.rig import Rig
from tests.test_predict import recorded
from tputtui.engine.orders import Status
from tputtui.load.workload import ClosedLoop, Workload
from tputtui.predict.book import StepBook
from tputtui.predict.costs import learnt
from tputtui.predict.foresight import Foresight
from tputtui.predict.kept_steps import KeptSteps, StepFiles, hashed
from tputtui.profile import EngineSpec
from tputtui.session.session import _running

LENGTHS = ((60, 16, 0.4), (120, 24, 0.4), (200, 40, 0.2))
LOAD = Workload(ClosedLoop(48), pairs=LENGTHS, seed=7)
NAME = hashed("an engine")


def steps(n: int, took_s: float = 0.010, first_s: float = 100.0) -> np.ndarray:
    """Steps with 4 … 11 decodes each, in a row."""
    rows = [(first_s + took_s * i, took_s, 4 + i % 8, 0, 0) for i in range(n)]
    return np.array(rows, dtype=float)


def served(files: StepFiles, seconds: float) -> Rig:
    """A run of the deterministic engine that keeps its steps."""
    rig = Rig(LOAD)
    rig.session._foresight = Foresight(files=files)
    rig.boot()
    rig.run(seconds)
    return rig


def test_the_next_boot_of_the_same_engine_begins_with_what_the_last_one_learnt(
    tmp_path: Path,
) -> None:
    files = StepFiles(tmp_path / "steps")
    first = served(files, 20.0)
    first.session.close(1.0)
    (path,) = (tmp_path / "steps").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    second = Rig(LOAD)
    second.session._foresight = Foresight(files=files)
    second.boot()
    second.session.advance()
    (book,) = second.session._foresight._books.values()
    now, before = learnt(book.kept, book.newest), None
    (old,) = first.session._foresight._books.values()
    before = learnt(old.kept, old.newest[-512:])
    assert now is not None
    assert before is not None
    assert now.decode_only_s(32)[0] == pytest.approx(before.decode_only_s(32)[0], rel=0.02)
    # Each step of this run refines it.
    second.run(20.0)
    assert len(book.newest) > 512
    assert book.newest[0, 0] < book.newest[-1, 0] <= second.clock()
    second.session.close(1.0)
    assert len(list((tmp_path / "steps").iterdir())) == 1


def test_another_engine_has_steps_of_its_own(tmp_path: Path) -> None:
    rig = served(StepFiles(tmp_path), 2.0)
    status = rig.host.status
    assert status.facts is not None
    assert status.spec is not None

    def name(**facts: object) -> str:
        return name_of(replace(status, facts=replace(status.facts, **facts)))  # type: ignore[arg-type]

    def name_of(seen: Status) -> str:
        running = _running(seen)
        assert running is not None
        return running.name

    same = name()
    assert same
    others = {
        name(device="NVIDIA H100"), name(dtype="bfloat16"), name(block_size=128),
        name(versions={"vllm": "0.33.0"}), name(overlapped=True), name(config_sha256="1f"),
        name_of(replace(status, spec=EngineSpec("shape:demo", {"kv_cache_dtype": "fp8"}))),
        name_of(replace(status, spec=EngineSpec("shape:qwen3-8b"))),
    }  # fmt: skip
    assert len(others - {same}) == 8
    # How many blocks are free differs from boot to boot, and how long the boot took.
    fewer = replace(status.facts.booted, num_gpu_blocks=17)
    assert name(booted=fewer, boot_s=99.0) == same
    # What stands behind an address may be another engine tomorrow.
    assert name(served=True) == ""


def test_what_is_kept_is_read_as_it_was_written(tmp_path: Path) -> None:
    files = StepFiles(tmp_path)
    assert files.read(NAME) is None
    files.write(NAME, KeptSteps(steps(300), steps(60)))
    found = files.read(NAME)
    assert found is not None
    assert np.array_equal(found.kept, steps(300))
    assert np.array_equal(found.newest, steps(60))
    assert [path.name for path in tmp_path.iterdir()] == [f"{NAME}.steps"]


def test_a_file_is_small_however_many_steps_there_are(tmp_path: Path) -> None:
    files = StepFiles(tmp_path)
    files.write(NAME, KeptSteps(steps(60_000), steps(60_000)))
    assert (tmp_path / f"{NAME}.steps").stat().st_size < 200_000
    found = files.read(NAME)
    assert found is not None
    assert (len(found.kept), len(found.newest)) == (4096, 512)
    # All of the range, and the newest in a row.
    assert found.kept[-1, 0] == steps(60_000)[-1, 0]
    assert np.array_equal(found.newest, steps(60_000)[-512:])


def test_as_many_files_are_kept_as_there_is_reason_to(tmp_path: Path) -> None:
    files = StepFiles(tmp_path)
    for number in range(40):
        files.write(hashed(number), KeptSteps(steps(50), steps(50)))
        os.utime(tmp_path / f"{hashed(number)}.steps", (1e9 + number, 1e9 + number))
    files.write(NAME, KeptSteps(steps(50), steps(50)))
    left = {path.stem for path in tmp_path.iterdir()}
    assert len(left) == 32
    assert {NAME, hashed(39)} < left
    assert hashed(0) not in left


def broken(data: bytes) -> list[bytes]:
    head, _, body = data.partition(b"\n")
    nan, backwards = bytearray(body), np.frombuffer(body, dtype="<f8").copy()
    nan[8:16] = np.array([np.nan]).tobytes()
    backwards[-5] = 0.0
    return [
        b"",
        b"\n",
        b"{}\n" + body,
        b"[1]\n" + body,
        head,
        head + b"\n" + body[:-8],
        head + b"\n" + body + b"more",
        head.replace(b'"tputtui_steps": 1', b'"tputtui_steps": 2') + b"\n" + body,
        head.replace(NAME.encode(), hashed("another").encode()) + b"\n" + body,
        head.replace(b'"kept": 50', b'"kept": "many"') + b"\n" + body,
        head + b"\n" + bytes(nan),
        head + b"\n" + backwards.tobytes(),
        os.urandom(5000),
        b"x" * 400_000,
    ]


def test_a_damaged_or_foreign_file_is_ignored_and_replaced(tmp_path: Path) -> None:
    files, path = StepFiles(tmp_path), tmp_path / f"{NAME}.steps"
    files.write(NAME, KeptSteps(steps(50), steps(50)))
    sound = path.read_bytes()
    assert files.read(NAME) is not None
    for data in broken(sound):
        path.write_bytes(data)
        assert files.read(NAME) is None, data[:80]
    files.write(NAME, KeptSteps(steps(50), steps(50)))
    assert files.read(NAME) is not None
    # Of an engine that nobody has run for half a year.
    os.utime(path, (1e9, 1e9))
    assert files.read(NAME) is None


def test_a_folder_that_cannot_be_written_costs_nothing_but_the_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    files = StepFiles(tmp_path / "file" / "steps")
    files.write(NAME, KeptSteps(steps(50), steps(50)))
    assert files.read(NAME) is None
    served(files, 5.0).session.close(1.0)


def test_earlier_steps_count_at_the_level_of_this_run(tmp_path: Path) -> None:
    """The machine is a fifth slower today; of large batches only the earlier run knows."""
    earlier = np.vstack((steps(160), [[0.0, 0.040, 64, 0, 0]] * 24))
    book = StepBook(kept=earlier, newest=steps(300))
    assert len(book.newest) == 300
    book.follow(recorded([(0.012, 4 + i % 8, 0, 0.0) for i in range(400)]))
    assert len(book.newest) == 399
    large = book.kept[book.kept[:, 2] == 64]
    assert len(large) == 24
    assert large[:, 1] == pytest.approx(0.048, rel=0.01)
    found = learnt(book.kept, book.newest)
    assert found is not None
    assert found.decode_only_s(64)[0][64] == pytest.approx(0.048, rel=0.05)
    # Of the sizes that this run has seen, its own steps replace the others.
    small = book.kept[np.isin(book.kept[:, 2], (7, 8))]
    assert small[:, 1] == pytest.approx(np.full(24, 0.012))


def test_a_run_too_short_to_tell_anything_leaves_the_file_as_it_is(tmp_path: Path) -> None:
    files = StepFiles(tmp_path)
    served(files, 20.0).session.close(1.0)
    (path,) = tmp_path.iterdir()
    before = path.read_bytes()
    served(files, 0.5).session.close(1.0)
    assert path.read_bytes() == before
