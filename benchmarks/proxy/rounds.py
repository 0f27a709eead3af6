"""In what turn the peers are loaded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def there_and_back(items: Sequence[T], rounds: int) -> Iterator[tuple[int, T]]:
    """All of them once a round, each other round the other way, with the number of the round from 1 on: then a machine
    that becomes slower, or faster, does not always do so to the same."""
    for number in range(1, rounds + 1):
        for item in items if number % 2 else reversed(items):
            yield number, item
