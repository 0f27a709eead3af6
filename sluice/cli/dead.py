"""`sluice dead`: dead letters, listed, shown, sent again, dropped."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace as changed
from pathlib import Path
from typing import Any

import orjson
from rich.table import Table

from gateway.policies import Policies
from relay.queue.dead_letter_filter import Filter
from relay.queue.dead_letters import DeadLetter, DeadLetters
from sluice.cli.errors import CommandError
from sluice.cli.opening import with_store
from sluice.cli.screen import screen
from sluice.config import Rate
from sluice.store.client import Store

_AT_ONCE = 100
_TOLD_EVERY = 2.0  # seconds
_MAX_KINDS = 20
Act = Callable[[DeadLetters, Sequence[DeadLetter]], Awaitable[int]]


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
        raise CommandError(f"there is no dead letter {identity}; `sluice dead list` shows them")
    for endpoint, letter in letters:
        about = _about(endpoint, letter)
        about["headers"] = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in letter.headers]
        about["body"] = letter.body.decode("utf-8", "replace")
        sys.stdout.write(orjson.dumps(about, option=orjson.OPT_INDENT_2).decode() + "\n")
    return 0


def replay(path: Path, wanted: Filter, *, dry_run: bool, rate: Rate | None = None) -> int:
    """Sends them again, each before younger events of its session; at most at `rate`.

    Those that die again while it runs are left alone. Cut short, it goes on when it is run again with the same filter
    and the `--until` that it says: what was replayed is no longer dead.
    """
    return _act(path, wanted, DeadLetters.replay, "replayed", dry_run=dry_run, rate=rate)


def drop(path: Path, wanted: Filter, *, dry_run: bool, sure: bool) -> int:
    """Erases them for good. Unless `sure`, a person is shown what is meant, and asked."""
    return _act(path, wanted, DeadLetters.drop, "dropped", dry_run=dry_run, ask=not sure)


def _act(
    path: Path,
    wanted: Filter,
    act: Act,
    done: str,
    *,
    dry_run: bool,
    ask: bool = False,
    rate: Rate | None = None,
) -> int:
    async def work(policies: Policies, store: Store) -> int:
        until = wanted.until
        if until is None and not wanted.ids:
            until = await DeadLetters(store, "").now()
        letters = await _find(policies, store, changed(wanted, until=until), bodies=False)
        missing = set(wanted.ids) - {letter.id for _, letter in letters}
        if missing:
            raise CommandError(f"no dead letter {', '.join(sorted(missing))}; `sluice dead list` shows them")
        if dry_run or ask:
            _print_counts(letters)
            sys.stdout.write(f"would be {done}: {len(letters)}\n")
        if dry_run:
            return 0
        if ask and not _is_sure():
            sys.stderr.write(f"sluice: nothing was {done}; say yes, or give --yes\n")
            return 1
        count = await _do(store, letters, act, _Progress(done, len(letters), until), rate)
        sys.stdout.write(f"{done}: {count}\n")
        return 0

    return with_store(path, work)


def _is_sure() -> bool:
    sys.stdout.flush()
    return sys.stdin.isatty() and input("erase them for good? [y/N] ").strip().lower() in ("y", "yes")


async def _do(
    store: Store, letters: list[tuple[str, DeadLetter]], act: Act, progress: _Progress, rate: Rate | None
) -> int:
    """How many were still dead."""
    count = handled = 0
    for endpoint, together in _steps(letters, _AT_ONCE if rate is None else _in_a_second(rate)):
        count += await act(DeadLetters(store, endpoint), together)
        handled += len(together)
        progress.tell(count)
        if rate is not None and handled < len(letters):
            await asyncio.sleep(len(together) * rate.interval)
    return count


def _steps(letters: list[tuple[str, DeadLetter]], most: int) -> Iterator[tuple[str, list[DeadLetter]]]:
    """Of each endpoint in the order in which they were accepted, so that within a session none overtakes another."""
    for name in sorted({endpoint for endpoint, _ in letters}):
        mine = sorted((letter for endpoint, letter in letters if endpoint == name), key=lambda one: one.sequence)
        for first in range(0, len(mine), most):
            yield name, mine[first : first + most]


def _in_a_second(rate: Rate) -> int:
    return max(1, min(_AT_ONCE, int(1 / rate.interval)))


class _Progress:
    """Lines on standard error while there is more to do than a few."""

    def __init__(self, done: str, total: int, until: float | None) -> None:
        self._done, self._total = done, total
        self._next = time.monotonic() + _TOLD_EVERY
        if until is not None and total > _AT_ONCE:
            moment = _exact(until)
            sys.stderr.write(f"{total:,} to do; should this be cut short, run it again with --until {moment}\n")

    def tell(self, count: int) -> None:
        if count < self._total and time.monotonic() >= self._next:
            self._next = time.monotonic() + _TOLD_EVERY
            sys.stderr.write(f"{self._done}: {count:,} of {self._total:,}\n")


def _print_counts(letters: list[tuple[str, DeadLetter]]) -> None:
    """What a dry run is for: whether these are the ones that are meant."""
    kinds = Counter((endpoint, letter.type, _first_line(letter.reason)) for endpoint, letter in letters)
    for (endpoint, event, reason), count in kinds.most_common(_MAX_KINDS):
        sys.stdout.write(f"{count:>8,}  {endpoint}  {event}  {reason}\n")
    if len(kinds) > _MAX_KINDS:
        sys.stdout.write(f"          and {len(kinds) - _MAX_KINDS:,} kinds more\n")


async def _find(
    policies: Policies, store: Store, wanted: Filter, *, bodies: bool = True
) -> list[tuple[str, DeadLetter]]:
    """Oldest first. Without `bodies` and headers, which may be many megabytes."""
    endpoints = policies.relay.endpoints
    if wanted.endpoint is not None and wanted.endpoint not in endpoints:
        raise CommandError(
            f"there is no endpoint {wanted.endpoint}; {policies.source} has {', '.join(endpoints) or 'none'}"
        )
    names = [wanted.endpoint] if wanted.endpoint else list(endpoints)
    found = [
        (name, letter if bodies else changed(letter, body=b"", headers=()))
        for name in names
        async for letter in DeadLetters(store, name).all()
        if wanted.has(letter)
    ]
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
        moment, reason = _moment(letter.died_at), _first_line(letter.reason)
        table.add_row(letter.id, endpoint, letter.type, letter.session or "-", moment, reason)
    console = screen()
    console.print(table)
    console.print(f"{len(letters)} dead letters; send them again with `sluice dead replay ID` or `--all`")


def _first_line(reason: str) -> str:
    return reason.splitlines()[0][:80] if reason else ""


def _exact(seconds: float) -> str:
    return _moment(seconds)[:-1] + f".{int(seconds % 1 * 1000):03d}Z"


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
