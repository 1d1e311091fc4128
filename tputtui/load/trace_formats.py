"""The kinds of trace that are read line by line: Azure, BurstGPT, Mooncake, Bailian, Weka, our own.

Each record is read when the caller takes it; only the last time is kept. In all formats a length of
0 is read as 1 (logs contain failed requests with 0, and an engine needs at least 1), and a record
earlier than the previous one gets the time of that one, so times never decrease.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from tputtui.load.trace_jobs import OwnJobLine, WekaLine, own_jobs, weka
from tputtui.load.trace_lines import Lines, TraceRecord
from tputtui.load.trace_objects import BailianLine, MooncakeLine, OwnLine, bailian, mooncake, own
from tputtui.load.trace_tables import AZURE, BURSTGPT, azure, burstgpt

__all__ = ["LINE_FORMATS", "LineFormat"]


class LineFormat(NamedTuple):
    """A kind of trace that is read line by line.

    title: the name for a person.
    keys: the columns, or the keys of each object, that identify it.
    example: a header, or a line.
    """

    title: str
    json: bool
    keys: tuple[str, ...]
    example: str
    records: Callable[[Lines], Iterator[TraceRecord]]


LINE_FORMATS = {
    "azure": LineFormat("Azure", False, AZURE, ",".join(AZURE), azure),
    "burstgpt": LineFormat("BurstGPT", False, BURSTGPT, ",".join(BURSTGPT), burstgpt),
    "mooncake": LineFormat(
        "Mooncake",
        True,
        MooncakeLine.__struct_fields__,
        '{"timestamp": 27482, "input_length": 6955, "output_length": 52, "hash_ids": [46, 47]}',
        mooncake,
    ),
    "bailian": LineFormat(
        "Bailian",
        True,
        BailianLine.__struct_fields__,
        '{"chat_id": 3, "timestamp": 6.1, "input_length": 9, "output_length": 5, "hash_ids": [4]}',
        bailian,
    ),
    "weka": LineFormat(
        "Weka",
        True,
        WekaLine.__struct_fields__,
        '{"block_size": 64, "requests": [{"t": 0.0, "in": 900, "out": 80, "hash_ids": [1, 2]}]}',
        weka,
    ),
    "jobs": LineFormat(
        "tputtui jobs",
        True,
        OwnJobLine.__struct_fields__,
        '{"steps": [{"id": "a", "prompt_tokens": 900, "output_tokens": 80}, {"after": ["a"], …}]}',
        own_jobs,
    ),
    "tputtui": LineFormat(
        "tputtui",
        True,
        OwnLine.__struct_fields__,
        '{"at_s": 0.5, "prompt_tokens": 128, "output_tokens": 64}',
        own,
    ),
}
