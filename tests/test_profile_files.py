"""Profiles over time: comments that survive, older versions, the schema, and what is no profile."""

from __future__ import annotations

import json
import os
import random
import threading
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.test_profile import evidence_of
from tputtui import profile
from tputtui.errors import ProfileError
from tputtui.goals import parse_goals
from tputtui.load.workload import ClosedLoop, Poisson
from tputtui.profile import EngineSpec, EngineValue, Profile
from tputtui.profile.resave import resaved
from tputtui.profile.schema import schema_text

MANY = 4500 if "FAULT_SEQUENCES" in os.environ else 600
"""Files tried of each kind: 10,000 in all in `make faults`, fewer in `make test`."""
SCHEMA = Path(__file__).parent.parent / "profiles" / "profile.schema.json"

BY_HAND = """\
# Ours, for the night shift.
tputtui: 1
about: |
  Two lines,
  kept as they are.

engine:   # what needs a boot
  model: org/model       # from the hub
  max-num-seqs: 256      # spelt as a flag
  'kv_cache_dtype': 'fp8'
  enable_expert_parallel: yes
  seed: 0x1F
  cudagraph_capture_sizes: [1, 2,
    4]
limits:
  # The night's own.
  max_num_seqs: 64   # measured on Tuesday
  max_num_batched_tokens: 2_048
load:
  arrivals: {kind: closed, in_flight: 96}   # people
  prompt: {kind: fixed, tokens: 256}
  output:
    kind: fixed
    tokens: 64      # short
goal: {ttft_p99: 0.5s}
price_per_hour: 25e-1
"""


def changed(**changes: Any) -> Profile:
    return msgspec.structs.replace(profile.parse(BY_HAND, "x"), **changes)


def test_an_unchanged_profile_is_saved_as_it_was_written() -> None:
    assert resaved(profile.parse(BY_HAND, "x"), BY_HAND).split() == BY_HAND.split()


def test_comments_order_and_spelling_survive_and_only_what_changed_is_touched() -> None:
    old = profile.parse(BY_HAND, "x")
    new = changed(
        knobs={"max_num_seqs": 48, "max_num_batched_tokens": 2048, "scheduling_policy": 1},
        load=msgspec.structs.replace(old.load, arrivals=ClosedLoop(120), seed=7),
        evidence=evidence_of(tokens_per_s=100.0),
    )
    text = resaved(new, BY_HAND)
    assert profile.parse(text, "x") == new
    for line in BY_HAND.splitlines():
        comment = line.partition("#")[2]
        assert comment in text, line
    lines = text.splitlines()
    assert "  max-num-seqs: 256      # spelt as a flag" in lines
    assert "  'kv_cache_dtype': 'fp8'" in lines
    assert "  enable_expert_parallel: yes" in lines
    assert "  max_num_seqs: 48   # measured on Tuesday" in lines
    # A comment keeps its column.
    assert "  arrivals: {kind: closed, in_flight: 120}  # people" in lines
    # What is new stands where a profile has it.
    assert lines.index("  scheduling_policy: priority") < lines.index("load:")
    assert lines[lines.index("price_per_hour: 25e-1") + 1] == "evidence:"


def test_a_file_that_calls_its_limits_knobs_is_read_and_keeps_its_word() -> None:
    former = BY_HAND.replace("\nlimits:", "\nknobs:")
    assert profile.parse(former, "x") == profile.parse(BY_HAND, "x")
    text = resaved(changed(knobs={"max_num_seqs": 32}), former)
    assert "knobs:\n  # The night's own.\n  max_num_seqs: 32   # measured on Tuesday" in text
    assert "limits:" not in text
    assert "limits:" in profile.dump(changed())


def test_what_is_gone_goes_and_another_kind_is_written_anew() -> None:
    new = changed(
        engine=EngineSpec("org/model", {"max_num_seqs": 256}),
        load=msgspec.structs.replace(changed().load, arrivals=Poisson(2.5)),
        goals=parse_goals("tpot_p90=20ms"),
        price_per_hour=None,
        about="",
    )
    text = resaved(new, BY_HAND)
    assert profile.parse(text, "x") == new
    assert "kv_cache_dtype" not in text
    assert "in_flight" not in text
    assert "# The night's own." in text


