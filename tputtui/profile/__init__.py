"""The profile room: what to boot, what to load it with, how its limits stand. YAML in, YAML out.

A profile is a file a person can write by hand.
"""

from tputtui.profile.document import dump, parse
from tputtui.profile.files import find, load, read, save, shipped, user_dir, users
from tputtui.profile.spec import (
    DEFAULT_WORKLOAD,
    EngineSpec,
    EngineValue,
    Profile,
    Scalar,
    tokenizer_of,
)

__all__ = [
    "DEFAULT_WORKLOAD", "EngineSpec", "EngineValue", "Profile", "Scalar", "dump", "find", "load",
    "parse", "read", "save", "shipped", "tokenizer_of", "user_dir", "users",
]  # fmt: skip
