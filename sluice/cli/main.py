"""The command line: what can be asked for, and how a refusal is said."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.policies import load
from sluice.cli.errors import CommandError, StatusUnavailable
from sluice.config import PolicyError
from sluice.config.problems import Malformed, quoted
from sluice.config.units import duration, listen, rate
from sluice.http.server.serving import CannotListen
from sluice.store.client import StoreAway, StoreRefused
from sluice.store.embedded import EmbeddedStoreError

if TYPE_CHECKING:
    from relay.queue.dead_letter_filter import Filter
    from sluice.config import Rate

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

_DEFAULT = Path("policies.yaml")


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 well, 1 the answer is no, 2 it could not be done, and standard error says why."""
    wishes = _parser().parse_args(arguments)
    try:
        code: int | None = wishes.run(wishes)
        return code or 0
    except (PolicyError, CommandError, CannotListen, EmbeddedStoreError, StatusUnavailable, StoreAway) as error:
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sluice", description="The gate between a Laravel application and its WhatsApp-Web session workers."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_processes(commands)
    _add_looking(commands)
    _add_dead(commands)
    _add_circuit(commands)
    _add_sessions(commands)
    return parser


def _command(commands: Commands, name: str, help_: str, run: object) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=help_, description=help_)
    parser.set_defaults(run=run)
    return parser


def _policies_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--policies", type=Path, default=_DEFAULT, metavar="FILE", help="default: policies.yaml")


# --- processes


def _add_processes(commands: Commands) -> None:
    up = _command(commands, "up", "everything on one machine, on the embedded store", _up)
    _processes_option(up)
    up.add_argument("--policies", type=Path, metavar="FILE", help="default: policies.yaml, or the demo's own")
    up.add_argument("--workers", type=_count, metavar="N", help="demo workers to run (default: 0, with --demo 2)")
    up.add_argument("--demo", action="store_true", help="with a Laravel that plays its limiter, workers and traffic")
    up.add_argument("--minute", type=_seconds, default=60.0, metavar="60s", help="the demo's minute; shorter is faster")
    up.add_argument("--sessions", type=_count, default=50, metavar="N", help="the demo's sessions (default: 50)")
    gateway = _command(commands, "gateway", "the edge alone", _gateway)
    _policies_option(gateway)
    _processes_option(gateway)
    gateway.add_argument("--one-of-several", metavar="NAME", help=argparse.SUPPRESS)  # how --processes starts its own
    _policies_option(_command(commands, "relay", "the relay alone", _relay))
    worker = _command(commands, "worker", "a session worker", _worker)
    _policies_option(worker)
    worker.add_argument("--driver", choices=["demo"], required=True, help="demo: plays an existing worker")
    worker.add_argument("--name", required=True, help="its id in the registry; the same after a restart")
    worker.add_argument("--listen", type=_address, default=("127.0.0.1", 0), metavar="HOST:PORT")
    worker.add_argument("--traffic", action="store_true", help="emit the demo's events")
    worker.add_argument("--minute", type=_seconds, default=60.0, metavar="60s", help="length of a minute of traffic")
    laravel = _command(commands, "demo-laravel", "the Laravel of the demo, with its limiter", _demo_laravel)
    _policies_option(laravel)
    laravel.add_argument("--listen", type=_address, default=("127.0.0.1", 8000), metavar="HOST:PORT")
    laravel.add_argument("--limit", type=_count, default=100, metavar="N")
    laravel.add_argument("--minute", type=_seconds, default=60.0, metavar="60s")


def _processes_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--processes", type=_processes, default=1, metavar="N", help="gateway processes (default: 1)")


def _up(wishes: argparse.Namespace) -> None:
    from sluice.cli import up
    from sluice.demo import deployment as demo

    path = wishes.policies or (demo.make_policies() if wishes.demo else _DEFAULT)
    workers = wishes.workers if wishes.workers is not None else (2 if wishes.demo else 0)
    up.run(load(path), up.Options(workers, wishes.demo, wishes.minute, wishes.sessions, wishes.processes))


def _gateway(wishes: argparse.Namespace) -> None:
    from sluice.cli import processes, up

    policies = load(wishes.policies)
    if wishes.processes > 1:
        up.run_gateways(policies, wishes.processes)
    else:
        processes.gateway(policies, wishes.one_of_several)


def _relay(wishes: argparse.Namespace) -> None:
    from sluice.cli import processes

    processes.relay(load(wishes.policies))


def _worker(wishes: argparse.Namespace) -> None:
    from sluice.cli import processes

    host, port = wishes.listen
    policies = load(wishes.policies)
    processes.demo_worker(policies, wishes.name, host, port, traffic=wishes.traffic, minute=wishes.minute)


def _demo_laravel(wishes: argparse.Namespace) -> None:
    from sluice.cli import processes

    host, port = wishes.listen
    processes.demo_laravel(load(wishes.policies), host, port, limit=wishes.limit, minute=wishes.minute)


# --- looking