def test_words_that_yaml_would_read_as_something_else_are_quoted() -> None:
    args: dict[str, EngineValue] = {
        "a": "on",
        "b": "1e3",
        "c": "null",
        "d": "0x10",
        "e": "",
        "f": "12:30",
        "g": "~",
        "h": "# x",
    }
    new = changed(engine=EngineSpec("yes", args))
    assert profile.parse(resaved(new, BY_HAND), "x") == new
    assert profile.parse(profile.dump(new), "x") == new


def test_saving_over_an_older_text_that_is_no_profile_writes_it_plainly() -> None:
    new = changed()
    for old in ("", "- a", "tputtui: [", "a: &x 1\nb: *x"):
        assert profile.parse(resaved(new, old), "x") == new


def test_a_link_goes_on_pointing_to_its_file_and_rights_stay(tmp_path: Path) -> None:
    file, link = tmp_path / "real.yaml", tmp_path / "link.yaml"
    file.write_text(BY_HAND)
    file.chmod(0o600)
    link.symlink_to(file)
    profile.save(changed(about="new"), link, overwrite=True, like=BY_HAND)
    assert link.is_symlink()
    assert profile.load(file).about == "new"
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_crash_while_saving_leaves_the_old_file_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.yaml"
    profile.save(changed(about="old"), file)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ProfileError, match="No space left"):
        profile.save(changed(about="new"), file, overwrite=True)
    assert profile.load(file).about == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.yaml"]


