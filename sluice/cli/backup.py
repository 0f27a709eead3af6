"""`sluice backup`: all that Sluice keeps in its store into one file, while everything runs."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from pathlib import Path

from gateway.policies import Policies
from sessions.profiles.policies import Folder
from sluice.backup.file import BackupError, Header, Trailer, Writer
from sluice.backup.reading import Reading
from sluice.cli.errors import CommandError
from sluice.cli.options import json_option, policies_option
from sluice.cli.policies import at_hand
from sluice.cli.screen import print_json
from sluice.cli.target import without_store
from sluice.console.messages.wording import size
from sluice.observe.printable import on_one_line
from sluice.process.addresses import store_url
from sluice.store.client import Store, StoreAway

TIMEOUT = 60.0
"""Seconds for one round trip."""
_SHOWN_EVERY = 0.2


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="is written for its owner only: secrets are in it")
    parser.add_argument("--replace", action="store_true", help="also where FILE is there already")
    policies_option(parser)
    json_option(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    policies, began = at_hand(options.policies), time.monotonic()
    try:
        with Writer(options.file, replace=options.replace) as out, Progress() as progress:
            header, trailer = asyncio.run(_read(policies, out, progress))
    except BackupError as error:
        raise CommandError(str(error)) from None
    took = time.monotonic() - began
    if options.json:
        print_json({"file": str(options.file), "seconds": round(took, 3), **about(header, trailer, out.bytes)})
        return
    lines = [
        f"{on_one_line(str(options.file))}: {size(out.bytes)}, read in {took:.1f}s from {header.store}",
        *contents(header, trailer),
    ]
    sys.stdout.write("".join(f"{line}\n" for line in lines))


async def _read(policies: Policies, out: Writer, progress: Progress) -> tuple[Header, Trailer]:
    store = Store(store_url(policies), timeout=TIMEOUT)
    try:
        return await Reading(store, out, progress).run(_place(policies))
    except StoreAway as error:
        raise without_store(policies, error) from None
    finally:
        await store.close()


def _place(policies: Policies) -> str:
    vault = policies.sessions.vault
    if vault is None or vault.place == "store":
        return "" if vault is None else "store"
    return "folder" if isinstance(vault.place, Folder) else "bucket"


def about(header: Header, trailer: Trailer, length: int) -> dict[str, object]:
    """For programs."""
    return {
        "bytes": length,
        "version": header.version,
        "layout": header.layout,
        "store": header.store,
        "at": header.at / 1000,
        "until": trailer.at / 1000,
        "keys": trailer.keys,
        "events": trailer.events,
        "sessions": trailer.sessions,
        "logins": trailer.logins,
        "contents_of_logins": header.place,
    }


def contents(header: Header, trailer: Trailer) -> list[str]:
    """For people."""
    families = ", ".join(f"{name} {count:,}" for name, count in trailer.keys.items())
    return [
        f"  events that wait or are dead {trailer.events:,}, sessions {trailer.sessions:,}, logins {trailer.logins:,}",
        f"  keys: {families or 'none'}",
        *([_PLACES[header.place]] if header.place else []),
    ]


_APART = "  the chunks of the logins are not in it: back up the {} of sessions.vault.url after it (docs/backup.md)"
_PLACES = {
    "store": "  the logins are in it, sealed: keep sessions.vault.key apart from it, without which they cannot be read",
    "folder": _APART.format("folder"),
    "bucket": _APART.format("bucket"),
}


class Progress:
    """One line on a terminal, which goes when the work has ended; nothing anywhere else."""

    def __init__(self) -> None:
        self._shows = sys.stderr.isatty()
        self._shown = 0.0

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shows:
            sys.stderr.write("\r\033[K")

    def __call__(self, text: str) -> None:
        now = time.monotonic()
        if self._shows and now - self._shown >= _SHOWN_EVERY:
            self._shown = now
            sys.stderr.write(f"\r\033[K{text}")
            sys.stderr.flush()