def _add_looking(commands: Commands) -> None:
    check = _command(commands, "check", "is a policies file valid", _check)
    check.add_argument("file", type=Path, nargs="?", default=_DEFAULT, metavar="FILE", help="default: policies.yaml")
    check.add_argument("--json", action="store_true")
    status = _command(commands, "status", "one screen: traffic, circuits, queues, sessions", _status)
    _policies_option(status)
    status.add_argument("--json", action="store_true")
    explain = _command(commands, "explain", "what would become of a request, and why", _explain)
    explain.add_argument("--method", default="GET", metavar="METHOD")
    explain.add_argument("--path", required=True, metavar="PATH", help="with its query, as it would come")
    explain.add_argument("--ip", type=_ip, default="127.0.0.1", metavar="ADDRESS", help="who asks (default: 127.0.0.1)")
    explain.add_argument("--header", type=_header, action="append", default=[], metavar="'NAME: VALUE'")
    explain.add_argument("--body", default="", metavar="JSON", help="the body itself, or @FILE")
    explain.add_argument("--json", action="store_true")
    _policies_option(explain)
    diff = _command(commands, "diff", "what an edit of the policies changes; exit code 0 nothing, 1 something", _diff)
    diff.add_argument("old", type=Path, metavar="OLD")
    diff.add_argument("new", type=Path, metavar="NEW")
    diff.add_argument("--json", action="store_true")
    replay = _command(
        commands, "replay", "who would have been refused, by the access log; exit code 1: somebody", _replay
    )
    replay.add_argument("log", metavar="LOG", help="<data>/logs/gateway.jsonl, or - for standard input")
    replay.add_argument("--json", action="store_true")
    _policies_option(replay)
    event = _command(commands, "event", "what has happened to an event, and why it is not there yet", _event)
    event.add_argument("id")
    event.add_argument("--json", action="store_true")
    _policies_option(event)


def _check(wishes: argparse.Namespace) -> int:
    from sluice.cli import check

    return check.run(wishes.file, as_json=wishes.json)


def _status(wishes: argparse.Namespace) -> None:
    import orjson

    from sluice.cli import status
    from sluice.cli.screen import screen

    snapshot = asyncio.run(status.fetch(load(wishes.policies, need_secrets=False)))
    if wishes.json:
        sys.stdout.write(orjson.dumps(snapshot, option=orjson.OPT_INDENT_2).decode() + "\n")
    else:
        screen().print(status.render(snapshot))


def _explain(wishes: argparse.Namespace) -> int:
    from gateway.explain import HypotheticalRequest
    from sluice.cli import explain

    if not wishes.path.startswith("/"):
        raise CommandError(f"{quoted(wishes.path)} is not a path; write --path /{wishes.path}")
    body = _read(wishes.body[1:]) if wishes.body.startswith("@") else wishes.body.encode()
    asked = HypotheticalRequest(wishes.method.upper(), wishes.path, wishes.ip, tuple(wishes.header), body)
    return explain.run(wishes.policies, asked, as_json=wishes.json)