def test_of_many_that_save_one_name_at_once_one_wins_and_the_others_are_told(
    tmp_path: Path,
) -> None:
    said, gate = [], threading.Barrier(8)

    def save(number: int) -> None:
        gate.wait()
        try:
            profile.save(changed(about=str(number)), tmp_path / "a.yaml")
            said.append(str(number))
        except ProfileError as refusal:
            said.append(refusal.message)

    threads = [threading.Thread(target=save, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (won,) = [each for each in said if each.isdigit()]
    assert profile.load(tmp_path / "a.yaml").about == won
    assert sum("exists already" in each for each in said) == 7


# -- older versions ------------------------------------------------------------------------------

DRAFT = """\
tputtui: 1
engine: {model: 'shape:demo', max_num_seqs: 256}
knobs: {max_num_seqs: 64}
load:
  arrivals: {kind: poisson, rate: 8.0}
  prompt: {kind: fixed, tokens: 100}
  output: {kind: fixed, tokens: 20}
  seed: 3
goal: {ttft_p90: 1s}
evidence:
  state: tuned live
  window: steady
  window_s: 60.0
  saturated: false
  preemptions: 2
  generated_tokens_per_s: 160.1
  requests_per_s: 8.005
  sequences_frac: 0.4
  ttft_s: {n: 480, p50: 0.12, p90: 0.3}
  goodput:
    requests_per_s: 7.9
    met: 474
    n: 480
    goals:
      ttft_p90: {verdict: met, met_frac: 0.9875, interval: [0.973, 0.994]}
  saved: 2026-11-20T10:00:00+00:00
  ceilings: {max_num_seqs: 256}
  device: cpu
  gpus: []
  versions: {tputtui: 0.1.0, vllm: 0.32.0, torch: 2.13.0}
"""


def test_a_profile_written_before_the_format_was_settled_is_read_with_its_figures() -> None:
    old = profile.parse(DRAFT, "x")
    found = old.evidence.tuned
    assert old.evidence.state == "tuned live"
    assert found.figures["tokens_per_s"].value == 160.1
    assert (found.figures["ttft_p90_s"].value, found.figures["ttft_p90_s"].n) == (0.3, 480)
    assert found.goals["ttft_p90"].verdict == "met"
    assert found.window.requests == 480
    assert found.date == "2026-11-20T10:00:00+00:00"
    assert found.machine.versions["vllm"] == "0.32.0"
    # Saved again it is of this version, and the same.
    assert profile.parse(profile.dump(old), "x") == old
    assert "window_s: 60" not in profile.dump(old)


def test_a_draft_without_figures_keeps_why() -> None:
    text = DRAFT.partition("evidence:")[0] + (
        "evidence: {state: 'tuned live; no figures, a sweep was under way', saved: x, device: cpu}"
    )
    found = profile.parse(text, "x").evidence
    assert found.note == "no figures, a sweep was under way"
    assert found.tuned is None
    assert profile.parse(DRAFT.partition("evidence:")[0] + "evidence: {}", "x").evidence is None


def test_every_profile_this_repository_ever_shipped_is_read() -> None:
    for path in profile.shipped().values():
        assert profile.parse(path.read_text(), path.name).load


# -- the schema ----------------------------------------------------------------------------------


def test_the_schema_for_editors_is_the_one_the_types_make() -> None:
    assert SCHEMA.read_text() == schema_text(), "renew it: tputtui profiles schema"


@pytest.mark.parametrize("name", sorted(profile.shipped()))
def test_what_is_read_agrees_with_the_schema(name: str) -> None:
    validator = jsonschema.Draft202012Validator(json.loads(schema_text()))
    validator.validate(yaml.safe_load(profile.shipped()[name].read_text()))
    saved = msgspec.structs.replace(
        profile.load(profile.shipped()[name]), evidence=evidence_of(tokens_per_s=1.0)
    )
    # By our own reader: to others an unquoted date is a date.
    from tputtui.profile.yamltext import read_yaml

    validator.validate(read_yaml(profile.dump(saved)))


@pytest.mark.parametrize(
    "text",
    [
        "tputtui: 1\nknob: {}",
        "tputtui: 1\nlimits: {max_num_seqs: 0}",
        "tputtui: 1\ngoal: {ttft: 3}",
        "tputtui: 2",
        "tputtui: 1\nload: {arrivals: {kind: poison, rate: 4}}",
    ],
)
def test_the_schema_refuses_what_the_reader_refuses(text: str) -> None:
    validator = jsonschema.Draft202012Validator(json.loads(schema_text()))
    assert list(validator.iter_errors(yaml.safe_load(text)))
    with pytest.raises(ProfileError):
        profile.parse(text, "x")


# -- what is no profile --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("tputtui: 1\ntputtui: 1", "line 2, column 1: the key 'tputtui' stands twice"),
        ("tputtui: 1\nengine: {a: 1, a: 2}", "the key 'a' stands twice"),
        ("tputtui: 1\nengine: {max-num-seqs: 1, max_num_seqs: 2}", "as max-num-seqs as well"),
        ("tputtui: 1\nengine: {max_num_seqs: 64}\nlimits: {max_num_seqs: 65}", "above its ceiling"),
        ("tputtui: !!int 1", "takes no tags"),
        ("tputtui: 1\nabout: !!binary aGk=", "takes no tags"),
        ("tputtui: 1\nengine: !!set {a}", "takes no tags"),
        ("tputtui: 1\nengine: {x: 1e999}", "too large a number"),
        ("tputtui: 1\nengine: {x: " + "9" * 5000 + "}", "not readable"),
        ("tputtui: 1\nengine: {? [a] : b}", "not readable"),
        ("tputtui: 1\n<<: {about: x}", "no such key"),
        ("tputtui: 1\nevidence: {state: tuned}", "evidence.state"),
        ("tputtui: 1\nevidence: {state: verified, tune: {}}", "`tuned`"),
        ("[" * 5000, "not readable"),
        ("tputtui: 1\nengine: {x: " + "{a: " * 3000 + "}" * 3000 + "}", "not readable"),
    ],
)
def test_what_yaml_allows_and_a_profile_does_not_is_a_sentence(text: str, says: str) -> None:
    with pytest.raises(ProfileError) as refusal:
        profile.parse(text, "x.yaml")
    assert says in str(refusal.value)
    assert "\n" not in refusal.value.message


def test_a_file_too_large_or_no_text_is_a_sentence(tmp_path: Path) -> None:
    large, binary = tmp_path / "large.yaml", tmp_path / "binary.yaml"
    large.write_bytes(b"#" * ((1 << 20) + 1))
    binary.write_bytes(b"tputtui: \xff")
    with pytest.raises(ProfileError, match="larger than"):
        profile.load(large)
    with pytest.raises(ProfileError, match="UTF-8"):
        profile.load(binary)
    with pytest.raises(ProfileError, match="directory"):
        profile.load(tmp_path)
    with pytest.raises(ProfileError, match="null"):
        profile.load(Path("a\0b"))


