"""`sluice circuit`: the circuits of the endpoints, looked at, held by a person, released, and tried out."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime

from relay.circuit import MAX_KEYS
from sluice.cli.options import command, subcommands, target_options
from sluice.cli.screen import print_json, screen, table
from sluice.cli.target import ask
from sluice.console.actions.circuits import (
    PROBED_WITHIN,
    CircuitOfEndpoint,
    HeldCircuit,
    HoldCircuit,
    ListCircuits,
    ProbeCircuit,
    ProbedCircuit,
)
from sluice.console.messages import age
from sluice.console.messages.endpoints import answers_of
from sluice.console.operations import HOLD_CIRCUIT, LIST_CIRCUITS, PROBE_CIRCUIT
from sluice.observe.printable import on_one_line


def add_options(parser: argparse.ArgumentParser) -> None:
    commands = subcommands(parser)
    listing = command(commands, "list", "list them", _list)
    hold = command(commands, "hold", "open: nothing is sent; closed: everything is, whatever comes of it", _hold)
    hold.add_argument("endpoint", metavar="ENDPOINT")
    hold.add_argument("state", choices=["open", "closed"])
    hold.add_argument("--why", default="", metavar="TEXT", help="for whoever looks at it")
    release = command(commands, "release", "leave it to the results again", _release)
    release.add_argument("endpoint", metavar="ENDPOINT")
    show = command(commands, "show", "one of them, with its history", _show)
    show.add_argument("endpoint", metavar="ENDPOINT")
    probe = command(commands, "probe", "send one of those that wait, whatever the circuit's state", _probe)
    probe.add_argument("endpoint", metavar="ENDPOINT")
    for one in (listing, show, hold, release, probe):
        target_options(one)


def _list(options: argparse.Namespace) -> None:
    found = ask(options, LIST_CIRCUITS, ListCircuits())
    if options.json:
        print_json(found)
        return
    rows = table("endpoint", "circuit", "until", "failing for", "opened", "why")
    now = datetime.now(UTC)
    for one in found.circuits:
        until = "released by a person" if one.held else f"in {age(one.retry_after)}" if one.retry_after else "-"
        failing = age((now - one.failing_since).total_seconds()) if one.failing_since else "-"
        why = on_one_line(one.why or ("" if one.held else "-"))
        rows.add_row(one.endpoint, _state(one), until, failing, str(one.opened), why)
    screen().print(rows)


def _show(options: argparse.Namespace) -> None:
    (one,) = ask(options, LIST_CIRCUITS, ListCircuits(options.endpoint)).circuits
    if options.json:
        print_json(one)
        return
    left = f", for {age(one.retry_after)} more" if one.retry_after else ""
    lines = [f"{one.endpoint}: {_state(one)}{left}{f': {on_one_line(one.why)}' if one.why else ''}"]
    if one.failing_since is not None:
        failed = "three or more sessions" if one.failing_sessions >= MAX_KEYS else f"sessions: {one.failing_sessions}"
        lines.append(f"nobody has got through since {_moment(one.failing_since)}; failed since: {failed}")
    if one.opened_first_at is not None and one.opened_last_at is not None:
        first, last = _moment(one.opened_first_at), _moment(one.opened_last_at)
        lines.append(f"it has opened {one.opened} times, first {first}, last {last}")
    lines += [f"{_moment(each.first_at)} to {_moment(each.last_at)}  {answers_of(each)}" for each in one.answers]
    sys.stdout.write("\n".join(lines) + "\n")


def _probe(options: argparse.Namespace) -> None:
    probed = ask(options, PROBE_CIRCUIT, ProbeCircuit(options.endpoint))
    if options.json:
        print_json(probed)
    else:
        sys.stdout.write(f"{options.endpoint}: {came_of(probed)}\n")
    if probed.outcome in ("failed", "not_begun"):
        raise SystemExit(1)


def came_of(probed: ProbedCircuit) -> str:
    """In one sentence."""
    circuit = probed.circuit
    match probed.outcome:
        case "nothing_waits":
            return "nothing waits that could be sent"
        case "all_is_sent":
            return f"the circuit is {_state(circuit)}, so all that is due is sent; see: sluice event {probed.event}"
        case "not_begun":
            look = f"sluice circuit show {circuit.endpoint}"
            return f"no relay has sent it within {PROBED_WITHIN:g}s; one may do so within a minute; see: {look}"
        case "failed":
            stays = f"for {age(circuit.retry_after)} more" if circuit.retry_after else ""
            return f"{on_one_line(probed.why or 'no answer')}; the circuit is {_state(circuit)} {stays}".rstrip()
        case "delivered" if circuit.held:
            return f"answered 2xx; it stays held open until: sluice circuit release {circuit.endpoint}"
        case "delivered":
            return "answered 2xx; probes go next, and all that waits follows when they are taken"


def _state(circuit: CircuitOfEndpoint) -> str:
    return f"held {circuit.state}" if circuit.held else circuit.state


def _moment(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def _hold(options: argparse.Namespace) -> None:
    name, state = options.endpoint, options.state
    held = ask(options, HOLD_CIRCUIT, HoldCircuit(name, state, options.why))
    means = "nothing is sent, nothing is lost" if state == "open" else "everything is sent, whatever comes of it"
    if held.changed:
        _tell(options, held, f"{name}: held {state}; {means}, until: sluice circuit release {name}")
    else:
        _tell(options, held, f"{name}: was held {state} already")


def _release(options: argparse.Namespace) -> None:
    name = options.endpoint
    released = ask(options, HOLD_CIRCUIT, HoldCircuit(name, None))
    if not released.changed:
        left = released.circuit.retry_after
        by_itself = f"; it is open by itself, for {age(left)} more; to try it now: sluice circuit probe {name}"
        _tell(options, released, f"{name}: was not held{by_itself if left else ''}")
    elif released.circuit.state == "closed":
        _tell(options, released, f"{name}: released; what comes of deliveries decides again")
    else:
        _tell(options, released, f"{name}: released; probes go first, and all that waits follows when they are taken")


def _tell(options: argparse.Namespace, held: HeldCircuit, line: str) -> None:
    if options.json:
        print_json(held)
    else:
        sys.stdout.write(f"{line}\n")
