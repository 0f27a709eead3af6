"""Ranges of addresses, found by bisection. No I/O.

Networks are disjoint or one holds the other, so cutting the line of addresses wherever one begins or ends leaves
stretches in which the same networks are met.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

Met = tuple[tuple[int, float], ...]
"""Prefix length and end (Unix seconds, inf: none) of networks, the narrowest first."""


class Ranges:
    """Of one IP version: which networks hold an address."""

    def __init__(self, networks: Iterable[tuple[int, int, int, float]]) -> None:
        """First and last address, prefix length and end of each. The same network twice counts until its later end."""
        self._starts = [0]
        self._met: list[Met] = [()]
        ends: dict[tuple[int, int, int], float] = {}
        for first, last, bits, until in networks:
            ends[first, bits, last] = max(until, ends.get((first, bits, last), until))
        around: list[tuple[int, Met]] = []  # last address of each network we are in, and what is met in it
        for first, bits, last in sorted(ends):
            self._leave(around, first)
            met: Met = ((bits, ends[first, bits, last]), *(around[-1][1] if around else ()))
            around.append((last, met))
            self._cut(first, met)
        self._leave(around, 1 << 128)

    def _leave(self, around: list[tuple[int, Met]], before: int) -> None:
        """The networks that end before this address."""
        while around and around[-1][0] < before:
            last, _ = around.pop()
            self._cut(last + 1, around[-1][1] if around else ())

    def _cut(self, start: int, met: Met) -> None:
        if self._starts[-1] == start:
            self._met[-1] = met
        else:
            self._starts.append(start)
            self._met.append(met)

    def met(self, address: int) -> Met:
        return self._met[bisect_right(self._starts, address) - 1]
