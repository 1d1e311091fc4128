"""What binds, on vLLM's own scheduler: each situation made, and named."""

from __future__ import annotations

import numpy as np
import pytest

from tputtui.load.lengths import Uniform
from tputtui.measure.binding import Bound, binding

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]


def bound(served, last=60):
    """What binds in the last steps."""
    rows = np.array(served.steps[-last:], dtype=float)
    length_s = rows[-1, 0] - rows[0, 0] + rows[0, 1]
    ended = served.ended
    cut = sum(sample.outcome == "cut" for sample in ended)
    status = served.host.status
    # The busy part only: between two turns the test itself takes time.
    length_s = min(length_s, float(rows[:, 1].sum()))
    return binding(
        rows, length_s, status.knobs, status.facts.ceilings, ended=len(ended), cut_short=cut
    )


def test_sequences(simulated):
    simulated.session.set_knob("max_num_seqs", 16)
    simulated.start(64, Uniform(16, 32), Uniform(20, 40), seed=41)
    simulated.turn(80)
    found = bound(simulated)
    assert found.bound is Bound.SEQUENCES
    assert found.advice == "raise it to 32"


def test_tokens(simulated):
    simulated.session.set_knob("max_num_batched_tokens", 128)
    simulated.start(64, Uniform(400, 600), Uniform(2, 6), seed=42)
    simulated.turn(80)
    assert bound(simulated).bound is Bound.TOKENS


def test_kv(simulated):
    simulated.start(256, Uniform(900, 1000), Uniform(300, 500), seed=43)
    simulated.turn_until(lambda: simulated.steps and simulated.steps[-1].kv_frac > 0.95, 400)
    simulated.turn(60)
    found = bound(simulated)
    assert found.bound is Bound.KV
    assert "wait" in found.evidence


def test_load(simulated):
    simulated.start(12, Uniform(16, 32), Uniform(20, 40), seed=44)
    simulated.turn(80)
    found = bound(simulated)
    assert found.bound is Bound.LOAD
    assert "nothing waits" in found.evidence


def test_length(simulated):
    simulated.start(40, Uniform(30, 40), Uniform(60, 80), seed=45)
    simulated.turn(40)
    simulated.session.set_knob("max_model_len", 85)
    simulated.turn(40)
    assert bound(simulated).bound is Bound.LENGTH
