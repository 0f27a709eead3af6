"""What the files of deploy/ say, held against what there is: commands, policies, secrets and the times of a stop."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from gateway.policies import Policies, load
from sluice.cli.main import whole_parser
from sluice.config import StorePolicy
from sluice.http.server import serving
from sluice.store import durability
from tests.ports import free_ports
from tests.sluice.store.store_servers import Server

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
POLICIES = DEPLOY / "policies" / "policies.yaml"
AT = "/etc/sluice/policies.yaml"
"""Where they are in a container."""
SESSION_MB = 400
"""Of a session in a browser, by docs/browser-workers.md."""
DRAINED = serving._DRAINED_WITHIN + 10.0
"""Seconds that a gateway takes to stop at most: its requests, and what they have left to be done."""
WORKER_LEFT = 60.0
"""Seconds in which a worker has given its sessions to others, by docs/workers.md."""


def names_of(secrets: Path) -> dict[str, str]:
    """What an example of a file with secrets sets, each with some value."""
    lines = [line for line in secrets.read_text().splitlines() if line and not line.startswith("#")]
    return {line.partition("=")[0]: "0123456789abcdef" * 4 for line in lines}


def policies(environment: Mapping[str, str]) -> Policies:
    """Raises PolicyError, also for a secret that the environment has not."""
    return load(POLICIES, environment=environment)


def refuse_unknown_command(arguments: Sequence[str]) -> None:
    """Fails where a command line of ours would not be understood, or names other policies."""
    options = whole_parser().parse_args(list(arguments))
    assert str(options.policies) == AT


def size(text: str) -> float:
    """Bytes of 5Gi, 5g or 1gb."""
    number, unit = re.fullmatch(r"(\d+)([KMG])i?b?", text, re.IGNORECASE).groups()  # type: ignore[union-attr]
    return int(number) * 1024.0 ** " KMG".index(unit.upper())


def keeps_the_promise(options: Sequence[str], folder: Path) -> None:
    """Starts a real Valkey with these options, and asks it as a gateway does at its start."""
    with free_ports() as find:
        server = Server(folder, find(), *options)
        server.start()
        try:
            asyncio.run(durability.check(StorePolicy(url=server.url, promise="second")))
        finally:
            server.kill()
