"""What an edit keeps, makes anew and takes away."""

from __future__ import annotations

import pytest

from sluice.process.by_settings import BySettings


class Thing:
    def __init__(self, name: str) -> None:
        self.name = name


def test_what_has_the_same_settings_is_kept() -> None:
    before = BySettings[Thing]().edited({"a": 1, "b": 1}, Thing)
    after = before.edited({"b": 1, "a": 2, "c": 1}, Thing)
    assert after.things["b"] is before.things["b"]
    assert after.things["a"] is not before.things["a"]
    assert list(after.things) == ["b", "a", "c"]


def test_what_is_replaced_or_removed_is_told_for_closing_and_what_is_new_for_starting() -> None:
    before = BySettings[Thing]().edited({"kept": 1, "replaced": 1, "removed": 1}, Thing)
    after = before.edited({"kept": 1, "replaced": 2, "added": 1}, Thing)
    assert before.missing_in(after) == {name: before.things[name] for name in ("replaced", "removed")}
    assert after.missing_in(before) == {name: after.things[name] for name in ("replaced", "added")}


def test_what_cannot_be_made_changes_nothing() -> None:
    before = BySettings[Thing]().edited({"a": 1}, Thing)
    known = dict(before.things)

    def fail(name: str) -> Thing:
        raise ValueError(name)

    with pytest.raises(ValueError, match="b"):
        before.edited({"a": 1, "b": 1}, fail)
    assert before.things == known
