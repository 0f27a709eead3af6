"""Which override of a limit counts for a subject: the most specific one that has not ended. No I/O.

A session by its name, then sessions by a glob (the longest text before its first `*`), then the workspace in the same
two ways, then the trusted list with the longest prefix. Between equals, the first in the file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fnmatch import translate

from gateway.client_ip import Client
from gateway.policies import AddressList, Override
from sluice.process.cache import Cache


class Overrides:
    def __init__(self, overrides: Sequence[Override], lists: Mapping[str, AddressList]) -> None:
        self._of_session = _Named([it for it in overrides if it.by == "session"]).met_by
        self._of_workspace = _Named([it for it in overrides if it.by == "workspace"]).met_by
        self._listed = [(it, lists[name]) for it in overrides if it.by == "list" for name in it.names]

    def of(self, session: str | None, workspace: str | None, client: Client, now: float) -> Override | None:
        for override in self._of_session(session) + self._of_workspace(workspace):
            if override.until is None or now < override.until:
                return override
        return self._of_list(client, now) if self._listed else None

    def of_session(self, session: str, now: float) -> Override | None:
        """Of those by session alone."""
        return next((it for it in self._of_session(session) if it.until is None or now < it.until), None)

    def _of_list(self, client: Client, now: float) -> Override | None:
        found, longest = None, -1
        for override, listed in self._listed:
            if override.until is None or now < override.until:
                bits = listed.max_prefix(client.address, now)
                if bits is not None and bits > longest:
                    found, longest = override, bits
        return found


class _Named:
    """Overrides by names and globs."""

    def __init__(self, overrides: Sequence[Override]) -> None:
        patterns = [(name, override) for override in overrides for name in override.names]
        self._ranked = [
            (_matcher(name), override) for name, override in sorted(patterns, key=lambda it: _rank(it[0]), reverse=True)
        ]
        self._met: Cache[str, tuple[Override, ...]] = Cache(2**20)

    def met_by(self, name: str | None) -> tuple[Override, ...]:
        """The most specific first."""
        if name is None or not self._ranked:
            return ()
        known = self._met.get(name)
        if known is not None:
            return known
        met = tuple(override for matcher, override in self._ranked if matcher.match(name))
        return self._met.keep(name, met, name.__sizeof__() + 8 * len(met))


def _rank(pattern: str) -> tuple[bool, int]:
    return "*" not in pattern, len(pattern.partition("*")[0])


def _matcher(pattern: str) -> re.Pattern[str]:
    """`*` alone is special. By way of fnmatch, whose patterns take no longer for a name made up to be slow."""
    return re.compile(translate(re.sub(r"([?[])", r"[\1]", pattern)))
