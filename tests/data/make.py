"""Writes files as the version of tputtui that is checked out writes them, for later ones to read.

    python tests/data/make.py written_by_0_2

Run once for a version, before the first change that it might not survive; what is there stays as it
is. On the deterministic engine in virtual time, so seconds are enough.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from tests.made import calibration
from tests.test_record import Recorded
from tputtui import profile
from tputtui.frame.proof import compared
from tputtui.goals import parse_goals
from tputtui.load.lengths import LogNormal
from tputtui.load.workload import Poisson, Prefix, Workload
from tputtui.profile.evidence import VERIFIED
from tputtui.simulate.calibration import save_calibration

CONFIG = """\
# What a person may have in ~/.config/tputtui/config.yaml.
theme: light
load: 40
goal: ttft_p90=2s,tpot_p90=60ms
guard: kv=0.97
record: true
save_dir: ~/profiles
engine:
  max-num-seqs: 128
keys:
  undo: z
  limit.halve: f9
"""


def turned(folder: Path) -> None:
    """Limits turned, goals set, undone, another load; the profile that is saved at its end."""
    run = Recorded(folder / "turned.jsonl.zst")
    steer = run.session.steer
    run.run(15)
    steer.limits.set("max_num_seqs", 32)
    run.run(20)
    run.session.set_goals(parse_goals("ttft_p90=1500ms"))
    run.run(5)
    steer.undo()
    run.run(15)
    steer.load.set(msgspec.structs.replace(run.session.workload, seed=9))
    run.run(15)
    saved = run.session.save(folder / "tuned.yaml")
    run.end()
    tuned = profile.load(saved)
    evidence = compared(tuned.evidence.tuned, tuned.evidence.tuned)
    assert evidence.state == VERIFIED
    profile.save(msgspec.structs.replace(tuned, evidence=evidence), folder / "verified.yaml")


def experiments(folder: Path) -> None:
    """A sweep of an open loop, then an A/B, each to its end."""
    load = Workload(
        Poisson(6.0), LogNormal(120, 0.5, 16, 512), LogNormal(60, 0.4, 16, 256),
        prefix=Prefix(0.5, 64, 4),
    )  # fmt: skip
    run = Recorded(folder / "experiments.jsonl.zst", load=load)
    steer = run.session.steer
    run.run(15)
    steer.experiments.sweep()
    run_to_the_end(run)
    steer.limits.set("max_num_seqs", 16)
    run.run(20)
    steer.experiments.compare()
    run_to_the_end(run)
    run.end()


def run_to_the_end(run: Recorded) -> None:
    """Until the experiment that was begun is over; ten minutes at most."""
    for _ in range(60):
        if not run.session.steer.experiments.under_way:
            return
        run.run(10)


def main() -> None:
    folder = Path(__file__).with_name(sys.argv[1])
    folder.mkdir()
    (folder / "config.yaml").write_text(CONFIG)
    save_calibration(calibration(), folder / "calibration.yaml")
    turned(folder)
    experiments(folder)


if __name__ == "__main__":
    main()
