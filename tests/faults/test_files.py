"""Disks that are full, folders that cannot be written, two that save at once, jumping clocks."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import PATIENCE_S
from tests.faults import PACED
from tests.rig import Rig
from tests.terminal import PROGRAM, environment
from tests.test_bench import DEMO
from tputtui import cli, profile
from tputtui.errors import ProfileError
from tputtui.record.journal import Journal
from tputtui.record.reading import read_log

NO_DAC = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search")


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk that takes 64 KiB; a limit on the size of files where none can be had."""
    folder = tmp_path / "full"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode == 0:
        (folder / "filler").write_bytes(b"x" * (1 << 16))
        yield folder
        subprocess.run(["umount", str(folder)], check=True)
        return
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    yield folder
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def rig() -> Rig:
    rig = Rig(DEMO.load, DEMO.knobs)
    rig.boot()
    rig.run(10)
    return rig


def test_a_full_disk_at_save_is_a_sentence_and_leaves_nothing_half_written(
    rig: Rig, full: Path
) -> None:
    before = sorted(full.iterdir())
    with pytest.raises(ProfileError, match=r"could not be written: (No space|File too large)"):
        rig.session.save(full / "tuned.yaml")
    assert sorted(full.iterdir()) == before
    # The run is as it was, and can be saved elsewhere.
    rig.run(1)
    assert rig.session.advance().figures.generated_per_s > 0


def test_a_full_disk_stops_the_session_log_and_not_the_run(tmp_path: Path) -> None:
    rig = Rig(DEMO.load, DEMO.knobs)
    rig.session.journal = Journal(Path("/dev/full"), rig.session.recorder, rig.clock())
    rig.session.watch(rig.session.journal.see)
    rig.boot()
    rig.run(2)
    rig.session.journal.write_new()
    (news,) = rig.session.news()
    assert news == "The session log /dev/full stopped: No space left on device."
    rig.run(5)
    assert rig.session.news() == []
    assert rig.session.advance().figures.generated_per_s > 0


def test_a_disk_that_fills_up_while_it_is_logged_keeps_what_was_written(
    tmp_path: Path, rig: Rig
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        journal = Journal(small / "run.jsonl.zst", rig.session.recorder, rig.clock())
        rig.session.watch(journal.see)
        for _ in range(200):
            rig.run(1)
            journal.write_new()
            if journal.failure:
                break
        assert "No space left on device" in journal.failure
        assert len(read_log(journal.path).moments) > 3
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


def run_as_nobody_special(
    *words: str, cwd: Path, **env: str | None
) -> subprocess.CompletedProcess[str]:
    """The program without root's leave to write anywhere."""
    prefix = NO_DAC if os.geteuid() == 0 and shutil.which("setpriv") else ()
    return subprocess.run(
        [*prefix, str(PROGRAM), *words], capture_output=True, text=True, cwd=cwd,
        env=environment(cwd, env), stdin=subprocess.DEVNULL, timeout=PATIENCE_S,
    )  # fmt: skip


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0o555)
    done = run_as_nobody_special(
        "profiles", "export", "demo", "--format", "env", "-o", str(locked / "x.env"), cwd=tmp_path
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert "could not be written: Permission denied" in done.stderr
    # Nor can the state be kept there.
    done = run_as_nobody_special("bench", cwd=tmp_path, XDG_STATE_HOME=str(locked))
    assert done.returncode == 2
    assert re.search(r"cannot be written: Permission denied\.\s+Set XDG_STATE_HOME", done.stderr)
    assert "Traceback" not in done.stderr


def test_figures_that_cannot_be_saved_are_printed_all_the_same(tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0o555)
    words = ["bench", "--load", "16", "--duration", "2s", "--format", "json", "--quiet"]
    save = str(locked / "kept.yaml")
    done = run_as_nobody_special(*words, "--save", save, cwd=tmp_path, **PACED)
    assert done.returncode == 2, done.stderr
    assert json.loads(done.stdout)["measured"]["figures"]["tokens_per_s"]["value"] > 0
    assert "kept.yaml could not be written: Permission denied" in done.stderr


def test_two_instances_that_save_one_name_keep_both_results(rig: Rig, tmp_path: Path) -> None:
    other = Rig(DEMO.load, DEMO.knobs | {"max_num_seqs": 32})
    other.boot()
    other.run(10)
    rig.session.save(tmp_path / "tuned.yaml")
    with pytest.raises(ProfileError, match="exists already"):
        other.session.save(tmp_path / "tuned.yaml")
    other.session.save(tmp_path / "tuned-2.yaml")
    assert profile.load(tmp_path / "tuned.yaml").knobs["max_num_seqs"] == 64
    assert profile.load(tmp_path / "tuned-2.yaml").knobs["max_num_seqs"] == 32


def test_a_wall_clock_that_jumps_changes_no_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(jumping: bool) -> tuple[object, ...]:
        with contextlib.ExitStack() as undo:
            if jumping:
                calls = iter(range(10**9))
                real = time.time
                patch = undo.enter_context(pytest.MonkeyPatch.context())
                patch.setattr(time, "time", lambda: real() + (-1) ** next(calls) * 3e7)
            rig = Rig(DEMO.load, DEMO.knobs)
            path = tmp_path / f"{jumping}.jsonl.zst"
            journal = Journal(path, rig.session.recorder, rig.clock())
            rig.session.watch(journal.see)
            rig.boot()
            for _ in range(15):
                rig.run(1)
                journal.write_new()
            journal.write_new("left")
            frame = rig.session.advance()
            return frame.figures, frame.latencies, frame.window, read_log(path).length_s

    assert measured(False) == measured(True)


def test_exit_codes_are_those_that_are_documented(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bug of ours is 70 with where it is; an interrupt before anything runs is 130."""
    import tputtui.cli.profiles as module

    def broken(_: object) -> None:
        raise LookupError("nobody thought of this")

    monkeypatch.setattr(module, "run", broken)
    assert cli.main(["profiles"]) == 70
    said = capsys.readouterr().err
    assert "LookupError: nobody thought of this" in said
    assert "bug of ours" in said

    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "run", interrupted)
    assert cli.main(["profiles"]) == 130
    assert "Traceback" not in capsys.readouterr().err
