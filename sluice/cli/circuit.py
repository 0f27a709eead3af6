"""`sluice circuit`: the circuits of the endpoints, looked at, held open or closed by a person, and released."""

from __future__ import annotations

import argparse
import sys

from sluice.cli.options import command, subcommands, target_options
from sluice.cli.screen import print_json, screen, table
from sluice.cli.target import ask
from sluice.console.actions.circuits import HeldCircuit, HoldCircuit, ListCircuits
from sluice.console.messages import age
from sluice.console.operations import HOLD_CIRCUIT, LIST_CIRCUITS
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
    for one in (listing, hold, release):
        target_options(one)


def _list(options: argparse.Namespace) -> None:
    found = ask(options, LIST_CIRCUITS, ListCircuits())
    if options.json:
        print_json(found)
        return
    rows = table("endpoint", "circuit", "until", "why")
    for one in found.circuits:
        until = "released by a person" if one.held else f"in {age(one.retry_after)}" if one.retry_after else "-"
        state = f"held {one.state}" if one.held else one.state
        rows.add_row(one.endpoint, state, until, on_one_line(one.why or ("" if one.held else "-")))
    screen().print(rows)


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
        _tell(options, released, f"{name}: was not held")
    elif released.circuit.state == "closed":
        _tell(options, released, f"{name}: released; what comes of deliveries decides again")
    else:
        _tell(options, released, f"{name}: released; probes go first, and all that waits follows when they are taken")


def _tell(options: argparse.Namespace, held: HeldCircuit, line: str) -> None:
    if options.json:
        print_json(held)
    else:
        sys.stdout.write(f"{line}\n")
