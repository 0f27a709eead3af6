"""Options that several commands have, and how the values of options are read."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sluice.config.problems import Malformed, quoted
from sluice.config.units import duration, listen, rate as rate_of

if TYPE_CHECKING:
    from sluice.config import Rate

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

POLICIES = Path("policies.yaml")
Run = Callable[[argparse.Namespace], int | None]
T = TypeVar("T")


def subcommands(parser: argparse.ArgumentParser) -> Commands:
    return parser.add_subparsers(required=True, metavar="COMMAND")


def command(commands: Commands, name: str, help_: str, run: Run) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=help_, description=help_)
    parser.set_defaults(run=run)
    return parser


def policies_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--policies", type=Path, default=POLICIES, metavar="FILE", help="default: policies.yaml")


def json_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def target_options(parser: argparse.ArgumentParser) -> None:
    """Of commands that look into a running Sluice, here or elsewhere."""
    parser.add_argument("--policies", type=Path, metavar="FILE", help="default: policies.yaml")
    parser.add_argument("--gateway", metavar="URL", help="ask this gateway over HTTP instead; needs --token-file")
    parser.add_argument(
        "--token-file", type=Path, metavar="FILE", help="holds the value of the gateway's console.token"
    )
    json_option(parser)


# --- values


def value_of(parse: Callable[[str], T]) -> Callable[[str], T]:
    """What reads an option by a parser of the policies."""
    return lambda text: _read(parse, text)


def seconds(text: str) -> float:
    return _read(duration, text)


def rate(text: str) -> Rate:
    return _read(rate_of, text)


def address(text: str) -> tuple[str, int]:
    found = _read(listen, text)
    return found.host, found.port


def _read(parse: Callable[[str], T], text: str) -> T:
    try:
        return parse(text)
    except Malformed as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def moment(text: str) -> datetime:
    """A moment, in UTC where it does not say otherwise, or so long ago."""
    try:
        return datetime.now(UTC) - timedelta(seconds=duration(text))
    except Malformed:
        pass
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{quoted(text)} is neither a moment nor so long ago; write 2026-01-31T12:00:00Z or 2h"
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def count(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{quoted(text)} is not a number; write 0, 1, 2 or more")
    return int(text)


def processes(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{quoted(text)} is not a number of processes; write 1, 2 or more")
    return int(text)


def ip(text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{quoted(text)} is not an address; write 203.0.113.7 or 2001:db8::1"
        ) from None


def header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise argparse.ArgumentTypeError(f"{quoted(text)} is not a header; write 'Name: value'")
    return name.strip(), value.strip()
