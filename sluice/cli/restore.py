"""`sluice restore`: a backup into an empty store."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from gateway.policies import Policies
from sluice.backup.file import BackupError, Known
from sluice.backup.writing import Restored, Restoring, checked, refuse_store
from sluice.cli.backup import TIMEOUT, Progress, about, contents
from sluice.cli.errors import CommandError
from sluice.cli.options import json_option, policies_option
from sluice.cli.policies import at_hand
from sluice.cli.screen import print_json
from sluice.console.messages.wording import size
from sluice.observe.printable import on_one_line
from sluice.process import embedded_store
from sluice.process.addresses import EMBEDDED, store_url
from sluice.store.client import Store, StoreAway


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="what `sluice backup` has written")
    parser.add_argument("--dry-run", action="store_true", help="only say whether it could be restored, and what it has")
    policies_option(parser)
    json_option(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    policies = at_hand(options.policies)
    try:
        found = checked(options.file)
        with Progress() as progress:
            restored = asyncio.run(_restore(policies, options, found, progress))
    except BackupError as error:
        raise CommandError(str(error)) from None
    if options.json:
        done = asdict(restored) if restored else None
        print_json({"file": str(options.file), **about(found.header, found.trailer, found.bytes), "restored": done})
    else:
        sys.stdout.write("".join(f"{line}\n" for line in _report(options.file, found, restored)))


async def _restore(
    policies: Policies, options: argparse.Namespace, found: Known, progress: Progress
) -> Restored | None:
    """None: it could be."""
    if options.dry_run and policies.store.url == EMBEDDED and not (policies.data / "store").exists():
        return None
    async with _answering(policies):
        store = Store(store_url(policies), timeout=TIMEOUT)
        try:
            await refuse_store(store, found)
            return None if options.dry_run else await Restoring(store, options.file, found, progress).run()
        except StoreAway as error:
            raise CommandError(
                f"the store does not answer ({error}); check store.url in policies.yaml, then run this again"
            ) from None
        finally:
            await store.close()


@asynccontextmanager
async def _answering(policies: Policies) -> AsyncIterator[None]:
    """The embedded store runs for as long as this takes."""
    if policies.store.url != EMBEDDED:
        yield
        return
    if policies.store.promise == "memory":
        raise CommandError(
            "store.promise: memory: the embedded store keeps nothing on the disk then, so what is restored would be "
            "gone when it stops; write second or always"
        )
    async with embedded_store.alone(policies.data, policies.store.promise, _warn):
        yield


def _warn(line: str) -> None:
    sys.stderr.write(f"sluice: {line}\n")


def _report(file: Path, found: Known, restored: Restored | None) -> list[str]:
    header = found.header
    at = datetime.fromtimestamp(header.at // 1000, UTC)
    made = f"{size(found.bytes)}, made at {at:%Y-%m-%dT%H:%M:%SZ} by sluice {header.version} on {header.store}"
    name, inside = on_one_line(str(file)), contents(header, found.trailer)
    if restored is None:
        return [f"{name} is whole and could be restored: {made}", *inside, "nothing was changed"]
    return [
        f"{name} is restored: {made}",
        *inside,
        "  what waited, or was under way to a receiver, goes out again",
        f"  stored sends that may have gone out since, and are dead letters now: {restored.sends:,}",
        "  nobody runs a session until a worker takes it; start Sluice now",
    ]
