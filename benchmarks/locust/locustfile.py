"""A load test of a Sluice gateway, or of anything with its contract, with an oracle that checks every answer.

    pip install locust pyyaml
    export WHATSAPP_HMAC_SECRET=...      # the one the workers sign with
    locust -f benchmarks/locust/locustfile.py --headless -u 30 -t 30s --host http://127.0.0.1:8080

`--policies` names the file the gateway runs with (policies.yaml here, unless said otherwise): by its limits every
2xx and every 429 is judged. The exit code is 0 when all is well, 1 when something was over-admitted, more than 0.1 %
of the refusals were wrong, a refusal told a wait that was too short, any answer was 5xx or missing, or the 95th
percentile was above --p95; 2 when it could not start. What it sends is delivered like anything else: use it on a
deployment made for tests. docs/load-test.md.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import signing
from locust import events
from locust.runners import LocalRunner
from oracle import Oracle
from policies import NotReadable, Policies, read
from run import Run
from shape import SHAPES, Shape
from users import (
    AttackingAddress,
    Heartbeat,
    Lifecycle,
    Message,
    NoisySession,
    Patient,
    QrCode,
    Receipt,
    Send,
    Typing,
)
from verdict import verdict
from wire import can_send_from

__all__ = [
    "AttackingAddress",
    "Heartbeat",
    "Lifecycle",
    "Message",
    "NoisySession",
    "Patient",
    "QrCode",
    "Receipt",
    "Send",
    "Shape",
    "Typing",
]

_LOOPBACK = ("127.", "localhost")
_SECOND = "127.0.0.66"


@events.init_command_line_parser.add_listener
def options(parser: Any) -> None:
    add = parser.add_argument_group("Sluice").add_argument
    add("--policies", metavar="FILE", default="policies.yaml", help="what the gateway runs with; '' to judge nothing")
    add("--hmac-secret", metavar="env:NAME", default="env:WHATSAPP_HMAC_SECRET", help="of the webhooks; or file:PATH")
    add("--shape", choices=SHAPES, default="steady", help="steady, spike or soak, over --run-time")
    add("--pace", type=float, default=1.0, metavar="N", help="times as many requests of each user")
    add("--p95", type=float, default=1000.0, metavar="MS", help="most it may be, from when a request was due")
    add("--send-to", default="", metavar="A,B", help="sessions to send messages by (default: one that nobody has)")
    add("--attack-from", metavar="ADDRESS", help="of this machine (127.0.0.66 when the gateway is on loopback)")


@events.init.add_listener
def start(environment: Any, runner: Any, **_: Any) -> None:
    wishes = environment.parsed_options
    if not isinstance(runner, LocalRunner):
        _refuse("the oracle must see every request: run one locust process, without --master, --worker or --processes")
    if not environment.host:
        _refuse("name the gateway: --host http://127.0.0.1:8080")
    if wishes.pace <= 0:
        _refuse("--pace must be more than 0")
    try:
        policies = read(Path(wishes.policies)) if wishes.policies else Policies((), ())
        secret = signing.secret_from(wishes.hmac_secret)
    except NotReadable as error:
        _refuse(f"{error}; name the gateway's own with --policies, or write --policies '' to judge nothing")
    except signing.NoSecret as error:
        _refuse(f"{error} (--hmac-secret)")
    environment.load = Run(
        policies=policies,
        oracle=Oracle(policies.limits),
        secret=secret,
        pace=wishes.pace,
        send_to=tuple(name for name in wishes.send_to.split(",") if name),
        attack_from=_attacker(environment.host, wishes.attack_from),
    )


@events.quitting.add_listener
def finish(environment: Any, **_: Any) -> None:
    found = verdict(environment.load, environment.parsed_options.p95 / 1000)
    sys.stderr.write(f"\n{found}")
    environment.process_exit_code = found.code


def _attacker(host: str, wish: str | None) -> str | None:
    """On loopback a client may come from any address of 127.0.0.0/8 (of Linux; elsewhere it has no second one)."""
    if wish and not can_send_from(wish):
        _refuse(f"this machine has no address {wish} to send from (--attack-from)")
    if wish or not (urlsplit(host).hostname or "").startswith(_LOOPBACK):
        return wish
    return _SECOND if can_send_from(_SECOND) else None


def _refuse(why: str) -> NoReturn:
    sys.stderr.write(f"locust: {why}\n")
    sys.exit(2)
