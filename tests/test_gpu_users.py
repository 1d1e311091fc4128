"""Whose memory it is on a GPU, told from /proc; and where that cannot be told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tputtui.engine.failure import failure_of
from tputtui.engine.shortage import holders
from tputtui.hardware import GpuProcess, GpuSample, HardwareSample
from tputtui.hardware.users import Usage, Users, printable


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """Ours is 10; 11 and, through it, 12 descend from it; 20 is another's."""
    for pid, parent, name in (
        (1, 0, "init"), (10, 1, "tputtui"), (11, 10, "a) R 1 (b"), (12, 11, "VLLM::Worker"),
        (20, 1, "jupyter"),
    ):  # fmt: skip
        folder = tmp_path / str(pid)
        folder.mkdir()
        (folder / "stat").write_text(f"{pid} ({name}) S {parent} 1 1 0")
        (folder / "comm").write_text(f"{name}\n")
    return tmp_path


@pytest.fixture
def users(proc: Path) -> Users:
    return Users(proc, 10)


def test_descendants_are_ours_and_the_biggest_come_first(users: Users) -> None:
    (usage,) = users.by_gpu([[(20, 7, ""), (12, 30, ""), (11, 5, ""), (10, 1, "")]])
    assert (usage.ours_bytes, usage.others_bytes, usage.processes) == (36, 7, 4)
    assert [(each.pid, each.name, each.ours) for each in usage.biggest] == [
        (12, "VLLM::Worker", True),
        (20, "jupyter", False),
        (11, "a) R 1 (b", True),
        (10, "tputtui", True),
    ]


def test_only_the_biggest_few_are_kept(users: Users) -> None:
    (usage,) = users.by_gpu([[(pid, pid, "") for pid in range(100, 120)]])
    assert (usage.processes, [each.pid for each in usage.biggest]) == (20, [119, 118, 117, 116])


def test_one_that_is_listed_for_each_of_its_instances_is_one(users: Users) -> None:
    (usage,) = users.by_gpu([[(12, 30, ""), (12, 12, "")]])
    assert (usage.ours_bytes, usage.processes) == (42, 1)


def test_a_size_that_is_not_told_leaves_its_side_open(users: Users) -> None:
    (usage,) = users.by_gpu([[(12, None, ""), (20, 7, "")]])
    assert (usage.ours_bytes, usage.others_bytes, usage.processes) == (None, 7, 2)


def test_numbers_of_another_namespace_are_nobodys(users: Users) -> None:
    # In a container: the host's numbers, or none of them.
    (usage,) = users.by_gpu([[(4000, 60, "python")]])
    assert (usage.ours_bytes, usage.others_bytes, usage.processes) == (None, None, 1)
    assert (usage.biggest[0].name, usage.biggest[0].ours) == ("python", None)
    assert users.by_gpu([[]])[0] == Usage(None, None, 0, ())


def test_others_are_told_before_any_of_ours_is_there(users: Users) -> None:
    (usage,) = users.by_gpu([[(20, 60, "")]])
    assert (usage.ours_bytes, usage.others_bytes) == (0, 60)


def test_once_one_of_ours_was_named_the_hidden_are_others(users: Users) -> None:
    assert users.by_gpu([[(12, 30, "")], [(4000, 8, "")]])[1].others_bytes == 8
    # And a GPU that nobody uses is used by nobody.
    assert users.by_gpu([[]])[0] == Usage(0, 0, 0, ())


def test_a_driver_that_lists_none_says_nothing(users: Users) -> None:
    assert users.by_gpu([None]) == [Usage()]


def test_a_process_is_looked_up_once_and_anew_when_its_number_comes_back(
    users: Users, proc: Path
) -> None:
    assert users.by_gpu([[(20, 7, "")]])[0].biggest[0].name == "jupyter"
    (proc / "20" / "comm").write_text("other\n")
    assert users.by_gpu([[(20, 7, "")]])[0].biggest[0].name == "jupyter"
    users.by_gpu([[]])
    assert users.by_gpu([[(20, 7, "")]])[0].biggest[0].name == "other"


def test_names_that_others_chose_take_one_cell_a_character() -> None:
    assert printable("a\x1b[31m\u8a9e\n") == "a?[31m??"


def gpu(**more: Any) -> GpuSample:
    return GpuSample(0, "H100", mem_total_bytes=80.0 * 2**30, **more)


def told(*gpus: GpuSample) -> str:
    return holders(HardwareSample(0.0, gpus, "ok", 0.0, None, None, ""))


def test_who_holds_the_memory_that_an_engine_did_not_find_is_named() -> None:
    theirs = (GpuProcess(4711, "VLLM::EngineCor", 60.0 * 2**30, False),)
    ours = GpuProcess(10, "tputtui", 2**29, True)
    taken = gpu(mem_others_bytes=60.0 * 2**30, processes=(*theirs, ours))
    text = told(
        taken,
        replace(taken, index=1, mem_others_bytes=2**30),
        replace(taken, index=2, visible=False),
    )
    assert text.startswith("GPU 0: 60.0G of 80.0G are held by VLLM::EngineCor (pid 4711).")
    assert "`tputtui attach`" in text
    assert "GPU 1" not in text
    assert "GPU 2" not in text
    assert told(gpu(mem_others_bytes=2**30)) == told() == ""
    # Whose it is, is not told in a container.
    assert told(gpu(mem_used_bytes=70.0 * 2**30)).startswith("GPU 0: 70.0G of 80.0G are held.")


@pytest.mark.parametrize("message", [
    "Free memory on device cuda:0 (4.2/79.1 GiB) on startup is less than desired GPU memory "
    "utilization (0.92, 72.8 GiB).",
    "CUDA out of memory. Tried to allocate 2.00 GiB.",
])  # fmt: skip
def test_a_boot_that_finds_no_memory_says_who_has_it(
    message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tputtui.engine.failure.memory_held", lambda: "GPU 0: 60.0G are held.")
    assert failure_of(ValueError(message)).hint.startswith("GPU 0: 60.0G are held.")
    assert "GPU 0" not in failure_of(ValueError("No such model.")).hint
    monkeypatch.setattr("tputtui.engine.failure.memory_held", lambda: "")
    assert failure_of(ValueError(message)).hint.startswith("Memory ran out")
