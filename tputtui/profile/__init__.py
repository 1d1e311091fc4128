"""Profiles: what to boot, which load to use, and the limits. Read from and written to YAML.

A person can write a profile by hand.
"""

from tputtui.profile.document import dump, parse
from tputtui.profile.files import beside, find, load, read, save, shipped, user_dir, users
from tputtui.profile.spec import (
    DEFAULT_WORKLOAD,
    EngineSpec,
    EngineValue,
    Profile,
    Scalar,
    may_render,
    tokenizer_of,
)

__all__ = [
    "DEFAULT_WORKLOAD", "EngineSpec", "EngineValue", "Profile", "Scalar", "beside", "dump", "find",
    "load", "may_render", "parse", "read", "save", "shipped", "tokenizer_of", "user_dir", "users",
]  # fmt: skip
