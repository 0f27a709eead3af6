"""`sessions.one_phone` of `policies.yaml`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sessions.lifecycle.phones import Keep
from sluice.config import parsers
from sluice.config.fields import Value, section, setting
from sluice.config.parsers import choice

_keep: Callable[[Value], Keep] = choice("newest", "oldest", "allow")


@dataclass(frozen=True, slots=True)
class OnePhone:
    keep: Keep = setting(_keep, "newest")
    """Which of several connected sessions of one phone stays in its workspace."""
    enforce: bool = setting(parsers.boolean, False)
    """Existing workers, which know nothing of us, are asked to delete the others."""


def one_phone(value: Value) -> OnePhone:
    """Also the word alone: `one_phone: newest`."""
    return section(OnePhone)(value) if value.is_mapping else OnePhone(_keep(value))