# 10,000 files in all: any text, any YAML, and profiles with something wrong in them.

TEXTS = st.one_of(
    st.text(max_size=200),
    st.text(alphabet="tputi: 1\n-[]{}#&*!|>'\"%@`,?x", max_size=120),
)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8),
    st.sampled_from(["closed", "fixed", "poisson", "1s", "ttft_p99", "shape:demo", "tuned live"]),
)  # fmt: skip
KEYS = st.one_of(
    st.sampled_from(
        ["tputtui", "about", "engine", "limits", "load", "goal", "price_per_hour", "evidence",
         "model", "max_num_seqs", "arrivals", "kind", "in_flight", "prompt", "output", "tokens",
         "seed", "tuned", "figures", "state", "window_s", "ttft_s", "versions", "goodput"]
    ),
    st.text(max_size=5),
)  # fmt: skip
TREES = st.recursive(
    SCALARS,
    lambda part: st.one_of(st.lists(part, max_size=3), st.dictionaries(KEYS, part, max_size=5)),
    max_leaves=12,
)


def told_cleanly(text: str, *, over: bool = False) -> None:
    """A valid profile that is written and read back the same, or a sentence."""
    try:
        found = profile.parse(text, "x.yaml")
    except ProfileError as refused:
        refusal = refused
    else:
        assert profile.parse(profile.dump(found), "x.yaml") == found
        if over:
            assert profile.parse(resaved(found, text), "x.yaml") == found
        return
    assert refusal.message.startswith("x.yaml: ")
    assert str(refusal).isprintable()


@settings(max_examples=MANY, deadline=None, suppress_health_check=list(HealthCheck))
@given(TEXTS)
def test_any_text_is_a_profile_or_a_sentence(text: str) -> None:
    told_cleanly(text)


@settings(max_examples=MANY // 4, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(KEYS, TREES, max_size=6))
def test_any_yaml_is_a_profile_or_a_sentence(tree: dict[str, Any]) -> None:
    told_cleanly(yaml.safe_dump({"tputtui": 1, **tree}, allow_unicode=True))


@settings(max_examples=MANY, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from([BY_HAND, DRAFT, *(p.read_text() for p in profile.shipped().values())]),
       st.randoms(use_true_random=False))  # fmt: skip
def test_a_profile_with_anything_wrong_in_it_is_a_profile_or_a_sentence(
    text: str, chance: random.Random
) -> None:
    told_cleanly(_spoilt(text, chance), over=chance.random() < 0.2)


def _spoilt(text: str, chance: random.Random) -> str:
    """Characters, words and lines changed, dropped, doubled or put elsewhere."""
    for _ in range(chance.randint(1, 4)):
        lines = text.splitlines(keepends=True) or [""]
        at = chance.randrange(len(lines))
        match chance.randrange(6):
            case 0:
                lines.insert(chance.randrange(len(lines)), lines[at])
            case 1:
                del lines[at]
            case 2:
                place = chance.randrange(max(1, len(lines[at])))
                odd = chance.choice(
                    ["\t", "-", ": ", "{", "}", "&a ", "*a", "!!x ", "\x00", "é", "0"]
                )
                lines[at] = lines[at][:place] + odd + lines[at][place + chance.randrange(3) :]
            case 3:
                lines[at] = lines[at].replace(":", "", 1)
            case 4:
                words = lines[at].split(" ")
                words[-1] = chance.choice(
                    ["-1\n", "1e400\n", "null\n", "[]\n", "{}\n", "yes\n", "~\n", "''\n"]
                )
                lines[at] = " ".join(words)
            case 5:
                lines[at] = " " * chance.randrange(4) + lines[at]
        text = "".join(lines)
    return text


def test_nothing_in_a_profile_runs(tmp_path: Path) -> None:
    for tag in ("!!python/object/apply:os.system", "!!python/name:os.system", "!!python/module:os"):
        with pytest.raises(ProfileError):
            profile.parse(f"tputtui: 1\nabout: {tag} ['touch {tmp_path}/ran']", "x")
        with pytest.raises(ProfileError):
            profile.parse(resaved(Profile(EngineSpec("m")), "") + f"x: {tag} []", "x")
    assert not list(tmp_path.iterdir())
