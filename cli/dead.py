"""`sluice dead`: dead letters, listed, shown, sent again, dropped."""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import orjson
from rich.table import Table

from cli.opening import with_store
from cli.refusal import CannotStart
from cli.screen import screen
from relay.dead import DeadLetter, DeadLetters
from runtime.policies import Policies
from runtime.store import Store

_AT_ONCE = 100
Act = Callable[[DeadLetters, Sequence[DeadLetter]], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class Filter:
    """Which letters are meant: those of `ids`, or all that have these properties. None: any."""

    ids: tuple[str, ...] = ()
    endpoint: str | None = None
    session: str | None = None
    event: str | None = None
    """A type or a glob."""

    def has(self, letter: DeadLetter) -> bool:
        return (
            (not self.ids or letter.id in self.ids)
            and (self.session is None or letter.session == self.session)
            and (self.event is None or fnmatchcase(letter.type, self.event))
        )


def list_letters(path: Path, wanted: Filter, *, as_json: bool) -> int:
    """Prints them, oldest first."""

    async def work(policies: Policies, store: Store) -> list[tuple[str, DeadLetter]]:
        return await _find(policies, store, wanted)

    letters = with_store(path, work)
    if as_json:
        for endpoint, letter in letters:
            _print_json(_about(endpoint, letter))
    elif not letters:
        sys.stdout.write("no dead letters\n")
    else:
        _print_table(letters)
    return 0


def show(path: Path, identity: str) -> int:
    """Prints everything about one, with its body."""

    async def work(policies: Policies, store: Store) -> list[tuple[str, DeadLetter]]:
        return await _find(policies, store, Filter(ids=(identity,)))

    letters = with_store(path, work)
    if not letters:
        raise CannotStart(f"there is no dead letter {identity}; `sluice dead list` shows them")
    for endpoint, letter in letters:
        about = _about(endpoint, letter)
        about["headers"] = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in letter.headers]
        about["body"] = letter.body.decode("utf-8", "replace")
        sys.stdout.write(orjson.dumps(about, option=orjson.OPT_INDENT_2).decode() + "\n")
    return 0


def replay(path: Path, wanted: Filter, *, dry_run: bool) -> int:
    """Sends them again: each goes before younger events of its session."""
    return _act(path, wanted, DeadLetters.replay, "replayed", dry_run=dry_run)


def drop(path: Path, wanted: Filter, *, dry_run: bool) -> int:
    """Erases them for good."""
    return _act(path, wanted, DeadLetters.drop, "dropped", dry_run=dry_run)


def _act(path: Path, wanted: Filter, act: Act, done: str, *, dry_run: bool) -> int:
    async def work(policies: Policies, store: Store) -> int:
        letters = await _find(policies, store, wanted)
        missing = set(wanted.ids) - {letter.id for _, letter in letters}
        if missing:
            raise CannotStart(f"no dead letter {', '.join(sorted(missing))}; `sluice dead list` shows them")
        if dry_run:
            return len(letters)
        count = 0
        for name in {endpoint for endpoint, _ in letters}:
            letters_of = DeadLetters(store, name)
            mine = [letter for endpoint, letter in letters if endpoint == name]
            for first in range(0, len(mine), _AT_ONCE):
                count += await act(letters_of, mine[first : first + _AT_ONCE])
        return count

    count = with_store(path, work)
    sys.stdout.write(f"would be {done}: {count}\n" if dry_run else f"{done}: {count}\n")
    return 0


async def _find(policies: Policies, store: Store, wanted: Filter) -> list[tuple[str, DeadLetter]]:
    endpoints = policies.relay.endpoints
    if wanted.endpoint is not None and wanted.endpoint not in endpoints:
        raise CannotStart(
            f"there is no endpoint {wanted.endpoint}; {policies.source} has {', '.join(endpoints) or 'none'}"
        )
    names = [wanted.endpoint] if wanted.endpoint else list(endpoints)
    found = [(name, letter) for name in names async for letter in DeadLetters(store, name).all() if wanted.has(letter)]
    return sorted(found, key=lambda pair: pair[1].died_at)


def _about(endpoint: str, letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "endpoint": endpoint,
        "event": letter.type,
        "session": letter.session,
        "accepted": _moment(letter.accepted_at),
        "died": _moment(letter.died_at),
        "reason": letter.reason,
        "target": letter.target.decode("latin-1"),
        "bytes": len(letter.body),
    }


def _print_json(value: dict[str, Any]) -> None:
    sys.stdout.write(orjson.dumps(value).decode() + "\n")


def _print_table(letters: list[tuple[str, DeadLetter]]) -> None:
    table = Table(box=None, header_style="bold")
    table.add_column("id", no_wrap=True)  # it is there to be copied
    for title in ("endpoint", "event", "session", "died", "reason"):
        table.add_column(title)
    for endpoint, letter in letters:
        reason = letter.reason.splitlines()[0][:80] if letter.reason else ""
        table.add_row(letter.id, endpoint, letter.type, letter.session or "-", _moment(letter.died_at), reason)
    console = screen()
    console.print(table)
    console.print(f"{len(letters)} dead letters; send them again with `sluice dead replay ID` or `--all`")


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
