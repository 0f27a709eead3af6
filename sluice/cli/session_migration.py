"""`sluice sessions migrate` and `export`: logins of other programs into the vault, and back again.

They run where the files are, and open store and vault as the policies say: no gateway is asked.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from gateway.policies import Policies
from sessions.registry import Registry
from sluice.cli.errors import CommandError
from sluice.cli.options import command, count, json_option, policies_option
from sluice.cli.policies import at_hand
from sluice.cli.screen import print_json, print_rows
from sluice.cli.target import Opened, without_store
from sluice.console.actions.deployment import Problem
from sluice.console.actions.vault_pages import no_key, vault_of
from sluice.observe.printable import on_one_line
from sluice.process.addresses import store_url
from sluice.store.client import Store, StoreAway

if TYPE_CHECKING:
    from sessions.profiles.migration import Report, Tell, Undone
    from sessions.profiles.migration_plan import Stage
    from sessions.profiles.vault import Vault
    from sluice.cli.options import Commands

_TIMEOUT = 10.0
_PROGRESS_EVERY = 2.0  # seconds
_FORMS = ("local-auth", "remote-auth")
_SAID = {"taken_back": "taken back"}
T = TypeVar("T")


def add_commands(commands: Commands) -> None:
    migrate = command(commands, "migrate", "move logins of whatsapp-web.js on this disk into the vault", _migrate)
    migrate.add_argument("path", type=Path, metavar="PATH", help="a dataPath, a folder above it, or one login")
    migrate.add_argument("--only", action="append", default=[], metavar="ID", help="this session; may be repeated")
    migrate.add_argument("--batch", type=count, metavar="N", help="so many at most, the next ones that are ready")
    migrate.add_argument("--all", action="store_true", help="all that are ready")
    migrate.add_argument(
        "--as", dest="name", default="", metavar="ID", help="the session of the one login that is at PATH"
    )
    migrate.add_argument("--replace", action="store_true", help="with --only: also where the vault has another login")
    migrate.add_argument("--undo", action="store_true", help="take back what was moved, where nobody has used it since")
    migrate.add_argument("--yes", action="store_true", help="do it; without it only what would happen is said")
    export = command(commands, "export", "write a login of the vault for whatsapp-web.js", _export)
    export.add_argument("session", metavar="SESSION")
    export.add_argument("--as", dest="form", choices=_FORMS, required=True, help="session-ID/, or RemoteAuth-ID.zip")
    export.add_argument("path", type=Path, metavar="PATH", help="the dataPath; what is there is not overwritten")
    export.add_argument("--generation", type=count, metavar="N", help="default: the newest that can be read")
    export.add_argument("--dry-run", action="store_true", help="only say what would be written")
    for one in (migrate, export):
        policies_option(one)
        json_option(one)


def _migrate(options: argparse.Namespace) -> int:
    from sessions.profiles.migration_plan import Stage

    if options.yes and not (options.only or options.all or options.batch is not None):
        raise CommandError("say which: --only ID, --batch 10 or --all")
    if options.all and (options.only or options.batch is not None):
        raise CommandError("--all goes without --only and --batch")
    if options.replace and not options.only:
        raise CommandError("--replace needs --only ID: it is decided for each session")
    if options.undo and (options.replace or options.name):
        raise CommandError("--undo goes without --as and --replace: it knows what was moved, and what was there before")
    stage = Stage(options.only, options.batch, options.replace, options.name)
    path = Path(os.path.realpath(options.path))
    work = _undo if options.undo else _move
    return _opened(options, lambda policies, store, vault: work(options, path, stage, policies, store, vault))


async def _move(
    options: argparse.Namespace, path: Path, stage: Stage, policies: Policies, store: Store, vault: Vault
) -> int:
    from sessions.profiles.migration import Migration, report, scratch

    with scratch(policies.data) as folder:
        migration = Migration(vault, store, socket.gethostname(), folder)
        planned = await migration.plan(path, stage)
        if not options.yes:
            return _tell(options, report(planned, dry_run=True))
        with _progress() as tell:
            done = await migration.run(planned, stage, tell)
    return _tell(options, done)


async def _undo(
    options: argparse.Namespace, path: Path, stage: Stage, policies: Policies, store: Store, vault: Vault
) -> int:
    from sessions.profiles.migration import Migration, scratch

    with scratch(policies.data) as folder:
        undone = await Migration(vault, store, socket.gethostname(), folder).undo(path, stage, dry_run=not options.yes)
    return _tell_undone(options, undone)


def _export(options: argparse.Namespace) -> int:
    async def work(policies: Policies, store: Store, vault: Vault) -> int:
        from sessions.profiles.exporting import export

        row = await Registry(store, policies.sessions.lease).session(options.session)
        done = await export(
            vault,
            options.session,
            options.form,
            Path(os.path.abspath(options.path)),  # noqa: ASYNC240 - nothing else waits here
            number=options.generation,
            dry_run=options.dry_run,
        )
        if options.json:
            print_json(done)
            return 0
        lines = [f"generation {done.generation}, {_size(done.size)}, {done.browser or 'of an unknown browser'}"]
        lines += [f"not the newest: {why}" for why in done.skipped]
        lines.append(f"{'written' if done.exported else 'would be written'}: {done.target}")
        if row is not None and row.worker is not None:
            lines.append(f"{row.worker} runs it: stop it there first, as one login in two browsers ends in a logout")
        sys.stdout.write("".join(f"{on_one_line(line)}\n" for line in lines))
        return 0

    return _opened(options, work)


def _opened(options: argparse.Namespace, work: Callable[[Policies, Store, Vault], Awaitable[T]]) -> T:
    """Runs `work` on the vault of the policies. Raises CommandError."""
    from sessions.profiles.errors import ProfileError

    policies = at_hand(options.policies)

    async def run() -> T:
        store = Store(store_url(policies), timeout=_TIMEOUT)
        opened = Opened(policies, store, Registry(store, policies.sessions.lease))
        try:
            vault = vault_of(opened)
            problem = vault.message if isinstance(vault, Problem) else no_key(opened)
            if isinstance(vault, Problem) or problem:
                raise CommandError(problem or "")
            return await work(policies, store, vault)
        finally:
            await store.close()

    try:
        return asyncio.run(run())
    except StoreAway as error:
        raise without_store(policies, error) from None
    except ProfileError as error:
        raise CommandError(str(error)) from None
    except OSError as error:
        raise CommandError(f"{error.filename or options.path}: {(error.strerror or str(error)).lower()}") from None


@contextmanager
def _progress() -> Iterator[Tell]:
    """On standard error: a bar on a terminal, else a line now and then."""
    if not sys.stderr.isatty():
        yield _Lines().tell
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True, markup=False), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total, session: bar.update(
            task, description=on_one_line(session), completed=done, total=total
        )


class _Lines:
    def __init__(self) -> None:
        self._next = time.monotonic() + _PROGRESS_EVERY

    def tell(self, done: int, total: int, session: str) -> None:
        if session and time.monotonic() >= self._next:
            self._next = time.monotonic() + _PROGRESS_EVERY
            sys.stderr.write(f"done: {done:,} of {total:,}; next is {on_one_line(session)}\n")


def _tell(options: argparse.Namespace, done: Report) -> int:
    if options.json:
        print_json(done)
        return 0 if done.is_well else 1
    rows = []
    for it in done.logins:
        size = f"{_size(it.size)} {it.backend}".strip() if it.files else "-"
        rows.append((it.session or "-", it.state, size, it.source, it.detail))
    print_rows(("session", "state", "size", "source", "why"), rows)
    lines = [f"not looked into: {why}" for why in done.passed_over]
    lines.append(f"below {done.path}: {', '.join(f'{number} {state}' for state, number in done.counts.items())}")
    lines += _next_steps(done)
    sys.stdout.write("".join(f"{on_one_line(line)}\n" for line in lines))
    if done.stopped:
        sys.stderr.write(f"sluice: stopped: {on_one_line(done.stopped)}\n")
    return 0 if done.is_well else 1


def _next_steps(done: Report) -> Iterator[str]:
    if done.dry_run:
        yield "nothing was done; move them with --yes and one of --only ID, --batch 10, --all"
    elif "ready" in done.counts:
        yield "those that are ready were not meant, or it was stopped before them: go on when these run well"
    if "waiting" in done.counts:
        yield "those that wait go first in the next run after their browser has ended: nobody is stopped for them"


def _tell_undone(options: argparse.Namespace, undone: Undone) -> int:
    if options.json:
        print_json(undone)
        return 0 if undone.is_well else 1
    rows = []
    for it in undone.logins:
        numbers = ", ".join(map(str, it.generations)) or "-"
        rows.append((it.session, _SAID.get(it.state, it.state), numbers, it.source, it.detail))
    print_rows(("session", "state", "generations", "source", "why"), rows)
    if undone.dry_run:
        sys.stdout.write("nothing was done; take them back with --yes and one of --only ID, --batch 10, --all\n")
    if undone.stopped:
        sys.stderr.write(f"sluice: stopped: {on_one_line(undone.stopped)}\n")
    return 0 if undone.is_well else 1


def _size(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"
