"""The command line: the table of its commands, and how a refusal is said.

Each command has its options and its work in a file of its own, which is imported only when it is meant: a short
command starts fast.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from sluice import __version__, is_compiled
from sluice.cli import streams
from sluice.cli.errors import CommandError
from sluice.config import PolicyError
from sluice.config.data_folder import DataFolderError
from sluice.http.server.serving import CannotListen
from sluice.process import files
from sluice.store.client import StoreAway, StoreRefused
from sluice.store.embedded import EmbeddedStoreError

COMMANDS = (
    ("up", "everything on one machine, on the embedded store", "up:add_options"),
    ("gateway", "the edge alone", "processes:add_gateway_options"),
    ("relay", "the relay alone", "processes:add_relay_options"),
    ("worker", "a worker of the demo, which plays an existing one", "processes:add_worker_options"),
    ("demo-laravel", "the Laravel of the demo, with its limiter", "processes:add_laravel_options"),
    ("init", "write a policies file, with comments", "init:add_options"),
    ("check", "is a policies file valid", "check:add_options"),
    ("schema", "JSON Schema of policies.yaml, by which editors complete and check it", "schema:add_options"),
    ("status", "one screen: traffic, circuits, queues, sessions", "status:add_options"),
    ("history", "the last hour, day or 14 days: traffic, deliveries, sessions", "history:add_options"),
    ("explain", "what would become of a request, and why", "explain:add_options"),
    ("diff", "what an edit of the policies changes; exit code 0 nothing, 1 something", "diff:add_options"),
    ("policies", "the text in force, and what another one would do", "policies_trial:add_options"),
    ("replay", "who would have been refused, by the access log; exit code 1: somebody", "replay:add_options"),
    ("event", "what has happened to an event, and why it is not there yet", "event:add_options"),
    ("dead", "dead letters: deliveries that wait for a person", "dead:add_options"),
    ("queue", "what waits for the endpoints, and what was left by those that are gone", "queue:add_options"),
    ("circuit", "circuits of the endpoints: left to the results, or held by a person", "circuit:add_options"),
    ("limits", "how full the buckets of a subject are; full again, and what they delay let go", "limits:add_options"),
    ("sessions", "who runs which login", "sessions:add_options"),
    ("workers", "a worker of yours is emptied, and taken back", "workers:add_options"),
    (
        "alerts",
        "what goes wrong by the rules, who was told; silences, and a test of the receivers",
        "alerts:add_options",
    ),
    ("vault", "logins that are kept: listed, verified, pruned, sealed anew", "vault:add_options"),
    ("backup", "all that Sluice keeps in its store into one file, while everything runs", "backup:add_options"),
    ("restore", "a backup into an empty store", "restore:add_options"),
    ("audit", "who has changed what, and from where", "audit:add_options"),
    ("completion", "completion of commands and options for a shell", "completion:add_options"),
)
"""Name, help, and the function that adds its options."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 well, 1 the answer is no, 2 it could not be done, and standard error says why."""
    files.raise_limit()
    with streams.escaped():
        return _run(sys.argv[1:] if arguments is None else list(arguments))


def _run(given: Sequence[str]) -> int:
    options = _parser(given).parse_args(given)
    try:
        code: int | None = options.run(options)
        return code or 0
    except (PolicyError, CommandError, CannotListen, DataFolderError, EmbeddedStoreError, StoreAway) as error:
        sys.stderr.write(f"sluice: {error}\n")
    except StoreRefused as error:
        sys.stderr.write(f"sluice: the store refused: {error}\n")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # whoever read our output has seen enough
        return 0
    except KeyboardInterrupt:
        return 130
    except ExceptionGroup as group:
        for inner in group.exceptions:
            sys.stderr.write(f"sluice: {inner}\n")
        raise
    return 2


def whole_parser() -> argparse.ArgumentParser:
    """With the options of every command."""
    return _parser([], every=True)


def _parser(given: Sequence[str], *, every: bool = False) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sluice", description="The gate between a Laravel application and its WhatsApp-Web session workers."
    )
    how = "compiled" if is_compiled() else "plain Python"
    parser.add_argument("--version", action="version", version=f"sluice {__version__}, {how}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    meant = next((one for one in given if not one.startswith("-")), "")
    for name, about, place in COMMANDS:
        command = commands.add_parser(name, help=about, description=about)
        if every or name == meant:
            module, _, function = place.partition(":")
            getattr(import_module(f"sluice.cli.{module}"), function)(command)
    return parser