def _read(file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {(error.strerror or str(error)).lower()}") from None


def _diff(wishes: argparse.Namespace) -> int:
    from sluice.cli import diff

    return diff.run(wishes.old, wishes.new, as_json=wishes.json)


def _replay(wishes: argparse.Namespace) -> int:
    from sluice.cli import replay

    return replay.run(wishes.log, wishes.policies, as_json=wishes.json)


def _event(wishes: argparse.Namespace) -> int:
    from sluice.cli import event

    return event.show(wishes.policies, wishes.id, as_json=wishes.json)


# --- dead letters and sessions


def _add_dead(commands: Commands) -> None:
    dead = commands.add_parser("dead", help="dead letters", description="Deliveries that wait for a person.")
    inner = dead.add_subparsers(required=True, metavar="COMMAND")
    listing = _command(inner, "list", "list them", _dead_list)
    _filter_options(listing)
    listing.add_argument("--json", action="store_true", help="one JSON object a line")
    show = _command(inner, "show", "everything about one, with its body", _dead_show)
    show.add_argument("id")
    _policies_option(show)
    for name, help_, run in (
        ("replay", "send them again, in order", _dead_replay),
        ("drop", "erase them for good", _dead_drop),
    ):
        parser = _command(inner, name, help_, run)
        parser.add_argument("ids", nargs="*", metavar="ID")
        parser.add_argument("--all", action="store_true", help="all that the filters leave")
        parser.add_argument("--dry-run", action="store_true", help="only say how many, of which kind")
        _filter_options(parser)
        if name == "replay":
            rate = "1000/minute at most; without it the endpoint's own rate is the only one"
            parser.add_argument("--rate", type=_rate, metavar="RATE", help=rate)
        if name == "drop":
            parser.add_argument("--yes", action="store_true", help="do not ask")


def _filter_options(parser: argparse.ArgumentParser) -> None:
    _policies_option(parser)
    parser.add_argument("--endpoint", metavar="NAME")
    parser.add_argument("--session", metavar="ID")
    parser.add_argument("--event", metavar="TYPE", help="an event type or a glob")
    when = "a moment, 2026-01-31T12:00:00Z, or so long ago, 2h"
    parser.add_argument("--since", type=_moment, metavar="WHEN", help=f"that died then or later: {when}")
    parser.add_argument("--until", type=_moment, metavar="WHEN", help="that died before it")
    parser.add_argument("--reason", metavar="TEXT", help="that died of something with this in it")
    parser.add_argument("--text", metavar="TEXT", help="with this in body, path or headers")


def _dead_list(wishes: argparse.Namespace) -> int:
    from sluice.cli import dead

    return dead.list_letters(wishes.policies, _wanted(wishes, ()), as_json=wishes.json)


def _dead_show(wishes: argparse.Namespace) -> int:
    from sluice.cli import dead

    return dead.show(wishes.policies, wishes.id)


def _dead_replay(wishes: argparse.Namespace) -> int:
    from sluice.cli import dead

    return dead.replay(wishes.policies, _which(wishes), dry_run=wishes.dry_run, rate=wishes.rate)


def _dead_drop(wishes: argparse.Namespace) -> int:
    from sluice.cli import dead

    return dead.drop(wishes.policies, _which(wishes), dry_run=wishes.dry_run, sure=wishes.yes)


def _which(wishes: argparse.Namespace) -> Filter:
    if bool(wishes.ids) == wishes.all:
        raise CommandError("say which dead letters: their ids, or --all (with --endpoint, --session, --event)")
    return _wanted(wishes, tuple(wishes.ids))


def _wanted(wishes: argparse.Namespace, ids: tuple[str, ...]) -> Filter:
    from relay.queue.dead_letter_filter import Filter

    return Filter(
        *(ids, wishes.endpoint, wishes.session, wishes.event),
        *(wishes.since, wishes.until, wishes.reason, wishes.text),
    )


def _add_circuit(commands: Commands) -> None:
    about = "Whether an endpoint is sent to: left to the results, or held open or closed by a person."
    circuit = commands.add_parser("circuit", help="circuits of the endpoints", description=about)
    inner = circuit.add_subparsers(required=True, metavar="COMMAND")
    listing = _command(inner, "list", "list them", _circuit_list)
    listing.add_argument("--json", action="store_true", help="one JSON object a line")
    hold = _command(inner, "hold", "open: nothing is sent; closed: everything is, whatever comes of it", _circuit_hold)
    hold.add_argument("endpoint", metavar="ENDPOINT")
    hold.add_argument("state", choices=["open", "closed"])
    hold.add_argument("--why", default="", metavar="TEXT", help="for whoever looks at it")
    release = _command(inner, "release", "leave it to the results again", _circuit_release)
    release.add_argument("endpoint", metavar="ENDPOINT")
    for parser in (listing, hold, release):
        _policies_option(parser)


def _circuit_list(wishes: argparse.Namespace) -> int:
    from sluice.cli import circuit

    return circuit.list_circuits(wishes.policies, as_json=wishes.json)


def _circuit_hold(wishes: argparse.Namespace) -> int:
    from sluice.cli import circuit

    return circuit.hold(wishes.policies, wishes.endpoint, wishes.state, wishes.why)


def _circuit_release(wishes: argparse.Namespace) -> int:
    from sluice.cli import circuit

    return circuit.release(wishes.policies, wishes.endpoint)


def _add_sessions(commands: Commands) -> None:
    sessions = commands.add_parser("sessions", help="who runs which login", description="Who runs which login.")
    inner = sessions.add_subparsers(required=True, metavar="COMMAND")
    listing = _command(inner, "list", "list them", _sessions_list)
    _policies_option(listing)
    listing.add_argument("--json", action="store_true", help="one JSON object a line")
    show = _command(inner, "show", "everything about one", _sessions_show)
    show.add_argument("session")
    _policies_option(show)


def _sessions_list(wishes: argparse.Namespace) -> int:
    from sluice.cli import sessions

    return sessions.list_sessions(wishes.policies, as_json=wishes.json)


def _sessions_show(wishes: argparse.Namespace) -> int:
    from sluice.cli import sessions

    return sessions.show(wishes.policies, wishes.session)


# --- values


def _seconds(text: str) -> float:
    try:
        return duration(text)
    except Malformed as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _rate(text: str) -> Rate:
    try:
        return rate(text)
    except Malformed as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _moment(text: str) -> float:
    """Unix seconds, of a moment or of so long ago."""
    try:
        return time.time() - duration(text)
    except Malformed:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{quoted(text)} is neither a moment nor so long ago; write 2026-01-31T12:00:00Z or 2h"
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{quoted(text)} is not a number; write 0, 1, 2 or more")
    return int(text)


def _processes(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{quoted(text)} is not a number of processes; write 1, 2 or more")
    return int(text)


def _ip(text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{quoted(text)} is not an address; write 203.0.113.7 or 2001:db8::1"
        ) from None


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise argparse.ArgumentTypeError(f"{quoted(text)} is not a header; write 'Name: value'")
    return name.strip(), value.strip()


def _address(text: str) -> tuple[str, int]:
    try:
        found = listen(text)
    except Malformed as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return found.host, found.port
